"""Sweeps on one machine: what is started when, what is tried again, what stays when workers or the sweep are ended."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_worker import BABBLES, DIES, DIES_ONCE, FAILS, FINISHES, GETS_ON, IN_USE_ONCE, RAISES, SLOW
from tiny import TASK, outcome, tiny
from typer.testing import CliRunner

from foresee.cli import app
from foresee.core.errors import ForeseeError, RequestError
from foresee.experiments.sweeps import (
    Ending,
    InterruptedSweepError,
    InTurn,
    Job,
    Local,
    SweepError,
    SweepProgress,
    run_all,
)
from foresee.experiments.sweeps.plan import Machine, Room, describe, threads_for
from foresee.experiments.sweeps.size import Size, checked
from foresee.training.guard import in_use, locked
from foresee.training.loop import train
from foresee.training.settings import Settings

QUICK: dict[str, Any] = {"steps": 4, "eval_every": 2, "data": "fixed:300", "test": 40}
SMALL = Size(memory=1 << 20, work=1e6)


class Heard(SweepProgress):
    """Notes everything."""

    def __init__(self) -> None:
        self.notes: list[tuple[str, int, Any]] = []

    def began(self, spec: Settings, step: int, where: str) -> None:
        self.notes.append(("began", spec.seed, step))

    def step(self, spec: Settings, step: int) -> None:
        self.notes.append(("step", spec.seed, step))

    def measuring(self, spec: Settings, examples: int) -> None:
        self.notes.append(("measuring", spec.seed, examples))

    def waiting(self, spec: Settings) -> None:
        self.notes.append(("waiting", spec.seed, None))

    def retrying(self, spec: Settings, why: str) -> None:
        self.notes.append(("retrying", spec.seed, why))

    def said(self, spec: Settings, text: str) -> None:
        self.notes.append(("said", spec.seed, text))

    def of(self, what: str) -> list[Any]:
        return [more for name, _, more in self.notes if name == what]


@pytest.fixture(scope="module")
def spec() -> Settings:
    return tiny(**QUICK)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    (tmp_path / "marks").mkdir()
    return tmp_path / "marks"


def scripted(marks: Path, **options: Any) -> Local:
    """The engine with workers that do what a run's seed says."""
    script = Path(__file__).parent / "scripted_worker.py"
    return Local(command=(sys.executable, "-S", "-E", str(script), str(marks)), **options)


def jobs(spec: Settings, *seeds: int) -> list[Job]:
    return [Job(spec.replace(seed=seed), SMALL, len(seeds)) for seed in seeds]


def by_seed(endings: Iterator[Ending]) -> dict[int, ForeseeError | None]:
    return {ending.spec.seed: ending.failure for ending in endings}


def starts(marks: Path, seed: int) -> list[list[str]]:
    """What each start of a run noted: process, threads, root."""
    path = marks / str(seed)
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


# Workers that end in every way ----------------------------------------------------------------------------------------


def test_failures_are_reported_and_the_others_go_on(spec: Settings, tmp_path: Path, marks: Path) -> None:
    heard = Heard()
    wanted = jobs(spec, RAISES, FAILS, BABBLES, FINISHES)
    endings = by_seed(scripted(marks, workers=1).run(wanted, tmp_path, heard))
    assert endings.pop(FINISHES) is None
    assert endings.pop(BABBLES) is None
    assert str(endings[FAILS]) == "the loss is nan"
    assert str(endings[RAISES]) == (
        "its process ended with status 1: ArithmeticError: a defect; what was saved is kept"
    )
    assert all(type(failure) is ForeseeError for failure in endings.values())
    assert heard.of("retrying") == [], "a failure that says what it is will be the same next time"
    assert ("said", BABBLES, "a warning") in heard.notes
    assert heard.of("measuring") == [3, 3]


def test_a_worker_that_is_killed_is_replaced(spec: Settings, tmp_path: Path, marks: Path) -> None:
    heard = Heard()
    endings = by_seed(scripted(marks, workers=1).run(jobs(spec, DIES_ONCE), tmp_path, heard))
    assert endings == {DIES_ONCE: None}
    assert heard.of("retrying") == ["its process was killed (SIGKILL), as the system does where memory runs out"]
    first, second = starts(marks, DIES_ONCE)
    assert first[0] != second[0]


def test_a_run_whose_workers_die_without_getting_further_is_given_up(
    spec: Settings, tmp_path: Path, marks: Path
) -> None:
    endings = by_seed(scripted(marks, workers=1).run(jobs(spec, DIES, FINISHES), tmp_path, Heard()))
    assert endings[FINISHES] is None
    assert str(endings[DIES]).startswith("5 times in a row without getting further, its process was killed")
    assert len(starts(marks, DIES)) == 5


