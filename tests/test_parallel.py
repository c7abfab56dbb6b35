"""Two processes train one run as one process does, and what is saved is a run like any other."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import together
import torch
from tiny import TASK, tiny

import foresee
from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.objectives.base import LossOut
from foresee.training import examples
from foresee.training.distributed import Model, World
from foresee.training.examples import batch_of, rank_batch, training_data
from foresee.training.loop import Training, train, train_steps
from foresee.training.settings import Settings

MIXED = "path-star:degree=2,length=4,nodes=12,goals=one,sizes=mixed"
PAIRED = TASK.replace("goals=one", "goals=all")
FEW: dict[str, Any] = {
    "steps": 5, "eval_every": 1, "data": "fixed:300", "test": 40, "precision": "float32", "device": "cpu",
}  # fmt: skip


def train_all(specs: list[Settings], root: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "WATCHED", 50)  # there is an evaluation at every step
        for spec in specs:
            train(spec, root)


def on_two(root: Path, specs: list[Settings]) -> list[Settings]:
    """The same runs for two processes, trained by them under ``root``."""
    both = [spec.replace(processes=2) for spec in specs]
    for status, said in together.calls(root, functools.partial(train_all, both, root)):
        assert (status, said) == (0, "")
    return both


def assert_same(root: Path, specs: list[Settings]) -> None:
    """Trains each on one process and on two, and compares all that is reported of each step, and the weights."""
    train_all(specs, root)
    for alone, two in zip(specs, on_two(root, specs), strict=True):
        for one, other in zip(*(foresee.load(root / spec.digest).metrics for spec in (alone, two)), strict=True):
            assert other["loss"] == pytest.approx(one["loss"], rel=1e-5), alone
            assert other["parts"] == pytest.approx(one["parts"], rel=1e-4), alone
            assert other["position_loss"] == pytest.approx(one["position_loss"], rel=1e-4), alone
            assert (other["step"], other["examples"], other["lr"]) == (one["step"], one["examples"], one["lr"])
            assert other["eval"].keys() == one["eval"].keys()
        weights = [files.read_tensors(root / spec.digest / "model.safetensors")[0] for spec in (alone, two)]
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
    owns = [rank_batch(data, built, spec, 3, rank) for rank in range(4)]
    assert [row for own, _ in owns for row in own.pairs()] == list(whole.pairs())
    assert {(len(own), own.layout.group, own.layout.shared) for own, _ in owns} == {
        (6, built.group, built.shared_prefix)
    }
    tokens = int(whole.answer_len.sum())
    assert [share for _, share in owns] == [int(own.answer_len.sum()) / tokens for own, _ in owns]


def test_processes_draw_from_streams_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
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
    for world in (World(0, 2), World(1, 2), World(1, 2), World()):
        training = Training(spec.replace(processes=world.world_size), task, data, Model(objective, "cpu", World()))
        training.model.world = world
        train_steps(training, 1)
    assert drawn[1] == drawn[2]
    assert len(set(drawn)) == 3


# What is saved ------------------------------------------------------------------------------------------------------


def test_what_two_processes_leave_is_a_run_like_any_other(tmp_path: Path) -> None:
    (spec,) = on_two(tmp_path, [tiny(steps=5)])
    run = foresee.load(tmp_path / spec.digest)
    assert run.spec == spec
    assert train(spec, tmp_path).rows == run.rows  # finished: no other process is needed
    shown = run.examples[0]
    assert run.generate(shown["prompt"]) == shown["wrote"]
    alone = train(tiny(steps=5), tmp_path)
    assert {path.name for path in run.dir.iterdir()} == {path.name for path in alone.dir.iterdir()}


# Requests -----------------------------------------------------------------------------------------------------------


def test_a_batch_must_divide() -> None:
    with pytest.raises(RequestError, match="batch=16 must be a multiple of 3, processes=3 times accumulate=1"):
        tiny(batch=16, processes=3)
    with pytest.raises(RequestError, match="batch=16 must be a multiple of 32, processes=8 times accumulate=4"):
        tiny(batch=16, processes=8, accumulate=4)
    with pytest.raises(RequestError, match="processes=0 must be at least 1"):
        tiny(processes=0)


def test_another_number_of_processes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="this run is for processes=2, but 1 is running; start it with torchrun"):
        train(tiny(processes=2), tmp_path)
    for rank, (status, said) in enumerate(
        together.calls(tmp_path, functools.partial(train_all, [tiny(processes=4)], tmp_path))
    ):
        assert status == 1
        assert said.splitlines()[-1] == (
            ("foresee.core.errors.RequestError", "foresee.core.errors.OtherProcessError")[rank]
            + ": this run is for processes=4, but 2 are running; start it with torchrun and as many processes"
        )
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]
