"""``foresee explore``."""

import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.options import DataMoved, RunArgument, Runs


def command(
    run: RunArgument,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 for any free port.")] = 0,
    runs: Runs = Path("runs"),
    data: DataMoved = None,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address and open nothing.")] = False,
) -> None:
    """Opens a page on this machine on which a trained model can be tried, step by step."""
    from foresee.explore import Server, Session
    from foresee.training.run import load

    with Server(Session(load(run, runs, data)), port) as server:
        try:
            print(server.url, flush=True)
            print("The page is for this machine alone and is there until this is stopped (Ctrl-C).", file=sys.stderr)
            if not no_browser:
                webbrowser.open(server.url)
            server.serve_forever()
        except KeyboardInterrupt:  # the way to end it
            print(file=sys.stderr)
