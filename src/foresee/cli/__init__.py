"""The command line: one file a command, imported when it is asked for."""

from foresee.cli.app import main

__all__ = ["main"]