def test_a_run_that_gets_further_each_time_is_not(spec: Settings, tmp_path: Path, marks: Path) -> None:
    assert by_seed(scripted(marks).run(jobs(spec, GETS_ON), tmp_path, Heard())) == {GETS_ON: None}
    assert len(starts(marks, GETS_ON)) == 8


def test_one_worker_serves_runs_of_one_kind_and_no_others(spec: Settings, tmp_path: Path, marks: Path) -> None:
    alike = [Job(spec.replace(seed=FINISHES, lr=lr), SMALL, 3) for lr in (0.1, 0.2)]
    larger = Job(spec.replace(seed=BABBLES), Size(memory=2 << 20, work=1e6), 3)
    assert len(list(scripted(marks, workers=1).run([*alike, larger], tmp_path, Heard()))) == 3
    (first, second), (other,) = starts(marks, FINISHES), starts(marks, BABBLES)
    assert first == second
    assert first[0] != other[0]


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_are_what_was_asked_for(spec: Settings, tmp_path: Path, marks: Path, threads: int) -> None:
    list(scripted(marks, threads=threads).run(jobs(spec, FINISHES), tmp_path / "runs", Heard()))
    ((_, seen, root),) = starts(marks, FINISHES)
    assert (seen, root) == (str(threads), str(tmp_path / "runs"))


@pytest.mark.parametrize("options", [{"workers": 0}, {"threads": 0}])
def test_numbers_below_one_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="=0 must be at least 1"):
        Local(**options)


# Other processes ------------------------------------------------------------------------------------------------------


