"""``foresee demo``."""

import time
from pathlib import Path
from typing import Annotated

import typer

from foresee.cli.options import Jobs, output


def command(
    out: Annotated[
        Path, typer.Option("-o", "--out", file_okay=False, help="The folder for its runs and its page.")
    ] = Path("foresee-demo"),
    jobs: Jobs = None,
) -> None:
    """Shows the failure and its cures in a few minutes: next-token, reversed, belief-state and teacherless training."""
    from foresee.cli.display import show_findings
    from foresee.experiments.demo import choose_pictured, demo
    from foresee.report import report, write_picture
    from foresee.training.tracking import show_progress

    began = time.perf_counter()
    runs = demo(out / "runs", jobs=jobs, progress=show_progress())
    show_findings(runs, output())
    page = report(*runs, out=out / "report.html", title="Where next-token training fails to look ahead")
    write_picture(choose_pictured(runs), out / "picture.svg")
    output(soft_wrap=True).print(f"{time.perf_counter() - began:.0f} s. The page with pictures: {page}")
