"""The objectives that predict several tokens at a position alike: what is read, shared, dropped and refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from several_tokens import KINDS, predictions, ragged_batches, scrambled
from support import numbered, random_batch

from foresee.backbones.base import Layer
from foresee.backbones.transformer import Transformer
from foresee.core import spec
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import stream, torch_stream
from foresee.objectives import objectives
from foresee.objectives.next_token import NextToken
from foresee.tasks.path_star import PathStar

WITH_LAYERS = ["multi-token:heads=4", "multi-token-sequential:depth=2"]
OBJECTIVES = [*WITH_LAYERS, "joint-multi-token:horizon=3"]


# What is read.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("objective", "before_target"),
    [
        ("multi-token:heads=4", [1, 2, 3, 4]),
        # Teacher-forced: module k at t has read up to t + k, and slot k has been shown it.
        ("multi-token-sequential:depth=3", [1, 1, 1, 1]),
        ("joint-multi-token:horizon=3", [1, 1, 1, 1]),
    ],
)
def test_a_prediction_reads_what_stands_so_far_before_its_target_and_nothing_later(
    objective: str, before_target: list[int], kind: dict[str, Any]
) -> None:
    made, batch = scrambled(objective, **kind), random_batch()
    before = predictions(made, batch)
    assert [each.shape[1] for each in before] == [4, 4, 4, 4]
    for changed in range(10):
        tokens = batch.tokens.clone()
        tokens[:, changed] = (tokens[:, changed] + 3) % 10
        after = predictions(made, Batch.of(tokens, 6, 4))
        for ahead, first, second in zip(before_target, before, after, strict=True):
            moved = (first != second).any(-1).all(0).tolist()
            still = (first == second).all(-1).all(0).tolist()
            assert moved == [changed <= column - ahead for column in range(6, 10)]
            assert still == [not each for each in moved]


@pytest.mark.parametrize(
    ("objective", "beyond"),
    [
        ("multi-token:heads=12", ["head-10", "head-11", "head-12"]),
        ("multi-token-sequential:depth=10", ["module-9", "module-10"]),
        ("joint-multi-token:horizon=10", ["slot-9", "slot-10"]),
    ],
)
def test_what_looks_beyond_the_sequence_adds_nothing(objective: str, beyond: list[str]) -> None:
    out = scrambled(objective).loss(random_batch(), torch_stream("t"))
    assert [name for name, part in out.parts.items() if part == 0] == beyond
    assert out.total.isfinite()


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_rows_that_share_a_prefix_lose_and_score_what_they_do_apart(objective: str) -> None:
    task = PathStar(degree=2, length=3, nodes=10, goals="all")
    batch = task.sample(8, stream("test"))
    shared = batch.sharing(task.group, task.shared_prefix)
    made = scrambled(objective, len(task.vocab))
    with torch.no_grad():
        torch.testing.assert_close(made.forced(shared), made.forced(batch), rtol=1e-4, atol=1e-4)
        apart, together = (made.loss(each, torch_stream("t")) for each in (batch, shared))
    torch.testing.assert_close(together.per_token, apart.per_token)
    torch.testing.assert_close(together.total, apart.total)


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_recomputing_the_backbones_activations_changes_no_gradient(objective: str) -> None:
    made, batch = scrambled(objective), random_batch()
    gradients = []
    for recompute in (False, True):
        made.backbone.recompute = recompute
        gradients.append(torch.autograd.grad(made.loss(batch, torch_stream("t")).total, list(made.parameters())))
    for kept, anew in zip(*gradients, strict=True):
        torch.testing.assert_close(anew, kept)


# Layers beside those of next-token.


@pytest.mark.parametrize("objective", WITH_LAYERS)
def test_decoding_is_next_tokens_and_drops_the_further_layers(objective: str) -> None:
    made, batch = scrambled(objective), random_batch()
    plain = NextToken(made.backbone, made.vocab, torch_stream("t"))
    further = [parameter for name, parameter in made.named_parameters() if not name.startswith("backbone.")]
    assert further
    with torch.no_grad():
        for parameter in further:
            parameter.fill_(float("nan"))
        assert torch.equal(made.generate(batch.prompts, 4), plain.generate(batch.prompts, 4))
        forced = made.forced(batch)
        assert forced is not None
        assert torch.equal(forced, plain.forced(batch))


@pytest.mark.parametrize("objective", WITH_LAYERS)
def test_the_next_token_part_is_next_tokens_loss(objective: str) -> None:
    made, batch = scrambled(objective), ragged_batches(0)[0][0]
    plain = NextToken(made.backbone, made.vocab, torch_stream("t")).loss(batch, torch_stream("t"))
    out = made.loss(batch, torch_stream("t"))
    torch.testing.assert_close(out.parts["next-token"], plain.total)
    torch.testing.assert_close(out.per_token, plain.per_token)


@pytest.mark.parametrize("name", ["multi-token", "multi-token-sequential"])
def test_a_backbone_without_single_layers_is_refused_with_the_objective_named(name: str) -> None:
    class Whole(Transformer):
        def last_layer(self, generator: torch.Generator) -> Layer:  # type: ignore[override]  # it has none
            raise RequestError("backbone 'whole' has no single layer to build a head from")

    backbone = Whole(numbered(13), torch_stream("t"), layers=1, width=16, heads=2)
    with pytest.raises(RequestError, match=f"^objective '{name}' adds layers .* backbone 'whole' has no single"):
        spec.resolve(objectives, name).build(backbone, numbered(13), torch_stream("t"))


# Options.


@pytest.mark.parametrize("weight", ["0.0", "nan", "inf"])
@pytest.mark.parametrize("name", ["multi-token", "multi-token-sequential", "joint-multi-token"])
def test_impossible_weights_are_refused(name: str, weight: str) -> None:
    with pytest.raises(RequestError, match=f"^{name}: weight={weight} must be above 0 and finite$"):
        scrambled(f"{name}:weight={weight}")


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ("multi-token:heads=1", "must be at least 2, one head alone is next-token"),
        ("multi-token:heads=0", "must be at least 2, one head alone is next-token"),
        ("multi-token-sequential:depth=0", "must be at least 1"),
        ("joint-multi-token:horizon=0", "must be at least 1"),
        ("joint-multi-token:heads=3", "must divide the backbone's width, 32"),
        ("joint-multi-token:heads=0", "must divide the backbone's width, 32"),
    ],
)
def test_impossible_sizes_are_refused(objective: str, reason: str) -> None:
    with pytest.raises(RequestError, match=f"^{objective.replace(':', ': ')} {reason}$"):
        scrambled(objective)
