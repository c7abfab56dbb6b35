"""The program: its commands by name, and its exit status. 0 done, 1 the work failed, 2 the request was wrong."""

import ast
import io
import os
import signal
import sys
import warnings
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import foresee
from foresee.cli.options import add_options
from foresee.core.errors import ForeseeError, show_warning

# Typer carries its own copy of click and exports only the leaves of its exceptions; this is their common base.
ClickException: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")

COMMANDS = (
    "demo", "list", "show", "generate", "train", "evaluate", "compare", "report", "runs", "explore", "export", "study",
    "sweep", "inspect", "diagnose", "new", "bench",
)  # fmt: skip
"""In the order of ``foresee --help``. The file of each defines a function ``command``, whose docstring is its help."""


class Commands(TyperGroup):
    """Imports the file of a command when that command is asked for, so that help comes at once."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name)(add_options(import_module(f"foresee.cli.{cmd_name}").command))
        return typer.main.get_command(single)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary(name)) for name in COMMANDS])


def summary(name: str) -> str:
    """The first paragraph of a command's docstring, read without importing the command."""
    tree = ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))
    (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "command")
    return (ast.get_docstring(function) or "").partition("\n\n")[0].replace("\n", " ")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"foresee {foresee.__version__}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Shows where next-token training fails to look ahead, why, and which training objective repairs it."""


def _make_program() -> Any:
    app = typer.Typer(cls=Commands, rich_markup_mode=None, no_args_is_help=True,
                      context_settings={"help_option_names": ["-h", "--help"]})  # fmt: skip
    app.callback()(_program)
    made: Any = typer.main.get_command(app)
    made.commands = dict.fromkeys(COMMANDS)  # for their names, which a misspelt one is compared with
    return made


program = _make_program()


def main() -> None:
    """Runs the command line; every expected failure is one sentence on standard error."""
    if "_FORESEE_COMPLETE" in os.environ:  # a shell asks what a word could become
        program.main(prog_name="foresee")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    prepare_streams()
    with warnings.catch_warnings():
        warnings.showwarning = show_warning
        done = status()
        ignore_stops()
        sys.exit(done)


def ignore_stops() -> None:
    """Leaves what is over alone: a second Ctrl-C or SIGTERM would end in a traceback."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)


def prepare_streams() -> None:
    """Lets output go on where a stream is closed, and where a terminal's encoding lacks a character."""
    for name in ("stdout", "stderr"):
        stream: Any = getattr(sys, name)
        if stream is None:  # closed by who started this
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def status() -> int:
    """Runs the command that the program was started with, and gives its exit status."""
    try:
        # Not program(): it would turn Ctrl-C into status 130 and a closed pipe into status 1 before they come here.
        with program.make_context("foresee", sys.argv[1:] or ["--help"]) as context:
            program.invoke(context)
        sys.stdout.flush()
    except typer.Exit as done:
        return done.exit_code
    except ForeseeError as error:
        return failed(str(error), error.status)
    except ClickException as error:
        return failed(error.format_message().replace("Value error, ", ""), 2)
    except (KeyboardInterrupt, typer.Abort):
        ignore_stops()
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
