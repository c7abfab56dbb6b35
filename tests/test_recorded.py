"""A recorded step: it can be recorded, and does what the step does that is taken as ever."""

from __future__ import annotations

import pytest
import torch
from objective_support import rng, scrambled, shared_batch
from support import random_batch
from tiny import tiny

from foresee.core.batch import Batch
from foresee.experiments.bench import TrainingStep
from foresee.objectives.base import objectives
from foresee.objectives.next_token import NextToken

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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="records on a CUDA device alone")
@pytest.mark.parametrize("objective", RECORDABLE)
def test_a_recorded_step_does_what_an_ordinary_one_does(objective: str) -> None:
    def train(ordinary: int) -> TrainingStep:
        made = TrainingStep(tiny(objective, device="cuda", precision="float32", warmup=5))
        assert made.training.recorded is not None
        made.training.recorded.ordinary = ordinary
        for _ in range(12):
            made()
        assert made.training.recorded.recorded is (ordinary == 2)
        return made

    recorded, ordinary = train(2), train(100)
    assert recorded.training.losses.means(12) == pytest.approx(ordinary.training.losses.means(12), rel=1e-4)
    assert recorded.training.losses.by_position() == pytest.approx(ordinary.training.losses.by_position(), rel=1e-4)
    for name, weight in recorded.objective.named_parameters():
        torch.testing.assert_close(weight, ordinary.objective.get_parameter(name), rtol=1e-3, atol=1e-4)
