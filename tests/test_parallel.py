"""Two processes train one run as one process does, and what is saved is a run like any other."""

from __future__ import annotations

import errno
import functools
import importlib
import multiprocessing
import os
import re
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import torch
from refusals import refused
from tiny import TASK, arguments, outcome, tiny

import foresee
from foresee.cli import main
from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.objectives.base import LossOut
from foresee.training import examples
from foresee.training.distributed import Model, World
from foresee.training.examples import batch_of, rank_batch, training_data
from foresee.training.loop import train, train_steps
from foresee.training.settings import Settings
from foresee.training.step import Training

MIXED = "path-star:degree=2,length=4,nodes=12,goals=one,sizes=mixed"
PAIRED = TASK.replace("goals=one", "goals=all")
FEW: dict[str, Any] = {
    "steps": 5, "eval_every": 1, "data": "fixed:300", "test": 40, "precision": "float32", "device": "cpu",
}  # fmt: skip


# Several processes, each as ``torchrun`` would start it --------------------------------------------------------------


# Forked from a server that has imported what takes long.
processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(
    ["foresee.cli.train", "torch._dynamo", "torch.distributed.fsdp", "torch.distributed.tensor"]
)


@dataclass(frozen=True)
class Plan:
    """What befalls one of the processes, at its ``update``-th update (from 1)."""

    rank: int = 0
    update: int = 0
    signal: int = signal.SIGKILL
    full_at: int = 0
    """The flush, from 1, at which the disk of each process is full."""
    save_seconds: float = -1.0
    """Between checkpoints; negative saves at every step."""


def befall(plan: Plan, rank: int) -> None:
    loop: Any = importlib.import_module("foresee.training.loop")  # ``foresee.train`` is also a function
    loop.SAVE_SECONDS = plan.save_seconds
    real, count = torch.optim.AdamW.step, 0

    def step(self: torch.optim.AdamW, *given: Any) -> Any:
        nonlocal count
        count += 1
        if (count, rank) == (plan.update, plan.rank):
            os.kill(os.getpid(), plan.signal)
        return real(self, *given)

    torch.optim.AdamW.step = step  # type: ignore[assignment,method-assign]
    flush, flushed = os.fsync, 0

    def fsync(handle: int) -> None:
        nonlocal flushed
        flushed += 1
        if flushed == plan.full_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(handle)

    os.fsync = fsync  # type: ignore[assignment]


def run_command(plan: Plan, argv: list[str], rank: int) -> None:
    """The command ``foresee`` with these arguments."""
    befall(plan, rank)
    sys.argv = ["foresee", *argv]
    main()


def child(rank: int, port: int, errors: Path, work: Callable[[int], None]) -> None:
    """One of the processes: sets what ``torchrun`` sets."""
    for name, number in ((f"{errors}.{rank}", 2), (f"{errors}.{rank}.out", 1)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port),
        TORCHELASTIC_RUN_ID="none",
    )  # fmt: skip
    torch.set_num_threads(1)
    work(rank)


def on_two(root: Path, work: Callable[[int], None]) -> list[tuple[int, str]]:
    """``work``, a function of a module that takes a rank, in two processes: exit status and standard error of each."""
    with socket.socket() as found:  # a port that nobody listens on now
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    started = [processes.Process(target=child, args=(rank, port, root / "errors", work)) for rank in range(2)]
    for process in started:
        process.start()
    for process in started:
        process.join(240)
    hung = [rank for rank, process in enumerate(started) if process.exitcode is None]
    for process in started:
        process.kill()
    assert not hung, f"still running: {hung}"
    # PyTorch says once that it looked for unused parameters and found none; nothing but its log level silences it.
    noise = re.compile(r".*Warning: find_unused_parameters=True was specified in DDP constructor.*\n")
    said = [noise.sub("", (root / f"errors.{rank}").read_text()) for rank in range(2)]
    return [(process.exitcode or 0, text) for process, text in zip(started, said, strict=True)]


def train_all(specs: list[Settings], root: Path, rank: int = 0) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "WATCHED", 50)  # there is an evaluation at every step
        for spec in specs:
            train(spec, root)


