"""A run that is killed, stopped or runs out of disk, at whatever moment, ends as if nothing had happened."""

from __future__ import annotations

import errno
import fcntl
import importlib
import itertools
import multiprocessing
import os
import resource
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from refusals import refused
from tiny import TASK, arguments, outcome, tiny

from foresee.cli import main
from foresee.core import files
from foresee.core.errors import ForeseeError, RequestError
from foresee.metrics.base import Rows, Subject
from foresee.metrics.measure import measure_all
from foresee.training import evaluate
from foresee.training.loop import train
from foresee.training.progress import Progress
from foresee.training.run import load
from foresee.training.settings import Settings

loop = importlib.import_module("foresee.training.loop")  # ``foresee.train`` is also a function

SMALL: dict[str, Any] = {"steps": 8, "data": "fixed:300", "test": 40, "eval_every": 2}
SPEC = tiny("teacherless:hybrid=0.5", **SMALL)

# Children are forked from a server that has imported PyTorch, and what its optimisers import, which takes longer than
# everything else here.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["foresee.cli.train", "torch._dynamo"])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What SPEC ends with when nothing happens to it."""
    return outcome(train(SPEC, tmp_path_factory.mktemp("undisturbed")).dir)


@dataclass
class Plan:
    """What befalls a child process: these signals, at a moment that is counted from 1 before and after every rename and
    removal, before every update and at each flush; at 0, before it measures."""

    event: int = -1
    signals: tuple[int, ...] = ()
    largest_file: int | None = None
    """A limit on the size of files, in bytes."""
    save_seconds: float = -1.0
    """Between checkpoints; negative saves at every step."""

    def reach(self, event: int) -> None:
        for number in self.signals if event == self.event else ():
            os.kill(os.getpid(), number)


