"""Several seeds as one program: each has the results that it would have alone, and may go on alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import EASY, SOLVING, tiny

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.experiments.engine import Batched
from foresee.experiments.runner import run_all
from foresee.objectives.base import objectives
from foresee.training import batched
from foresee.training.batched import train_batched
from foresee.training.loop import InterruptedTrainingError, train
from foresee.training.records import value_of
from foresee.training.run import Run, load
from foresee.training.settings import Settings

BATCHABLE = [name for name in objectives.names() if objectives.get(name).batchable]
OTHERS = (
    "teacherless:hybrid=0.5", "masked-diffusion:weighting=elbo", "masked-diffusion:weighting=mgdm",
    "token-masking:choose=span,replace=random", "next-latent:teacher=reversed",
)  # fmt: skip
"""Options that draw or compute in another way."""
SHORT: dict[str, Any] = {"steps": 4, "eval_every": 2, "test": 40, "warmup": 1, "batch": 16, "precision": "float32"}


def seeds(number: int, objective: str = "next-token", **settings: Any) -> list[Settings]:
    return [tiny(objective, **{**SHORT, **settings}, seed=seed) for seed in range(number)]


def losses(run: Run) -> list[float]:
    return [line["loss"] for line in run.metrics]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return files.read_tensors(run.dir / "model.safetensors")[0]


def require_alike(together: Run, alone: Run, tolerance: float = 1e-5) -> None:
    assert together.spec == alone.spec
    assert losses(together) == pytest.approx(losses(alone), rel=tolerance)
    for line, other in zip(together.metrics, alone.metrics, strict=True):
        assert line["position_loss"] == pytest.approx(other["position_loss"], rel=10 * tolerance, abs=1e-6)
        assert line["parts"] == pytest.approx(other["parts"], rel=10 * tolerance, abs=1e-6)
    assert {path.name for path in together.dir.iterdir()} == {path.name for path in alone.dir.iterdir()}


MIXED = "path-star:degree=2,length=4,nodes=8,sizes=mixed"
QUICK = ("multi-token", "belief-state", "teacherless", "masked-diffusion")


@pytest.mark.parametrize(
    "objective",
    [each if each in QUICK else pytest.param(each, marks=pytest.mark.slow) for each in (*BATCHABLE, *OTHERS)],
)
def test_each_run_has_what_it_would_have_alone(objective: str, tmp_path: Path) -> None:
    asked = seeds(3, objective)
    found = train_batched(asked, tmp_path / "together")
    for run, spec in zip(found, asked, strict=True):
        alone = train(spec, tmp_path / "alone")
        require_alike(run, alone)
        for name, value in weights(alone).items():
            torch.testing.assert_close(weights(run)[name], value, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("objective", ["next-token", "reversed", "multi-token", "teacherless", "next-latent"])
def test_answers_of_several_lengths_go_along(objective: str, tmp_path: Path) -> None:
    asked = seeds(3, objective, task=MIXED)
    for run, spec in zip(train_batched(asked, tmp_path / "together"), asked, strict=True):
        require_alike(run, train(spec, tmp_path / "alone"))


@pytest.mark.parametrize(
    ("asked", "tolerance"),
    [
        (seeds(2, precision="bf16"), 1e-3),  # differs by its rounding alone
        # A curriculum and weights without a gradient go along.
        (seeds(2, "multi-token:heads=3,curriculum=forward", steps=6, weight_decay=0.5), 1e-5),
    ],
)
def test_bfloat16_and_a_curriculum_go_along(asked: list[Settings], tolerance: float, tmp_path: Path) -> None:
    for run, spec in zip(train_batched(asked, tmp_path / "together"), asked, strict=True):
        require_alike(run, train(spec, tmp_path / "alone"), tolerance)


def test_runs_of_one_program_may_have_optimizers_of_their_own(tmp_path: Path) -> None:
    changes: list[dict[str, Any]] = [
        {"lr": 3e-3, "clip": 0.0}, {"lr": 1e-3, "warmup": 0, "seed": 1}, {"schedule": "cosine", "beta2": 0.9},
    ]  # fmt: skip
    asked = [tiny(**{**SHORT, **change}) for change in changes]
    for run, spec in zip(train_batched(asked, tmp_path / "together"), asked, strict=True):
        alone = train(spec, tmp_path / "alone")
        require_alike(run, alone)
        assert [line["lr"] for line in run.metrics] == [line["lr"] for line in alone.metrics]


def test_all_objectives_are_batchable_but_those_that_divide_their_rows_by_chance() -> None:
    assert [name for name in objectives.names() if name not in BATCHABLE] == ["future-insertion"]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (lambda: seeds(2, "future-insertion"), "future-insertion.* computes what cannot be batched"),
        (lambda: seeds(2, backbone="mamba:layers=1,width=16"), "backbone mamba.* computes what cannot be batched"),
        (lambda: seeds(2, accumulate=2), "each takes its batch in parts"),
        (lambda: [tiny(**SHORT), tiny(**{**SHORT, "eval_every": 4})], "differ in no more than .*, lr, .*; train these"),
        (lambda: seeds(2, "masked-diffusion", task=MIXED), "their answers differ in length, and what is drawn"),
        (lambda: seeds(2, "belief-state", task=MIXED), "belief-state cannot be batched"),
    ],
)
def test_others_are_refused_in_a_sentence(asked: Callable[[], list[Settings]], says: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=says):
        train_batched(asked(), tmp_path)


def test_one_that_has_solved_leaves_and_the_others_go_on(tmp_path: Path) -> None:
    asked = [
        tiny(task=EASY, **(SOLVING | {"until_solved": True, "precision": "float32"}), seed=seed) for seed in (0, 1)
    ]
    found = train_batched(asked, tmp_path / "together")
    alone = [train(spec, tmp_path / "alone") for spec in asked]
    assert [run.steps for run in found] == [run.steps for run in alone]
    assert [value_of(run.rows) for run in found] == pytest.approx([value_of(run.rows) for run in alone], abs=0.05)


def test_what_has_ended_is_measured_though_the_others_are_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        tiny(task=EASY, **(SOLVING | {"until_solved": True, "precision": "float32"}), seed=seed) for seed in (0, 1)
    ]

    def measured() -> list[bool]:
        return [(tmp_path / spec.digest / "rows.jsonl").exists() for spec in asked]

    loop = batched.train_together
    with monkeypatch.context() as patched:
        patched.setattr(batched, "train_together", lambda going, _: loop(going, lambda: any(measured())))
        with pytest.raises(InterruptedTrainingError):
            train_batched(asked, tmp_path)
    assert sorted(measured()) == [False, True]
    assert all(run.rows for run in train_batched(asked, tmp_path))


def test_a_signal_while_the_last_is_measured_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = seeds(2)

    @contextmanager
    def signalled() -> Iterator[Callable[[], bool]]:
        yield lambda: all((tmp_path / spec.digest / "rows.jsonl").exists() for spec in asked)

    monkeypatch.setattr(batched, "stop_signals", signalled)
    with pytest.raises(InterruptedTrainingError, match="the runs of this program are finished"):
        train_batched(asked, tmp_path)
    assert all(load(tmp_path / spec.digest).rows for spec in asked)


def interrupted(asked: list[Settings], root: Path, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stops once so many steps are done."""
    steps = count(1)
    with monkeypatch.context() as patched:
        loop = batched.train_together
        patched.setattr(batched, "train_together", lambda going, _: loop(going, lambda: next(steps) == after))
        with pytest.raises(InterruptedTrainingError, match=f"stopped at step {after} of"):
            train_batched(asked, root)


