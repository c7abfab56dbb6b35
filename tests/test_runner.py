"""Many runs at once: what is started when, what is continued, and what stays when workers or the runner are ended."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import tiny_checkpoints
import torch
from refusals import refused
from scripted_worker import (
    BABBLES,
    DIES,
    DIES_ONCE,
    FAILS,
    FINISHES,
    GETS_ON,
    IN_USE_ONCE,
    LOST,
    RAISES,
    SLOW,
    Scripted,
    starts,
)  # fmt: skip
from tiny import QUICK, outcome, tiny

from foresee.backbones.hf import loading
from foresee.core.errors import ForeseeError, RequestError
from foresee.experiments.cluster import Slurm
from foresee.experiments.engine import InProcess, Job, Pending, make_engine
from foresee.experiments.machine import estimate_memory
from foresee.experiments.pool import SAVING_SECONDS, WorkerPool
from foresee.experiments.runner import FailedRunsError, Runner, run_all, state, unfinished
from foresee.training import batched, loop
from foresee.training.loop import InterruptedTrainingError, train
from foresee.training.process import in_use, locked
from foresee.training.progress import Progress
from foresee.training.records import Report, Timing
from foresee.training.settings import Settings
from foresee.training.step import Training

MIB, GIB = 1 << 20, 1 << 30


class Heard(Progress):
    """Notes everything."""

    def __init__(self) -> None:
        self.notes: list[tuple[int, str]] = []

    def start(self, settings: Settings, step: int) -> None:
        self.notes.append((settings.seed, f"starts at {step}"))

    def note(self, settings: Settings, text: str) -> None:
        self.notes.append((settings.seed, text))

    def of(self, seed: int) -> list[str]:
        return [text for each, text in self.notes if each == seed]


@pytest.fixture(scope="module")
def asked() -> Settings:
    return tiny(**QUICK)


def job(settings: Settings, seed: int, memory: int = MIB) -> Job:
    return Job(settings.replace(seed=seed), memory)


def trained(
    settings: Settings, root: Path, *seeds: int, progress: Progress | None = None, **options: Any
) -> dict[int, ForeseeError | None]:
    """What came of scripted runs, by seed."""
    jobs = [job(settings, seed) for seed in seeds]
    failed = Runner(jobs, root, Scripted(**options), progress or Heard()).run()
    return {each.settings.seed: failed.get(each.settings) for each in jobs}


# Workers that end in every way ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_failures_are_reported_and_the_others_go_on(asked: Settings, tmp_path: Path) -> None:
    heard = Heard()
    found = trained(asked, tmp_path, RAISES, FAILS, FINISHES, LOST, progress=heard, jobs=1)
    assert found.pop(FINISHES) is None
    assert str(found[FAILS]) == "the loss is nan"
    assert str(found[RAISES]) == "ArithmeticError: a defect; what was saved is kept"
    assert "must lie on storage that all machines share" in str(found[LOST])
    assert all(type(failure) is ForeseeError for failure in found.values())
    assert all(len(heard.of(seed)) == 1 for seed in found), "a failure that says what it is will be the same next time"


def test_a_worker_that_is_killed_is_replaced(asked: Settings, tmp_path: Path) -> None:
    heard = Heard()
    assert trained(asked, tmp_path, DIES_ONCE, progress=heard) == {DIES_ONCE: None}
    assert [text for text in heard.of(DIES_ONCE) if "killed" in text and "another continues it" in text]
    first, second = starts(tmp_path, DIES_ONCE)
    assert first[0] != second[0]


def test_a_worker_that_is_killed_between_two_runs_is_replaced(asked: Settings, tmp_path: Path) -> None:
    engine = Scripted(jobs=1)
    try:
        first = engine.start(job(asked, FINISHES), tmp_path)
        assert isinstance(first, Future)
        first.result()
        ((killed, _),) = starts(tmp_path, FINISHES)
        os.kill(int(killed), signal.SIGKILL)
        while is_alive(int(killed)):  # until the pool has seen it and waited for it
            time.sleep(0.01)
        second = engine.start(job(asked, FINISHES), tmp_path)
        assert isinstance(second, Future)
        second.result()
        assert starts(tmp_path, FINISHES)[1][0] != killed
    finally:
        engine.close()


@pytest.mark.slow
def test_a_run_whose_workers_die_without_getting_further_is_given_up(asked: Settings, tmp_path: Path) -> None:
    """One that gets further each time is not."""
    found = trained(asked, tmp_path, DIES, FINISHES, GETS_ON, jobs=2)
    assert (found[FINISHES], found[GETS_ON]) == (None, None)
    assert str(found[DIES]).startswith("5 times in a row without getting further, its process was killed")
    assert [len(starts(tmp_path, each)) for each in (DIES, GETS_ON)] == [5, 8]


@pytest.mark.parametrize("threads", [3, pytest.param(None, marks=pytest.mark.slow)])
def test_one_worker_serves_runs_of_one_size_and_no_others(
    asked: Settings, tmp_path: Path, threads: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a worker prints is not a result."""
    alike = [job(asked, FINISHES), job(asked.replace(lr=0.5), FINISHES)]
    jobs = [*alike, job(asked, BABBLES, 2 * MIB)]
    assert not Runner(jobs, tmp_path, Scripted(jobs=1, threads=threads), Heard()).run()
    (first, second), (other,) = starts(tmp_path, FINISHES), starts(tmp_path, BABBLES)
    assert first == second
    assert first[0] != other[0]
    assert {first[1], other[1]} == {str(threads or 1)}
    assert capfd.readouterr() == ("", "for standard error\nforesee: warning: a file is not read\n")


