"""A recorded step: it can be recorded, and does what the step does that is taken as ever."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from objective_support import rng, scrambled, shared_batch
from support import random_batch
from tiny import tiny

from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning
from foresee.experiments.bench import TrainingStep
from foresee.objectives.base import objectives
from foresee.objectives.next_token import NextToken
from foresee.tasks.base import Task
from foresee.training import batched, step
from foresee.training.batched import train_batched
from foresee.training.data import TrainingData
from foresee.training.examples import batch_of as whole_batch
from foresee.training.loop import train as train_run
from foresee.training.settings import Settings
from foresee.training.step import RecordedStep, Training

Work = Callable[[], object]
RECORDABLE = [
    name
    for name in (*objectives.names(), "next-latent:teacher=reversed")
    if objectives.get(name.partition(":")[0]).recordable
]


@pytest.mark.parametrize("batch", [random_batch(), shared_batch()], ids=["rows", "groups"])
@pytest.mark.parametrize("objective", RECORDABLE)
def test_a_loss_that_is_recorded_reads_no_values(objective: str, batch: Batch) -> None:
    """Tensors on the device ``meta`` have none."""
    made = scrambled(objective).to("meta")
    out = made.loss(batch.to("meta"), rng())
    out.total.backward()
    assert out.total.is_meta


def test_what_may_differ_from_step_to_step_is_not_recorded() -> None:
    class Own(NextToken):
        """It may count its calls."""

    assert [each.recordable for each in (NextToken, Own)] == [True, False]
    for objective in ("multi-token:curriculum=forward", "masked-diffusion:weighting=elbo", "future-insertion"):
        assert not scrambled(objective).recordable
    assert TrainingStep(tiny()).training.recorded is None  # no CUDA device


def train(spec: Settings, *, ordinary: int = 2, steps: int = 12) -> TrainingStep:
    """Of its own steps ``ordinary`` are taken as ever before one is recorded."""
    made = TrainingStep(spec)
    if made.training.recorded is not None:
        made.training.recorded.ordinary = ordinary
    for _ in range(steps):
        made()
    return made


def require_alike(one: TrainingStep, other: TrainingStep, tolerance: float = 0.0) -> None:
    assert one.step == other.step
    losses, others = one.training.losses, other.training.losses
    assert losses.means(12) == pytest.approx(others.means(12), rel=tolerance, abs=0)
    assert losses.by_position() == pytest.approx(others.by_position(), rel=tolerance, abs=0)
    for name, weight in one.objective.named_parameters():
        torch.testing.assert_close(weight, other.objective.get_parameter(name), rtol=10 * tolerance, atol=tolerance)


@pytest.fixture
def _recording(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording that does the work anew each time that it is played, on the CPU."""

    def record(
        work: Callable[[], object], rehearse: Callable[[], object], streams: Sequence[torch.Generator]
    ) -> Callable[[], object]:
        rehearse()
        return work

    def can_record(training: Training) -> bool:
        return training.model.objective.recordable

    for module in (step, batched):
        monkeypatch.setattr(module, "can_record", can_record)
    monkeypatch.setattr(step, "record", record)


@pytest.mark.usefixtures("_recording")
@pytest.mark.parametrize("objective", RECORDABLE)
def test_playing_a_step_is_taking_it(objective: str) -> None:
    spec = tiny(objective, precision="float32", warmup=5)
    played = train(spec)
    assert played.training.recorded is not None
    assert played.training.recorded.recorded
    require_alike(played, train(spec, ordinary=100))


@pytest.mark.usefixtures("_recording")
def test_batches_of_another_form_are_taken_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = [8, 8, 8, 4, 8, 8]

    def batch_of(data: TrainingData, task: Task, spec: Settings, number: int) -> Batch:
        return whole_batch(data, task, spec, number).rows(slice(0, sizes[number]))

    monkeypatch.setattr(step, "batch_of", batch_of)
    spec = tiny("token-masking", precision="float32", batch=8)
    require_alike(train(spec, steps=6), train(spec, ordinary=100, steps=6))


@pytest.mark.usefixtures("_recording")
def test_what_cannot_be_recorded_is_said_once_and_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_given: object) -> None:
        raise RuntimeError("capture failed")

    monkeypatch.setattr(step, "record", fail)
    spec = tiny(precision="float32")
    with pytest.warns(ForeseeWarning, match="steps of next-token could not be recorded.*capture failed"):
        tried = train(spec, steps=4)
    require_alike(tried, train(spec, ordinary=100, steps=4))


@pytest.mark.usefixtures("_recording")
@pytest.mark.parametrize("objective", ["next-token", "masked-diffusion", "insertion", "next-latent:teacher=reversed"])
def test_several_seeds_are_recorded_as_one_program(objective: str, tmp_path: Path) -> None:
    specs = [tiny(objective, seed=seed, precision="float32", steps=6, eval_every=3, test=40) for seed in (0, 1)]
    recorded: list[RecordedStep] = []
    stack = batched.Stack

    class Watched(stack):  # type: ignore[misc, valid-type]
        def __init__(self, trainings: Sequence[Training]) -> None:
            super().__init__(trainings)
            recorded.append(self.recorded)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(batched, "Stack", Watched)
        together = train_batched(specs, tmp_path / "together")
    assert [each.recorded for each in recorded] == [True]
    for run, spec in zip(together, specs, strict=True):
        alone = train_run(spec, tmp_path / "alone")
        assert [line["loss"] for line in run.metrics] == pytest.approx([line["loss"] for line in alone.metrics])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a CUDA device alone")
@pytest.mark.parametrize("objective", RECORDABLE)
def test_a_cuda_graph_does_what_an_ordinary_step_does(objective: str) -> None:
    spec = tiny(objective, device="cuda", precision="float32", warmup=5)
    require_alike(train(spec), train(spec, ordinary=100), 1e-4)
