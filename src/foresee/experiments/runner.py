"""Many runs by one call: checked first, each different one trained once, beside each other, continued when asked again.

The run folders are the only state. One run that fails is reported while the others go on; one whose worker is lost is
continued by another from its last checkpoint.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from typing_extensions import TypedDict, Unpack

from foresee.core.errors import ForeseeError, InUseError, RequestError
from foresee.core.plugins import refuse_while_loading
from foresee.experiments.engine import Engine, Job, LostWorkerError, Pending, make_engine
from foresee.experiments.machine import Size, estimate_memory
from foresee.training.loop import InterruptedTrainingError
from foresee.training.process import in_use, stop_signals
from foresee.training.progress import Progress, title
from foresee.training.records import read_reports
from foresee.training.run import Run, load
from foresee.training.settings import Settings

ATTEMPTS = 5
"""How often in a row a run's worker may be lost without having saved anything since the last time."""
TICK = 0.1
"""Seconds between looks at what goes on."""
STOP_SECONDS = 90.0


class FailedRunsError(ForeseeError):
    """Some runs failed; all others are finished."""

    def __init__(self, finished: Sequence[Run], failed: Mapping[Settings, ForeseeError]) -> None:
        self.finished, self.failed = list(finished), dict(failed)
        named = "; ".join(f"{title(settings)} ({settings.digest}): {error}" for settings, error in failed.items())
        others = ", the others are finished" if finished else ""
        super().__init__(f"{len(failed)} of {len(failed) + len(finished)} runs failed{others}: {named}")


class TrainingOptions(TypedDict, total=False):
    """How many runs are trained: options of every function that does.

    ``engine`` is ``local`` (the default: beside each other on this machine, one process and thread a core), ``ray``,
    ``slurm``, ``batched`` (all seeds and learning rates as one program), ``in-process`` or an ``Engine``; ``jobs``
    bounds how many runs an engine of that name has in training.
    """

    engine: str | Engine
    jobs: int | None
    progress: Progress | None


def run_all(settings: Sequence[Settings], root: str | Path = "runs", **how: Unpack[TrainingOptions]) -> list[Run]:
    """Trains every run that is not finished under ``root``, and gives all of them in the order of ``settings``.

    Raises ``RequestError`` where one of the runs cannot be, before any is trained; ``FailedRunsError`` once all others
    are finished; and ``InterruptedTrainingError`` on Ctrl-C and SIGTERM once all is saved. Calling it again continues.
    """
    refuse_while_loading()
    root, progress, engine = Path(root), how.get("progress") or Progress(), how.get("engine", "local")
    engine = make_engine(engine, jobs=how.get("jobs")) if isinstance(engine, str) else engine
    wanted = unique(settings)
    left = unfinished(wanted, root)
    # A damaged one is refused before anything is trained.
    finished = {each: load(root / each.digest) for each in wanted if is_finished(each, root)}
    failed: dict[Settings, ForeseeError] = {}
    with closing(progress):
        if left:
            progress.plan(engine.plan(left), len(wanted), len(wanted) - len(left))
            failed = Runner(left, root, engine, progress).run()
        runs = {each.digest: finished.get(each) or load(root / each.digest) for each in wanted if each not in failed}
        for run in runs.values():
            progress.done(run)
    if failed:
        raise FailedRunsError(list(runs.values()), {each: failed[each] for each in wanted if each in failed})
    return [runs[each.digest] for each in settings]


def unique(settings: Sequence[Settings]) -> list[Settings]:
    """Each run once, in the order of first appearance."""
    return list({each.digest: each for each in settings}.values())


def is_finished(settings: Settings, root: Path) -> bool:
    """Whether its folder under ``root`` holds the final measurements, which are written last."""
    return (root / settings.digest / "rows.jsonl").exists()


def state(settings: Settings, root: Path) -> str:
    """``finished``, ``in use`` (by a process that trains it now), ``begun`` or ``new``."""
    if is_finished(settings, root):
        return "finished"
    if in_use(root / settings.digest):
        return "in use"
    return "begun" if (root / settings.digest / "spec.json").exists() else "new"


def unfinished(settings: Sequence[Settings], root: Path) -> list[Job]:
    """What is left to train, each kind of run built once to see that it can be. Raises ``RequestError`` that names the
    run where it cannot."""
    memory: dict[tuple[object, ...], int] = {}
    checkpoints: dict[str, Size] = {}
    jobs: list[Job] = []
    for each in settings:
        if is_finished(each, root):
            continue
        if each.processes > 1:
            raise RequestError(f"{title(each)}: processes={each.processes} is for torchrun: {each.command}")
        # What decides whether a run can be built, and its size; not its seed, learning rate and the like.
        kind = (each.task, each.objective, each.backbone, each.backbone_digest, each.data, each.data_digest,
                each.batch, each.accumulate, each.recompute, each.test)  # fmt: skip
        if kind not in memory:
            try:
                memory[kind] = estimate_memory(each, checkpoints)
            except RequestError as error:
                raise RequestError(f"{title(each)}: {error}") from None
        jobs.append(Job(each, memory[kind]))
    return jobs


