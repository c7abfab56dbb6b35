"""``foresee show``."""

from typing import Annotated

import typer

from foresee.cli.options import AsJson, complete_specs, emit, output


def command(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="A task, objective, backbone, metric, study or preset.",
            autocompletion=complete_specs("tasks", "objectives", "backbones", "metrics", "studies"),
        ),
    ],
    as_json: AsJson = False,
) -> None:
    """Shows one thing with all its options, their values, its source and an example."""
    from foresee.cli.display import show_entry
    from foresee.experiments.catalogue import find_entries

    found = find_entries(name)
    if as_json:
        emit({"name": name, "entries": [each.json() for each in found]})
    else:
        for each in found:
            show_entry(each, output())