def test_an_interrupted_program_goes_on_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = seeds(2)
    interrupted(asked, tmp_path / "stopped", 3, monkeypatch)
    stopped, whole = (train_batched(asked, tmp_path / name) for name in ("stopped", "whole"))
    for run, other in zip(stopped, whole, strict=True):
        assert losses(run) == losses(other)
        torch.testing.assert_close(weights(run), weights(other), rtol=0, atol=0)


def test_a_run_saved_earlier_catches_up_or_goes_on_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, alone = seeds(3), tmp_path / "alone"
    interrupted(asked[:1], tmp_path / "together", 3, monkeypatch)
    interrupted(asked[1:2], tmp_path / "together", 1, monkeypatch)
    for run, spec in zip(train_batched(asked, tmp_path / "together"), asked, strict=True):
        require_alike(run, train(spec, alone))
    interrupted(asked[:2], tmp_path / "apart", 3, monkeypatch)
    require_alike(train(asked[1], tmp_path / "apart"), train(asked[1], alone))


def test_the_engine_batches_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs: list[list[int]] = []

    def noted(specs: list[Settings], root: Path) -> list[Run]:
        programs.append([spec.seed for spec in specs])
        return train_batched(specs, root)

    monkeypatch.setattr("foresee.training.batched.train_batched", noted)
    asked = [*seeds(3), *seeds(2, "future-insertion"), *seeds(1, "reversed")]
    engine = Batched()
    runs = run_all(asked, tmp_path, engine=engine)
    assert [run.spec for run in runs] == asked
    assert all(run.rows for run in runs)
    assert programs == [[0, 1, 2], [0, 1]]  # future-insertion is refused there, and trained one by one
    assert engine.plan([]) == "0 programs of 0 runs, one after the other"
