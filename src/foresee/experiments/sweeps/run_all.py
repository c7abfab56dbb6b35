"""Many runs by one call: checked first, each different one trained once, one that fails reported while others go on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from foresee.core.errors import ForeseeError
from foresee.experiments.sweeps.engine import Ending, Engine, Job
from foresee.experiments.sweeps.local import Local
from foresee.experiments.sweeps.progress import SweepProgress
from foresee.experiments.sweeps.size import checked
from foresee.training.guard import in_use
from foresee.training.progress import title
from foresee.training.run import Run, load
from foresee.training.settings import Settings


class SweepError(ForeseeError):
    """Some runs of a sweep failed; all others are finished."""

    def __init__(self, finished: Sequence[Run], failed: Sequence[Ending], runs: int) -> None:
        """``finished`` and ``failed`` are in the order of the ``runs`` different runs that were asked for."""
        self.finished, self.failed = list(finished), list(failed)
        named = "; ".join(f"{title(each.spec)} ({each.spec.digest}): {each.failure}" for each in failed)
        others = ", the others are finished" if finished else ""
        super().__init__(f"{len(failed)} of {runs} runs failed{others}: {named}")


def different(specs: Sequence[Settings]) -> list[Settings]:
    """The specs without repetitions, in the order of their first appearance."""
    return list({spec.digest: spec for spec in specs}.values())


def is_finished(spec: Settings, root: Path) -> bool:
    """Whether its directory under ``root`` holds the final measurements, which are written last."""
    return (root / spec.digest / "rows.jsonl").exists()


def state(spec: Settings, root: Path) -> str:
    """``finished``, ``in use`` (by a process that trains it now), ``begun`` or ``new``."""
    directory = root / spec.digest
    if is_finished(spec, root):
        return "finished"
    if in_use(directory):
        return "in use"
    return "begun" if (directory / "spec.json").exists() else "new"


def jobs_of(specs: Sequence[Settings], root: Path) -> list[Job]:
    """What is left to train of different specs. Raises ``RequestError`` where one of them cannot be run."""
    left = [spec for spec in specs if not is_finished(spec, root)]
    return [Job(spec, size, len(specs)) for spec, size in zip(left, checked(left), strict=True)]


def run_all(
    specs: Sequence[Settings],
    root: str | Path = "runs",
    *,
    engine: Engine | None = None,
    progress: SweepProgress | None = None,
) -> list[Run]:
    """Trains every run that is not finished under ``root``, and gives all of them in the order of ``specs``.

    By default ``engine`` is ``Local()``: beside each other, within this machine's cores and memory. All specs are
    checked before any is trained, and equal ones are trained once. Raises ``RequestError`` where a spec cannot be run,
    ``SweepError`` naming the runs that failed once all others are done, and ``InterruptedSweepError`` on Ctrl-C and
    SIGTERM once all is saved; calling it again continues.
    """
    root, engine, progress = Path(root), engine or Local(), progress or SweepProgress()
    wanted = different(specs)
    jobs = jobs_of(wanted, root)
    failed: dict[str, Ending] = {}
    try:
        if jobs:
            progress.plan(engine.plan(jobs), len(wanted), len(wanted) - len(jobs))
            for ending in engine.run(jobs, root, progress):
                progress.ended(ending.spec, ending.failure)
                if ending.failure is not None:
                    failed[ending.spec.digest] = ending
        runs = {spec.digest: load(root / spec.digest) for spec in wanted if spec.digest not in failed}
        for run in runs.values():
            progress.done(run)
    finally:
        progress.close()
    if failed:
        in_order = [failed[spec.digest] for spec in wanted if spec.digest in failed]
        raise SweepError(list(runs.values()), in_order, len(wanted))
    return [runs[spec.digest] for spec in specs]
