"""What every room stands on: registries, spec strings, seeds, batches, vocabularies, errors and files."""
