"""The command line: one file a command."""

from importlib import import_module

from foresee.cli.app import app, main

__all__ = ["app", "main"]

# Importing a command registers it; ``foresee --help`` lists them in this order.
for command in (
    "demo", "diagnose", "list", "generate", "inspect", "train", "evaluate", "compare", "study", "sweep", "report",
    "runs", "explore", "export", "bench",
):  # fmt: skip
    import_module(f"foresee.cli.{command}")