def test_engines_by_name_and_what_is_wrong_about_them() -> None:
    assert isinstance(make_engine("in-process"), InProcess)
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: make_engine("locale"), "unknown engine 'locale': did you mean 'local'"),
        (lambda: make_engine("local", address="10.0.0.1:6379"), "--address is that of a Ray cluster; give --engine"),
        (lambda: make_engine("ray", slurm=["partition=gpu"]), "give --engine slurm with it"),
        (lambda: WorkerPool(jobs=0), "jobs=0 must be at least 1"),
        (lambda: WorkerPool(threads=0), "threads=0 must be at least 1"),
    ]
    for call, said in wrong:
        with refused(said):
            call()


@pytest.mark.parametrize(
    ("option", "message"),
    [("partition", "write an option and its value"), ("nonsense=3", "nonsense"), ("timeout_min=x", "timeout_min")],
)
def test_a_wrong_option_of_slurm_is_one_sentence(option: str, message: str) -> None:
    pytest.importorskip("submitit")
    with refused(message):
        Slurm(options=[option], cluster="local")


# Other processes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("finishes", [True, False])
def test_a_run_of_another_process_is_waited_for(asked: Settings, tmp_path: Path, finishes: bool) -> None:
    folder = tmp_path / job(asked, FINISHES).settings.digest
    folder.mkdir()
    lock = (folder / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert in_use(folder)
    assert state(job(asked, FINISHES).settings, tmp_path) == "in use"

    class LetsGo(Heard):
        def note(self, settings: Settings, text: str) -> None:
            assert starts(tmp_path, FINISHES) == []
            assert "another process trains it" in text
            if finishes:
                (folder / "rows.jsonl").touch()
            lock.close()

    assert trained(asked, tmp_path, FINISHES, progress=LetsGo()) == {FINISHES: None}
    assert len(starts(tmp_path, FINISHES)) == (not finishes)


def test_a_worker_that_comes_second_leaves_the_run_to_the_first(asked: Settings, tmp_path: Path) -> None:
    heard = Heard()
    assert trained(asked, tmp_path, IN_USE_ONCE, progress=heard) == {IN_USE_ONCE: None}
    assert heard.of(IN_USE_ONCE) == ["starts at 0", "another process trains it; waiting for that", "starts at 0"]


def test_a_lock_is_seen_and_leaves_no_trace(tmp_path: Path) -> None:
    assert not in_use(tmp_path / "nothing")
    with locked(tmp_path):
        assert in_use(tmp_path)
    assert not in_use(tmp_path)


# Stopping -------------------------------------------------------------------------------------------------------------


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class Stops(Progress):
    """Signals to this process at the first report."""

    def __init__(self, *numbers: signal.Signals) -> None:
        self.numbers = numbers

    def report(self, settings: Settings, line: Report, timing: Timing) -> None:
        for number in self.numbers:
            os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM])
def test_asked_to_stop_it_has_every_worker_save(asked: Settings, tmp_path: Path, number: signal.Signals) -> None:
    with pytest.raises(InterruptedTrainingError, match=r"^stopped: 0 of 2 runs that were left are finished"):
        trained(asked, tmp_path, SLOW, FINISHES, progress=Stops(number), jobs=1)
    assert (tmp_path / job(asked, SLOW).settings.digest / "saved").exists()
    assert starts(tmp_path, FINISHES) == []
    assert not is_alive(int(starts(tmp_path, SLOW)[0][0]))


