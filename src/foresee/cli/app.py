"""The program: its commands' home, and its exit status. 0 done, 1 the work failed, 2 the request was wrong."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import typer

from foresee.core.errors import ForeseeError

# Typer carries its own copy of click and exports only the leaves of its exceptions; this is their common base.
ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

app = typer.Typer(
    help="Shows where next-token training fails to look ahead, why, and which training objective repairs it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def main() -> None:
    """Runs the command line; every expected failure is one sentence on standard error."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(status())


def status() -> int:
    """Runs the command that the program was started with, and gives its exit status."""
    try:
        # Not app(): it would turn Ctrl-C into status 130 and a closed pipe into status 1 before they come here.
        command = typer.main.get_command(app)
        with command.make_context("foresee", sys.argv[1:] or ["--help"]) as context:
            command.invoke(context)
        sys.stdout.flush()
    except typer.Exit as done:
        return done.exit_code
    except ForeseeError as error:
        return failed(str(error), error.status)
    except ClickException as error:
        return failed(error.format_message(), 2)
    except (KeyboardInterrupt, typer.Abort):
        return failed("stopped", 1)
    except BrokenPipeError:
        # The reader went away, as in `foresee generate ... | head`; Python would complain of it when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return failed(f"{error.filename or 'standard output'} could not be read or written: {error.strerror}", 1)
    return 0


def failed(sentence: str, exit_status: int) -> int:
    """Says what went wrong."""
    print(f"foresee: {sentence}", file=sys.stderr)
    return exit_status