class Stops(Progress):
    """Interrupts at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, settings: Settings, step: int) -> None:
        if step == self.at:
            os.kill(os.getpid(), signal.SIGINT)


def count_moments(plan: Plan) -> None:
    """Tells the plan of each moment that matters."""
    moments = itertools.count(1)

    def watch(owner: Any, name: str, *, after: bool = False) -> None:
        real = getattr(owner, name)

        def call(*given: Any, **options: Any) -> Any:
            plan.reach(next(moments))
            result = real(*given, **options)
            if after:
                plan.reach(next(moments))
            return result

        setattr(owner, name, call)

    watch(torch.optim.AdamW, "step")
    watch(os, "fsync")
    watch(Path, "replace", after=True)
    watch(shutil, "rmtree", after=True)


def child(plan: Plan, argv: list[str], errors: Path) -> None:
    """The command line in a process of its own, with a plan."""
    os.dup2(os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644), 2)
    torch.set_num_threads(1)
    # A shell that starts the tests in the background has Ctrl-C ignored, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    loop.SAVE_SECONDS = plan.save_seconds  # type: ignore[attr-defined]
    count_moments(plan)

    def measure(subject: Subject) -> Rows:
        plan.reach(0)
        return measure_all(subject)

    vars(evaluate)["measure_all"] = measure
    if plan.largest_file is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (plan.largest_file, resource.RLIM_INFINITY))
    sys.argv = ["foresee", *argv]
    main()


def command(root: Path, plan: Plan) -> tuple[int, str]:
    """Exit status (negative: the signal that killed it) and standard error of the command of SPEC under ``root``."""
    (root / "errors").unlink(missing_ok=True)
    small = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    argv = ["train", TASK, "--objective=teacherless:hybrid=0.5", *arguments(root / "runs"), *small, "--json"]
    process = processes.Process(target=child, args=(plan, argv, root / "errors"))
    process.start()
    process.join()
    said = (root / "errors").read_text()
    assert "Traceback" not in said
    assert process.exitcode is not None
    return process.exitcode, said


def run_directory(root: Path) -> Path:
    return root / "runs" / SPEC.digest


def sentence(said: str) -> str:
    """The one line of a failure."""
    ours = [line for line in said.splitlines() if line.startswith("foresee: ")]
    assert len(ours) == 1
    assert said.endswith(ours[0] + "\n")
    return ours[0].removeprefix("foresee: ")


# Killed -------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_killed_again_and_again(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    # Six events come before the first update, and four more with each one that is saved.
    for event in (4, 8, 9, 10, 5, 7, 12):
        status, _ = command(tmp_path, Plan(event, (signal.SIGKILL,)))
        assert status == -signal.SIGKILL
        assert not (run_directory(tmp_path) / "rows.jsonl").exists()
    assert (run_directory(tmp_path) / "checkpoint" / "latest.safetensors").exists()
    status, said = command(tmp_path, Plan())
    assert status == 0
    assert ", from step " in said
    assert outcome(run_directory(tmp_path)) == undisturbed
    assert not [path.name for path in run_directory(tmp_path).iterdir() if path.name.endswith(files.TEMPORARY)]


def test_what_is_resumed_writes_the_parts_of_its_loss_in_the_same_order(tmp_path: Path) -> None:
    """The parts of multi-token are not in the order of their names."""
    spec = tiny("multi-token", **SMALL)
    with pytest.raises(ForeseeError, match="stopped at step 3"):
        train(spec, tmp_path / "stopped", Stops(3))
    assert outcome(train(spec, tmp_path / "stopped").dir) == outcome(train(spec, tmp_path / "whole").dir)


def test_killed_while_measuring(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    status, _ = command(tmp_path, Plan(0, (signal.SIGKILL,)))
    assert status == -signal.SIGKILL
    assert (run_directory(tmp_path) / "model.safetensors").exists()
    assert not (run_directory(tmp_path) / "rows.jsonl").exists()
    with pytest.raises(RequestError, match="holds an unfinished run; finish it with `foresee train "):
        load(run_directory(tmp_path))
    status, said = command(tmp_path, Plan())
    assert status == 0
    assert "training" not in said
    assert outcome(run_directory(tmp_path)) == undisturbed


@pytest.mark.slow
def test_killed_at_every_event(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    event, status = 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        event += 1
        root = tmp_path / str(event)
        root.mkdir()
        status, _ = command(root, Plan(event, (signal.SIGKILL,)))
        assert outcome(train(SPEC, root / "runs").dir) == undisturbed, f"killed at event {event}"
    assert status == 0
    assert event > 50


# Stopped ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_while_training_and_while_measuring(
    tmp_path: Path, undisturbed: dict[str, bytes], number: int
) -> None:
    directory = run_directory(tmp_path)
    # Nothing is saved but on being asked: the fourth update is event 10, after 6 at the start.
    status, said = command(tmp_path, Plan(12, (number,), save_seconds=1e9))
    assert status == 1
    assert sentence(said) == f"stopped at step 4 of 8 and saved in {directory}; the same command continues"
    status, said = command(tmp_path, Plan(0, (number,)))
    assert status == 1
    assert ", from step 4\n" in said
    saved = f"{directory}/model.safetensors is saved and the same command continues"
    assert sentence(said) == f"stopped while measuring; {saved}"
    assert command(tmp_path, Plan())[0] == 0
    assert outcome(directory) == undisturbed


def test_interrupted_twice_it_stops_at_once(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    status, said = command(tmp_path, Plan(12, (signal.SIGINT, signal.SIGINT)))
    assert (status, sentence(said)) == (1, "stopped")
    assert command(tmp_path, Plan())[0] == 0
    assert outcome(run_directory(tmp_path)) == undisturbed


def test_asked_to_stop_at_the_last_step(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    with pytest.raises(ForeseeError, match="stopped at step 8 of 8 and saved"):
        train(SPEC, tmp_path, Stops(8))
    assert outcome(train(SPEC, tmp_path).dir) == undisturbed


# Two at once --------------------------------------------------------------------------------------------------------


def test_a_second_process_is_refused(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    run_directory(tmp_path).mkdir(parents=True)
    with (run_directory(tmp_path) / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        status, said = command(tmp_path, Plan())
    assert status == 2
    assert sentence(said) == (
        f"{run_directory(tmp_path)} is being run by another process; wait for it, or use another --runs folder"
    )
    assert [path.name for path in run_directory(tmp_path).iterdir()] == ["lock"]
    # The lock goes with the process that held it, not with the file.
    assert outcome(train(SPEC, tmp_path / "runs").dir) == undisturbed


# Damaged while unfinished -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The runs folder of SPEC stopped after step 5, with reports at steps 2 and 4."""
    root = tmp_path_factory.mktemp("stopped")
    with pytest.raises(ForeseeError, match="stopped at step 5 of 8"):
        train(SPEC, root, Stops(5))
    return root