def assert_same(root: Path, specs: list[Settings]) -> None:
    """Trains each on one process and on two, and compares all that is reported of each step, and the weights; what two
    leave is a run like any other."""
    train_all(specs, root)
    both = [spec.replace(processes=2) for spec in specs]
    assert on_two(root, functools.partial(train_all, both, root)) == [(0, "")] * 2
    for alone, two in zip(specs, both, strict=True):
        run, plain = foresee.load(root / two.digest), foresee.load(root / alone.digest)
        assert run.spec == two
        assert train(two, root).rows == run.rows  # finished: no other process is needed
        assert run.generate(run.examples[0]["prompt"]) == run.examples[0]["wrote"]
        assert {path.name for path in run.dir.iterdir()} == {path.name for path in plain.dir.iterdir()}
        for one, other in zip(plain.metrics, run.metrics, strict=True):
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-5), alone
            assert other["parts"] == pytest.approx(one["parts"], rel=1e-4), alone
            assert other["position_loss"] == pytest.approx(one["position_loss"], rel=1e-4), alone
            assert (other["step"], other["examples"], other["lr"]) == (one["step"], one["examples"], one["lr"])
            assert other["eval"].keys() == one["eval"].keys()
        weights = [files.read_tensors(each.dir / "model.safetensors")[0] for each in (plain, run)]
        assert weights[0].keys() == weights[1].keys()
        for name, value in weights[0].items():
            torch.testing.assert_close(weights[1][name], value, atol=2e-4, rtol=2e-3, msg=name)


# The same losses ----------------------------------------------------------------------------------------------------


def test_copies_have_the_losses_of_one_process(tmp_path: Path) -> None:
    assert_same(
        tmp_path,
        [
            tiny(**FEW),
            tiny(task=MIXED, **FEW),
            tiny(task=PAIRED, accumulate=2, **FEW),
            tiny("reversed", MIXED, accumulate=2, **FEW),
            tiny("next-latent:horizon=2", **FEW),
            tiny("multi-token:heads=2", backbone="mamba:layers=1,width=16,state=4", **FEW),
        ],
    )


@pytest.mark.slow
def test_shards_have_the_losses_of_one_process(tmp_path: Path) -> None:
    gpt2, llama = (tiny_checkpoints.save(tmp_path / family, family) for family in ("gpt2", "llama"))
    assert_same(
        tmp_path,
        [
            tiny(backbone=f"hf:{gpt2}", **FEW),
            tiny(task=MIXED, backbone=f"hf:{llama}", accumulate=2, **FEW),
            tiny("reversed", backbone=f"hf:{gpt2},lora=2", **FEW),
            tiny("next-latent:horizon=2", backbone=f"hf:{llama}", recompute=True, **FEW),
            tiny("multi-token:heads=2", backbone=f"hf:{gpt2}", **FEW),
        ],
    )


# What each process does ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [TASK, MIXED, PAIRED])
def test_processes_take_the_rows_of_a_batch_in_turn(task: str) -> None:
    spec = tiny(task=task, processes=4, batch=24)
    built = spec.build_task()
    data = training_data(spec, built)
    whole = batch_of(data, built, spec, 3)
    owns = [rank_batch(whole, spec, rank) for rank in range(4)]
    assert [row for own, _ in owns for row in own.pairs()] == list(whole.pairs())
    assert {(len(own), own.layout.group, own.layout.shared) for own, _ in owns} == {
        (6, built.group, built.shared_prefix)
    }
    tokens = int(whole.answer_len.sum())
    assert [share for _, share in owns] == [int(own.answer_len.sum()) / tokens for own, _ in owns]


def test_processes_and_seeds_draw_from_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny(processes=2)
    task = spec.build_task()
    objective = spec.build_objective(task)
    drawn: list[float] = []
    real = objective.loss

    def loss(batch: Batch, rng: torch.Generator) -> LossOut:
        drawn.append(float(torch.rand((), generator=rng)))
        return real(batch, rng)

    monkeypatch.setattr(objective, "loss", loss)
    data = training_data(spec, task)
    for world, seed in ((World(0, 2), 0), (World(1, 2), 0), (World(1, 2), 0), (World(), 0), (World(), 1)):
        asked = spec.replace(processes=world.world_size, seed=seed)
        training = Training(asked, task, data, Model(objective, "cpu", World()))
        training.model.world = world
        train_steps(training, 1)
    assert drawn[1] == drawn[2]
    assert len(set(drawn)) == 4


# Requests -----------------------------------------------------------------------------------------------------------


def test_a_batch_must_divide() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"processes": 3}, "batch=16 must be a multiple of 3, processes=3 times accumulate=1"),
        ({"processes": 8, "accumulate": 4}, "batch=16 must be a multiple of 32, processes=8 times accumulate=4"),
        ({"processes": 0}, "processes=0 must be at least 1"),
    ]
    for settings, said in wrong:
        with refused(said):
            tiny(batch=16, **settings)


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="this run is for processes=2, but 1 is running; start it with torchrun"):
        train(tiny(processes=2), tmp_path)
    wrong = functools.partial(train_all, [tiny(processes=4)], tmp_path)
    for rank, (status, said) in enumerate(on_two(tmp_path, wrong)):
        assert status == 1
        assert said.splitlines()[-1] == (
            ("foresee.core.errors.RequestError", "foresee.core.errors.OtherProcessError")[rank]
            + ": this run is for processes=4, but 2 are running; start it with torchrun and as many processes"
        )
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


# However it ends ------------------------------------------------------------------------------------------------------