def test_interrupted_twice_it_ends_its_workers_at_once(asked: Settings, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        trained(asked, tmp_path, SLOW, progress=Stops(signal.SIGINT, signal.SIGINT))
    assert not is_alive(int(starts(tmp_path, SLOW)[0][0]))


DROPS_ONE_INTERRUPT = """
import sys, time

class Slow:
    def __del__(self):
        print("finalising", file=sys.stderr, flush=True)
        time.sleep(600)

Slow()
"""
LEADS = """
import sys
from pathlib import Path
from tiny import tiny
import foresee.experiments.engine as engine
from foresee.experiments.runner import run_all
engine.loaded_plugin_files = lambda: [Path(each) for each in sys.argv[2:]]
run_all([tiny(steps=1_000_000, eval_every=5)], sys.argv[1])
"""


@pytest.mark.parametrize("drops", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_worker_saves_and_ends_when_the_process_that_leads_is_killed(tmp_path: Path, drops: bool) -> None:
    """Also where Python drops the first request to stop, as it does in a finaliser. The script has no guard."""
    script, plugin = tmp_path / "leads.py", tmp_path / "plugin.py"
    script.write_text(LEADS)
    plugin.write_text(DROPS_ONE_INTERRUPT)
    argv = [sys.executable, str(script), str(tmp_path / "runs"), *([str(plugin)] if drops else [])]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}  # where ``tiny`` lies
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True, env=environment) as leads:
        assert leads.stderr is not None
        if drops:
            assert leads.stderr.readline() == "finalising\n"
        else:
            while not list((tmp_path / "runs").glob("*/metrics.jsonl")):
                assert leads.poll() is None
                time.sleep(0.05)
        leads.kill()
        leads.stderr.read()  # ends with the last process that may write to it
    until = time.monotonic() + SAVING_SECONDS
    while any(map(in_use, (tmp_path / "runs").glob("*"))) and time.monotonic() < until:
        time.sleep(0.05)
    assert drops or list((tmp_path / "runs").glob("*/checkpoint/latest.safetensors"))


# Many runs by one call ------------------------------------------------------------------------------------------------


def test_a_real_worker_gives_the_bytes_of_train_alone(tmp_path: Path) -> None:
    asked = [tiny(objective, **QUICK, seed=seed) for objective, seed in (("next-token", 1), ("reversed", 0)) * 2][:3]
    runs = run_all(asked, tmp_path / "many", jobs=1)
    assert [run.spec for run in runs] == asked
    assert sorted(path.name for path in (tmp_path / "many").iterdir()) == sorted({each.digest for each in asked})
    for each in asked[:2]:
        assert outcome(tmp_path / "many" / each.digest) == outcome(train(each, tmp_path / "alone").dir)

    class Refuses(InProcess):
        def start(self, job: Job, root: Path) -> Pending:
            raise AssertionError("all of it is finished")

    assert [run.rows for run in run_all(asked, tmp_path / "many", engine=Refuses())] == [run.rows for run in runs]


def test_all_of_it_is_checked_before_any_of_it_is_trained(tmp_path: Path) -> None:
    short = tiny(**QUICK, backbone="transformer:layers=1,width=32,heads=2,context=8")
    with pytest.raises(RequestError, match=r"next-token on path-star, seed 0: .* positions, but backbone"):
        run_all([tiny(**QUICK), short], tmp_path, engine="in-process")
    assert list(tmp_path.iterdir()) == []


# What is chosen -------------------------------------------------------------------------------------------------------


def pool(cores: int, free: int, **options: Any) -> WorkerPool:
    made = WorkerPool(**options)
    made.cores, made.free = cores, free
    return made


@pytest.mark.parametrize(
    ("made", "memory", "running", "fits"),
    [
        (pool(2, 4), 9, 0, True),  # alone, any run fits
        (pool(2, 4), 4, 1, True),
        (pool(2, 4), 5, 1, False),  # not the memory
        (pool(2, 4), 1, 2, False),  # not the cores
        (pool(1, 4, jobs=2), 1, 1, True),  # whoever names a number decides
        (pool(4, 4, jobs=2), 1, 2, False),
        (pool(4, 4, threads=2), 1, 2, False),
    ],
)
def test_room_is_cores_and_memory(asked: Settings, made: WorkerPool, memory: int, running: int, fits: bool) -> None:
    assert made.has_room(Job(asked, memory), running) is fits