@pytest.fixture
def broken(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it to do harm to."""
    shutil.copytree(stopped, tmp_path / "runs")
    return tmp_path / "runs" / SPEC.digest


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("spec.json", b"{}", "its keys"),
        ("metrics.jsonl", b"", "it is shorter than the checkpoint beside it says"),
        ("timing.jsonl", b"", "it is shorter than the checkpoint beside it says"),
        ("checkpoint/latest.safetensors", b"", ""),
        ("checkpoint/latest.safetensors", b"\0" * 99, ""),
        ("model.safetensors", b"{}", ""),
    ],
)
def test_damage_is_one_sentence_that_says_what_to_do(
    broken: Path, undisturbed: dict[str, bytes], name: str, content: bytes, said: str
) -> None:
    path = broken / name
    path.write_bytes(content)
    with refused(f"{path.name} is damaged: {said}", f"; delete {path.parent} and train again"):
        train(SPEC, broken.parent)
    shutil.rmtree(path.parent)
    assert outcome(train(SPEC, broken.parent).dir) == undisturbed


def test_reports_that_a_checkpoint_speaks_of_must_be_there_and_half_a_line_after_it_is_cut_off(
    broken: Path, undisturbed: dict[str, bytes]
) -> None:
    assert (broken / "checkpoint" / "latest.safetensors").exists()
    for name in ("metrics.jsonl", "timing.jsonl"):
        whole = (broken / name).read_bytes()
        (broken / name).unlink()
        with pytest.raises(RequestError, match=rf"{name} is missing, though the checkpoint beside it speaks of it; "):
            train(SPEC, broken.parent)
        (broken / name).write_bytes(whole + b'{"step": 6, "exam')
    assert outcome(train(SPEC, broken.parent).dir) == undisturbed


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_report_that_does_not_end_is_refused_before_anything_is_trained(broken: Path, name: str) -> None:
    path = broken / name
    path.write_bytes(path.read_bytes()[:-1] + b" ")
    with refused(f"{path} is damaged: its last line does not end"):
        train(SPEC, broken.parent)
    assert (broken / "checkpoint" / "latest.safetensors").exists()


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_damaged_report_is_refused_before_anything_is_trained(broken: Path, name: str) -> None:
    path, checkpoint = broken / name, broken / "checkpoint" / "latest.safetensors"
    path.write_bytes(path.read_bytes().replace(b":", b";", 1))
    before = checkpoint.read_bytes()
    with refused(f"{path} is damaged: line 1: Invalid JSON"):
        train(SPEC, broken.parent)
    assert checkpoint.read_bytes() == before
    assert not (broken / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("step", "5", "its header does not say how far the run had come"),
        ("metrics_bytes", 1.5, "its header does not say how far the run had come"),
        ("seconds", -1.0, "its header does not say how far the run had come"),
        ("optimiser.exp_avg.", None, "it does not hold what the optimizer kept of weight "),
        ("optimiser.exp_avg_sq.", torch.zeros(1), "it does not hold what the optimizer kept of weight "),
        ("by_position", torch.zeros(2, 1), "sums of losses are not this task's"),
    ],
)
def test_a_whole_checkpoint_that_lacks_what_it_must_hold_is_refused(
    broken: Path, part: str, value: Any, said: str
) -> None:
    path = broken / "checkpoint" / "latest.safetensors"
    tensors, note = files.read_tensors(path)
    if part in note:
        note[part] = value
    else:
        name = next(each for each in tensors if each.startswith(part))
        tensors = {each: tensor for each, tensor in tensors.items() if each != name or value is not None}
        tensors |= {} if value is None else {name: value}
    files.write_tensors(path, tensors, note)
    with refused(said):
        train(SPEC, broken.parent)


def test_a_checkpoint_of_another_model_is_refused(broken: Path, tmp_path: Path) -> None:
    other: Settings = tiny(**SMALL, backbone="transformer:layers=1,width=16,heads=2")
    target = tmp_path / "other" / other.digest
    shutil.copytree(broken, target)
    (target / "spec.json").unlink()
    with pytest.raises(RequestError, match=r"latest\.safetensors does not fit this model: weight 'backbone\."):
        train(other, tmp_path / "other")


# A full disk --------------------------------------------------------------------------------------------------------


def without_space(fail_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the ``fail_at``-th flush on, the disk is full; what was appended loses its last bytes, as it then does."""
    real, count = os.fsync, 0

    def flush(handle: int) -> None:
        nonlocal count
        count += 1
        if count < fail_at:
            real(handle)
            return
        if fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_WRONLY:
            os.ftruncate(handle, os.fstat(handle).st_size - 9)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", flush)


def failures(monkeypatch: pytest.MonkeyPatch, root: Path, moments: Iterator[int]) -> int:
    """Runs SPEC into a full disk at each moment; how often that made it fail before it passed."""
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    for failed, moment in enumerate(moments):
        with monkeypatch.context() as patch:
            without_space(moment, patch)
            try:
                train(SPEC, root)
            except ForeseeError as error:
                assert error.status == 1  # noqa: PT017
                assert "the disk is full: " in str(error)  # noqa: PT017
            else:
                return failed
    return failed + 1


def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    # In turn: env.json, a checkpoint, half a line of metrics, half a line of timing, the model, the rows.
    assert failures(monkeypatch, tmp_path, iter((1, 5, 4, 2, 3, 5, 6, 7, 8))) >= 7
    assert outcome(train(SPEC, tmp_path).dir) == undisturbed


def test_a_checkpoint_stands_until_the_next_is_whole(
    broken: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    before = (broken / "checkpoint" / "latest.safetensors").read_bytes()
    monkeypatch.setattr(loop, "SAVE_SECONDS", -1.0)
    with monkeypatch.context() as patch:
        without_space(3, patch)
        with pytest.raises(ForeseeError, match=r"the disk is full: .*latest\.safetensors could not be written"):
            train(SPEC, broken.parent)
    assert (broken / "checkpoint" / "latest.safetensors").read_bytes() == before
    assert [path.name for path in (broken / "checkpoint").iterdir()] == ["latest.safetensors"]
    assert outcome(train(SPEC, broken.parent).dir) == undisturbed


@pytest.mark.slow
def test_a_full_disk_at_every_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: dict[str, bytes]
) -> None:
    for moment in range(1, 100):
        if not failures(monkeypatch, tmp_path / str(moment), iter((moment,))):
            break
        assert outcome(train(SPEC, tmp_path / str(moment)).dir) == undisturbed, f"full at flush {moment}"
    assert moment > 15


def test_a_limit_on_the_size_of_files(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    # Room for spec.json and the first two lines of metrics.jsonl or so; one of its lines is cut.
    status, said = command(tmp_path, Plan(largest_file=1000, save_seconds=1e9))
    assert status == 1
    assert sentence(said).startswith(f"{run_directory(tmp_path) / 'metrics.jsonl'} could not be written: ")
    assert (run_directory(tmp_path) / "metrics.jsonl").stat().st_size == 1000
    assert command(tmp_path, Plan())[0] == 0
    assert outcome(run_directory(tmp_path)) == undisturbed
