"""One run, from its settings to its folder: data, the loop, checkpoints, measurement."""