SMALL: dict[str, Any] = {"steps": 6, "data": "fixed:300", "test": 40, "eval_every": 2, "device": "cpu"}
OBJECTIVE = "teacherless:hybrid=0.5"
SPEC = tiny(OBJECTIVE, **SMALL, processes=2)
"""It draws random numbers."""
LOST = (
    "foresee: another process of this run ended or no longer answers, so all of them end; what it said itself tells "
    "why, and the same command continues\n"
)


def command(root: Path, plan: Plan | None = None, spec: Settings = SPEC) -> list[tuple[int, str]]:
    """The command of ``spec`` under ``root`` on two processes."""
    small = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    argv = ["train", TASK, f"--objective={OBJECTIVE}", *arguments(root / "runs"), f"--backbone={spec.backbone}", *small]
    return on_two(root, functools.partial(run_command, plan or Plan(), [*argv, "--json"]))


def sentence(said: str) -> str:
    """The last line."""
    assert "Traceback" not in said
    return said.splitlines(keepends=True)[-1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What SPEC ends with when nothing happens to it."""
    root = tmp_path_factory.mktemp("undisturbed")
    (first, second) = command(root)
    assert (first[0], second) == (0, (0, ""))  # the first alone shows progress
    assert "step 6/6" in first[1]
    assert (root / "errors.0.out").read_text().startswith(f'{{"run": "{SPEC.digest}"')
    assert (root / "errors.1.out").read_text() == ""
    return outcome(root / "runs" / SPEC.digest)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_is_killed_the_other_ends_and_both_continue(
    tmp_path: Path, undisturbed: dict[str, bytes], rank: int
) -> None:
    ends = command(tmp_path, Plan(rank, update=4))
    assert ends[rank][0] == -signal.SIGKILL
    status, said = ends[1 - rank]
    assert status == 1
    if rank == 1:
        assert sentence(said) == LOST
    else:
        assert said == ""
    assert (tmp_path / "runs" / SPEC.digest / "checkpoint" / "latest.safetensors").exists()
    (first, second) = command(tmp_path)
    assert (first[0], second) == (0, (0, ""))
    assert ", from step 3\n" in first[1]
    assert outcome(tmp_path / "runs" / SPEC.digest) == undisturbed


@pytest.mark.parametrize(
    ("rank", "update"), [pytest.param(0, 3, marks=pytest.mark.slow), (1, 3), pytest.param(1, 6, marks=pytest.mark.slow)]
)
def test_asked_to_stop_all_stop_at_the_same_step(
    tmp_path: Path, undisturbed: dict[str, bytes], rank: int, update: int
) -> None:
    # Nothing is saved but on being asked.
    (status, said), other = command(tmp_path, Plan(rank, update, signal.SIGTERM, save_seconds=1e9))
    directory = tmp_path / "runs" / SPEC.digest
    assert (status, other) == (1, (1, ""))
    saved = f"stopped at step {update} of 6 and saved in {directory}; the same command continues\n"
    assert sentence(said) == f"foresee: {saved}"
    status, said = command(tmp_path)[0]
    assert (status, f", from step {update}\n" in said) == (0, True)
    assert outcome(directory) == undisturbed


@pytest.mark.slow
def test_what_the_first_cannot_write_ends_all(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    ends = command(tmp_path, Plan(full_at=3, save_seconds=1e9))  # after env.json and spec.json
    directory = tmp_path / "runs" / SPEC.digest
    assert ends[1] == (1, "")
    assert ends[0][0] == 1
    assert sentence(ends[0][1]).startswith(
        f"foresee: the disk is full: {directory / 'metrics.jsonl'} could not be written"
    )
    (directory / "spec.json").write_bytes(b"{")
    ends = command(tmp_path)
    assert (ends[0][0], ends[1]) == (2, (2, ""))
    assert "spec.json is damaged" in sentence(ends[0][1])
    (directory / "spec.json").write_bytes(undisturbed["spec.json"])
    assert command(tmp_path)[0][0] == 0
    assert outcome(directory) == undisturbed


@pytest.mark.slow
def test_killed_and_continued_shards_end_as_if_undisturbed(tmp_path: Path) -> None:
    spec = tiny(OBJECTIVE, backbone=f"hf:{tiny_checkpoints.save(tmp_path / 'checkpoint')}", **SMALL, processes=2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for root in (whole, cut):
        root.mkdir()
    assert [status for status, _ in command(whole, spec=spec)] == [0, 0]
    assert [status for status, _ in command(cut, Plan(1, update=4), spec)] == [1, -signal.SIGKILL]
    first, second = command(cut, spec=spec)
    assert (first[0], second) == (0, (0, ""))
    assert ", from step 3\n" in first[1]
    assert outcome(cut / "runs" / spec.digest) == outcome(whole / "runs" / spec.digest)