@pytest.mark.parametrize(
    ("jobs", "working", "fits"),
    [
        (None, ["0"], True),  # the other is free
        (None, ["0", "1"], False),
        (None, ["0", ""], True),  # one of them needs no GPU
        (4, ["0", "1"], True),  # whoever names a number has them shared
        (2, ["0", "1"], False),
    ],
)
def test_a_gpu_is_one_runs_unless_more_jobs_are_asked_for(
    asked: Settings, jobs: int | None, working: list[str], fits: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = pool(8, 8, jobs=jobs)
    made.gpus = ["0", "1"]
    made._workers = [Mock(kind=(1, gpu), run=Mock(done=lambda: False)) for gpu in working]
    cuda = asked.model_copy(update={"device": "cuda"})
    assert made.has_room(Job(cuda, 1), len(working)) is fits
    # They are shared evenly.
    monkeypatch.setattr("foresee.experiments.pool.ProcessPoolExecutor", Mock())
    made._workers = []
    for seed in range(4):
        made.start(Job(cuda.model_copy(update={"seed": seed}), 1), tmp_path)
        made._workers[-1].run = Mock(done=lambda: False)
    assert [worker.kind[1] for worker in made._workers] == ["0", "1", "0", "1"]


def test_the_plan_says_how_it_was_chosen_and_estimates_grow_with_what_they_depend_on(asked: Settings) -> None:
    jobs = [job(asked, seed, GIB) for seed in range(3)]
    assert pool(2, 4 * GIB).plan(jobs) == (
        "2 runs at a time with 1 thread each: 2 cores usable, 4.0 GiB free, up to 1.0 GiB a run (estimated)"
    )
    assert pool(8, GIB, threads=2).plan(jobs).startswith("1 run at a time with 2 threads each")
    for larger in (tiny(batch=64), tiny(backbone="transformer:layers=2,width=64,heads=2"), tiny(test=2_000_000)):
        assert estimate_memory(larger) > estimate_memory(tiny())


def test_a_checkpoint_is_loaded_once_for_all_that_is_trained_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = f"hf:{tiny_checkpoints.save(tmp_path / 'checkpoint')},symbols=first"
    asked = [tiny(objective, backbone=backbone, batch=6) for objective in ("next-token", "teacherless", "belief-state")]
    each = [estimate_memory(spec) for spec in asked]
    counted = Mock(wraps=loading.load_model)
    monkeypatch.setattr(loading, "load_model", counted)
    jobs = unfinished(asked, tmp_path / "runs")
    assert counted.call_count == 1
    assert [made.memory for made in jobs] == pytest.approx(each, rel=0.02)
    with pytest.raises(RequestError, match="needs 277 positions, but"):
        unfinished([*asked, tiny("next-token", "path-star:degree=2,length=40,nodes=90,goals=one", backbone)], tmp_path)
    with pytest.raises(RequestError, match="heads"):
        unfinished([*asked, tiny("multi-token:heads=0", backbone=backbone)], tmp_path)


def test_what_cannot_be_is_refused_before_anything_is_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="processes=2 is for torchrun"):
        unfinished([tiny(), tiny(processes=2)], tmp_path)
    damaged, other = tiny(**QUICK), tiny(seed=1, **QUICK)
    run_all([damaged], tmp_path, engine="in-process")
    (tmp_path / damaged.digest / "rows.jsonl").write_text("no row")
    monkeypatch.setattr(loop, "train_steps", None)  # whatever would train now fails
    with pytest.raises(RequestError, match="is damaged"):
        run_all([other, damaged], tmp_path, engine="in-process")


@pytest.mark.parametrize("engine", ["in-process", "batched"])
def test_memory_that_runs_out_in_one_run_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    whole = loop.train_steps

    def fail(training: Training, *rest: Any) -> Any:
        if training.spec.seed == 0:
            raise torch.OutOfMemoryError("out of memory")
        return whole(training, *rest)

    monkeypatch.setattr(loop, "train_steps", fail)
    monkeypatch.setattr(batched, "train_batched", Mock(side_effect=torch.OutOfMemoryError("out of memory")))
    with pytest.raises(FailedRunsError) as raised:
        run_all([tiny(**QUICK), tiny(seed=1, **QUICK)], tmp_path, engine=engine)
    assert [run.spec.seed for run in raised.value.finished] == [1]
    assert [settings.seed for settings in raised.value.failed] == [0]


def test_an_evaluation_counts_in_the_memory_that_a_run_needs() -> None:
    """It reads up to 1,024 rows at once, however few a step reads."""
    task, backbone = "path-star:degree=8,length=6,nodes=50,goals=one", "transformer:layers=2,width=64,heads=8"
    small, smaller = (estimate_memory(tiny("next-token", task, backbone, batch=64, accumulate=n)) for n in (8, 16))
    assert small == smaller > GIB