@dataclass
class _RunInTraining:
    """A run in training, and how far its folder said that it was."""

    job: Job
    folder: Path
    pending: Pending
    step: int
    saved: int

    def report(self, progress: Progress) -> None:
        """Passes on what was written since the last time; a run that was set back repeats what it had written."""
        for line, timing in read_reports(self.folder):
            if line["step"] > self.step:
                self.step = line["step"]
                progress.report(self.job.settings, line, timing)


@dataclass
class Runner:
    """The loop over jobs: what to start, what to wait for, what to continue, when to stop."""

    ready: list[Job]
    root: Path
    engine: Engine
    progress: Progress
    elsewhere: list[Job] = field(default_factory=list)
    """Runs that another process trains now."""
    training: list[_RunInTraining] = field(default_factory=list)
    losses: dict[str, int] = field(default_factory=dict)
    """How many workers of a run were lost in a row."""
    failed: dict[Settings, ForeseeError] = field(default_factory=dict)
    finished: int = 0

    def run(self) -> dict[Settings, ForeseeError]:
        """Trains all of it and gives what failed."""
        left = len(self.ready)
        try:
            with stop_signals() as stop:
                while self.ready or self.elsewhere or self.training:
                    if stop():
                        self._save_all()
                        raise InterruptedTrainingError(
                            f"stopped: {self.finished} of {left} runs that were left are finished, and those in "
                            f"training are saved in {self.root}; the same command continues"
                        )
                    self._start_ready()
                    if not any(each.pending.done() for each in self.training):
                        time.sleep(TICK)
                    self._look()
        finally:
            self.engine.close()
        return self.failed

    def _start_ready(self) -> None:
        back = [job for job in self.elsewhere if not in_use(self.root / job.settings.digest)]
        self.elsewhere = [job for job in self.elsewhere if job not in back]
        self.ready = [*back, *self.ready]
        for job in list(self.ready):
            folder = self.root / job.settings.digest
            if is_finished(job.settings, self.root):  # by another process meanwhile
                self.ready.remove(job)
                self._end(job, None)
            elif in_use(folder):
                self.ready.remove(job)
                self._wait_for(job)
            elif self.engine.has_room(job, len(self.training)):
                self.ready.remove(job)
                written = read_reports(folder)
                step = written[-1][0]["step"] if written else 0
                self.progress.start(job.settings, step)
                pending = self.engine.start(job, self.root)
                self.training.append(_RunInTraining(job, folder, pending, step, _saved_at(folder)))
        if not self.ready and not self.elsewhere:
            self.engine.release_idle()

    def _look(self) -> None:
        for each in list(self.training):
            ended = each.pending.done()
            each.report(self.progress)
            if ended:
                self.training.remove(each)
                error = each.pending.exception()
                self._hear(each, None if error is None else self.engine.explain(error))

    def _hear(self, ended: _RunInTraining, error: BaseException | None) -> None:
        job, settings = ended.job, ended.job.settings
        if error is None and not is_finished(settings, self.root):
            error = ForeseeError(f"{ended.folder} is empty: {self.root} must lie on storage that all machines share")
        if isinstance(error, InUseError):
            self._wait_for(job)
        elif isinstance(error, LostWorkerError | InterruptedTrainingError | KeyboardInterrupt):
            further = _saved_at(ended.folder) > ended.saved
            losses = self.losses[settings.digest] = 1 if further else self.losses.get(settings.digest, 0) + 1
            why = str(error) or "it was interrupted"
            if losses < ATTEMPTS:
                self.progress.note(settings, f"{why}; another continues it from what was saved")
                self.ready.insert(0, job)
            else:
                self._end(job, ForeseeError(f"{losses} times in a row without getting further, {why}"))
        elif error is None or isinstance(error, ForeseeError):
            self._end(job, error)
        else:
            self._end(job, ForeseeError(f"{type(error).__name__}: {error}; what was saved is kept"))

    def _wait_for(self, job: Job) -> None:
        self.elsewhere.append(job)
        self.progress.note(job.settings, "another process trains it; waiting for that")

    def _end(self, job: Job, failure: ForeseeError | None) -> None:
        if failure is None:
            self.finished += 1
        else:
            self.failed[job.settings] = failure
        self.progress.end(job.settings, failure)

    def _save_all(self) -> None:
        self.engine.stop()
        until = time.monotonic() + STOP_SECONDS
        while any(not each.pending.done() for each in self.training) and time.monotonic() < until:
            time.sleep(TICK)
        self.finished += sum(is_finished(each.job.settings, self.root) for each in self.training)


def _saved_at(folder: Path) -> int:
    """When the run last saved a state to continue from; 0 where it never did."""
    saved = (folder / "checkpoint" / "latest.safetensors", folder / "model.safetensors")
    return max((path.stat().st_mtime_ns for path in saved if path.exists()), default=0)