def test_a_run_of_another_process_is_waited_for(spec: Settings, tmp_path: Path, marks: Path) -> None:
    (job,) = jobs(spec, FINISHES)
    directory = tmp_path / job.spec.digest
    directory.mkdir()
    heard, lock = Heard(), (directory / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    assert in_use(directory)

    class LetsGo(Heard):
        def waiting(self, spec: Settings) -> None:
            super().waiting(spec)
            assert starts(marks, FINISHES) == []
            lock.close()

    heard = LetsGo()
    assert by_seed(scripted(marks).run([job], tmp_path, heard)) == {FINISHES: None}
    assert [name for name, _, _ in heard.notes] == ["waiting", "began", "measuring"]


def test_a_run_that_another_process_finished_is_not_run_again(spec: Settings, tmp_path: Path, marks: Path) -> None:
    (job,) = jobs(spec, FINISHES)
    directory = tmp_path / job.spec.digest
    directory.mkdir()
    lock = (directory / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)

    class Finishes(Heard):
        def waiting(self, spec: Settings) -> None:
            (directory / "rows.jsonl").write_text("")
            lock.close()

    assert by_seed(scripted(marks).run([job], tmp_path, Finishes())) == {FINISHES: None}
    assert starts(marks, FINISHES) == []


def test_a_worker_that_comes_second_leaves_the_run_to_the_first(spec: Settings, tmp_path: Path, marks: Path) -> None:
    heard = Heard()
    assert by_seed(scripted(marks).run(jobs(spec, IN_USE_ONCE), tmp_path, heard)) == {IN_USE_ONCE: None}
    assert len(starts(marks, IN_USE_ONCE)) == 2
    assert heard.of("waiting") == [None]


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_has_every_worker_save(
    spec: Settings, tmp_path: Path, marks: Path, number: signal.Signals
) -> None:
    class Stops(Heard):
        def began(self, spec: Settings, step: int, where: str) -> None:
            os.kill(os.getpid(), number)

    with pytest.raises(InterruptedSweepError) as caught:
        list(scripted(marks, workers=1).run(jobs(spec, SLOW, FINISHES), tmp_path, Stops()))
    assert str(caught.value) == (
        f"stopped: 0 of 2 runs that were left are finished, and those in progress are saved in {tmp_path}; "
        "the same command continues"
    )
    assert starts(marks, FINISHES) == []
    assert not is_alive(int(starts(marks, SLOW)[0][0]))


def test_interrupted_twice_it_ends_its_workers_at_once(spec: Settings, tmp_path: Path, marks: Path) -> None:
    class Stops(Heard):
        def began(self, spec: Settings, step: int, where: str) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        list(scripted(marks, workers=1).run(jobs(spec, SLOW), tmp_path, Stops()))
    assert not is_alive(int(starts(marks, SLOW)[0][0]))


def test_who_stops_listening_ends_the_workers(spec: Settings, tmp_path: Path, marks: Path) -> None:
    endings = scripted(marks, workers=2).run(jobs(spec, SLOW, FINISHES), tmp_path, Heard())
    assert next(endings).spec.seed == FINISHES
    for _ in range(2000):  # its process may not have come to its work yet
        if starts(marks, SLOW):
            break
        time.sleep(0.01)
    endings.close()  # type: ignore[attr-defined]
    assert not is_alive(int(starts(marks, SLOW)[0][0]))


# A worker's own behaviour ---------------------------------------------------------------------------------------------


def test_real_workers_give_the_bytes_of_train_alone(tmp_path: Path) -> None:
    specs = [tiny(objective, **QUICK) for objective in ("next-token", "reversed", "next-token")]
    runs = run_all(specs, tmp_path / "sweep", engine=Local(workers=1))
    assert [run.spec for run in runs] == specs
    assert [path.name for path in sorted((tmp_path / "sweep").iterdir())] == sorted({spec.digest for spec in specs})
    for each in specs[:2]:
        alone = train(each, tmp_path / "alone")
        assert outcome(tmp_path / "sweep" / each.digest) == outcome(alone.dir)
    # All finished: nothing is started, so this engine is not asked.
    assert run_all(specs, tmp_path / "sweep", engine=Local(command=("false",))) == runs


def test_a_worker_ends_when_nobody_is_left_to_listen(tmp_path: Path) -> None:
    order = {"spec": vars(tiny(steps=100_000)), "root": str(tmp_path), "threads": 1, "plugins": []}
    worker = subprocess.Popen(
        [sys.executable, "-m", "foresee.experiments.sweeps"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert worker.stdin is not None
    assert worker.stdout is not None
    with worker.stdout:
        with worker.stdin:
            worker.stdin.write(json.dumps(order) + "\n")
            worker.stdin.flush()
            assert json.loads(worker.stdout.readline()) == {"event": "start", "step": 0}
        events = [json.loads(line) for line in worker.stdout]
    assert worker.wait() == 0
    assert events[-1]["kind"] == "stopped"
    assert "saved in" in events[-1]["failure"]
    assert list(tmp_path.glob("*/checkpoint/latest.safetensors"))


# Many runs by one call ------------------------------------------------------------------------------------------------


def test_runs_come_in_the_order_given_and_equal_ones_once(tmp_path: Path) -> None:
    specs = [tiny(**QUICK, seed=seed) for seed in (2, 0, 2)]
    runs = run_all(specs, tmp_path, engine=InTurn())
    assert [run.spec.seed for run in runs] == [2, 0, 2]
    assert len(list(tmp_path.iterdir())) == 2


def test_all_of_it_is_checked_before_any_of_it_is_trained(tmp_path: Path) -> None:
    short = tiny(**QUICK, backbone="transformer:layers=1,width=32,heads=2,context=8")
    with pytest.raises(RequestError, match=r"next-token on path-star, seed 0: .* positions, but backbone"):
        run_all([tiny(**QUICK), short], tmp_path, engine=InTurn())
    assert list(tmp_path.iterdir()) == []


def test_what_failed_is_named_and_what_finished_is_kept(tmp_path: Path) -> None:
    good, bad = tiny(**QUICK), tiny(**QUICK, seed=1)
    (tmp_path / bad.digest).mkdir()
    (tmp_path / bad.digest / "spec.json").write_text("{")
    with pytest.raises(SweepError) as caught:
        run_all([bad, good], tmp_path, engine=InTurn())
    assert str(caught.value).startswith(
        f"1 of 2 runs failed, the others are finished: next-token on path-star, seed 1 ({bad.digest}): "
    )
    assert [run.spec for run in caught.value.finished] == [good]
    assert caught.value.status == 1


def test_in_turn_stops_when_asked(tmp_path: Path) -> None:
    class Stops(SweepProgress):
        def step(self, spec: Settings, step: int) -> None:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(InterruptedSweepError, match="stopped at step 1 of 4 and saved"):
        run_all([tiny(**QUICK)], tmp_path, engine=InTurn(), progress=Stops())


# What is chosen -------------------------------------------------------------------------------------------------------

GIB = 1 << 30


@pytest.mark.parametrize(
    ("cores", "among", "work", "memory", "threads"),
    [
        (8, 8, 1e13, GIB, 1),  # as many runs as cores
        (8, 2, 1e13, GIB, 4),  # fewer
        (8, 2, 1.9e10, GIB, 1),  # but too small to gain from more
        (8, 8, 1e13, 8 * GIB, 4),  # memory holds two
        (8, 8, 1e13, 99 * GIB, 8),  # or one, if that
        (1, 1, 1e13, GIB, 1),
    ],
)
def test_threads_by_size_and_number(
    spec: Settings, cores: int, among: int, work: float, memory: int, threads: int
) -> None:
    job = Job(spec, Size(memory, work), among)
    assert threads_for(job, Machine(cores, 16 * GIB, GIB)) == threads


def test_room_is_cores_and_memory() -> None:
    room = Room(Machine(cores=2, memory=4, free=4), None)
    assert room.fits(9, 9), "alone, any run fits"
    room.take("a", 1, 1)
    assert room.fits(1, 3)
    assert not room.fits(2, 1)
    assert not room.fits(1, 4)
    room.take("b", 1, 1)
    assert not room.fits(1, 1)
    room.give_back("a")
    assert room.fits(1, 1)


def test_workers_bound_the_number_of_runs_instead_of_cores() -> None:
    room = Room(Machine(cores=1, memory=4, free=4), 2)
    room.take("a", 1, 1)
    assert room.fits(1, 1)
    room.take("b", 1, 1)
    assert not room.fits(1, 1)


def test_the_plan_says_how_it_was_chosen(spec: Settings) -> None:
    three = [Job(spec.replace(seed=seed), Size(GIB, 1e6), 3) for seed in range(3)]
    assert describe(three, [1, 1, 1], Machine(2, 8 * GIB, 4 * GIB), None) == (
        "2 runs at a time with 1 thread each: 2 cores usable, 4.0 GiB free, up to 1.0 GiB a run (estimated)"
    )


def test_sizes_grow_with_what_they_depend_on() -> None:
    base = tiny()
    (size,) = checked([base])
    for larger in (tiny(batch=64), tiny(backbone="transformer:layers=2,width=64,heads=2"), tiny(test=2_000_000)):
        (other,) = checked([larger])
        assert other.memory > size.memory
    assert checked([tiny(batch=64)])[0].work == 2 * size.work
    assert checked([base, base.replace(seed=3, lr=0.5)]) == [size, size]


# The command ----------------------------------------------------------------------------------------------------------


def invoke(*argv: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(argv), standalone_mode=False)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of two runs, which this process trains itself."""
    monkeypatch.setattr("foresee.experiments.sweeps.named.Local", lambda **_: InTurn())
    spec = tiny(**QUICK)
    run = {"task": spec.task, "backbone": spec.backbone, "objective": "next-token", "seeds": [0, 1]}
    settings = {"batch": spec.batch, "warmup": spec.warmup, **QUICK}
    path = tmp_path / "sweep.yaml"
    path.write_text(json.dumps([run | settings]))
    return path


def test_a_dry_run_shows_what_would_be_done(listed: Path, tmp_path: Path) -> None:
    train(tiny(**QUICK), tmp_path / "runs")
    _, out, _ = invoke("sweep", str(listed), "--dry-run", "--json", "--runs", str(tmp_path / "runs"))
    shown = json.loads(out)
    assert [run["state"] for run in shown["runs"]] == ["finished", "new"]
    assert shown["runs"][1]["command"].startswith(f"foresee train {TASK}")
    assert shown["plan"] == "one run after the other in this process"
    assert len(list((tmp_path / "runs").iterdir())) == 1
    _, out, _ = invoke("sweep", str(listed), "--dry-run", "--runs", str(tmp_path / "runs"))
    assert out.splitlines()[-1] == "2 runs; one run after the other in this process"


def test_the_command_trains_and_shows(listed: Path, tmp_path: Path) -> None:
    runs = str(tmp_path / "runs")
    _, out, err = invoke("sweep", str(listed), "--json", "--runs", runs)
    shown = json.loads(out)
    assert [run["seed"] for run in shown["runs"]] == [0, 1]
    assert shown["failed"] == []
    assert "2 runs, 0 finished before; one run after the other in this process" in err
    assert "finished, 2 of 2" in err
    _, out, _ = invoke("sweep", str(listed), "--runs", runs)
    assert all(run["run"] in out for run in shown["runs"])


def test_the_command_names_what_failed(listed: Path, tmp_path: Path) -> None:
    bad = tiny(**QUICK, seed=1)
    (tmp_path / bad.digest).mkdir()
    (tmp_path / bad.digest / "spec.json").write_text("{")
    result = CliRunner().invoke(app, ["sweep", str(listed), "--json", "--runs", str(tmp_path)], standalone_mode=False)
    assert isinstance(result.exception, SweepError)
    shown = json.loads(result.stdout)
    assert [run["seed"] for run in shown["runs"]] == [0]
    assert [failed["run"] for failed in shown["failed"]] == [bad.digest]
    assert "spec.json is damaged" in shown["failed"][0]["error"]


def test_an_address_needs_ray(listed: Path) -> None:
    with pytest.raises(RequestError, match="--address is that of a Ray cluster; give --engine ray with it"):
        invoke("sweep", str(listed), "--address", "10.0.0.1:6379")
