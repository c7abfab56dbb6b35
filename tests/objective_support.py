"""What tests of objectives share: objectives with weights that hide nothing, batches, and looks at what is read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from support import SMALL, build, random_batch, right_padded, scramble
from torch import Tensor

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.objectives import LossOut, Objective, objectives

LEARNED, ROTARY, POSITIONLESS = list(SMALL)[:3]
SHAPES = [(3, 4), (6, 2), (4, 4), (3, 1), (6, 4), (4, 2)]
"""Prompt and answer lengths of rows that differ in both."""

OBJECTIVES = [
    *objectives.names(), "teacherless:hybrid=0.5", "next-latent:latents=answer",
    "next-latent:teacher=reversed", "next-latent:teacher=teacherless,latents=answer", "masked-diffusion:weighting=elbo",
    "masked-diffusion:weighting=mgdm,steps=2", "token-masking:choose=span", "token-masking:replace=random",
    "future-insertion:place=random", "future-insertion:plan=true", "future-bag:reduction=sum",
    "ranking-future:negatives=prompt", "any-order:table=shared", "any-order:table=shared,decode=goal-first",
    "any-order:decode=confident",
]  # fmt: skip


def rng(*key: int | str) -> torch.Generator:
    return seeds.torch_stream("objective", *key)


def scrambled(objective: str, backbone: str = LEARNED) -> Any:
    """With weights large enough that anything read shows in the output."""
    made = build(objective, backbone)
    scramble(made)
    return made


def assert_loss(out: LossOut, parts: dict[str, float], per_token: Sequence[float], rel: float = 1e-5) -> None:
    """A loss is the sum of these parts, and ``per_token`` [B * T] what each token loses, from the first answer token on
    where there are fewer than tokens; nothing before them."""
    found = out.per_token.flatten().tolist()
    assert list(out.parts) == list(parts)
    assert [part.item() for part in out.parts.values()] == pytest.approx(list(parts.values()), rel=rel)
    assert out.total.item() == pytest.approx(sum(parts.values()), rel=rel)
    assert found == pytest.approx([0.0] * (len(found) - len(per_token)) + list(per_token), rel=rel)


def draws(objective: str) -> bool:
    """Whether its loss draws numbers: then only some tokens lose something at a time."""
    unused, used = rng(), rng()
    build(objective, LEARNED).loss(random_batch(), used)
    return not torch.equal(unused.get_state(), used.get_state())


def ragged_rows(shapes: list[tuple[int, int]] = SHAPES) -> list[Batch]:
    """Batches of one row each."""
    return [random_batch(1, *shape, seed=number) for number, shape in enumerate(shapes)]


def ragged_batch(padding: int = 0) -> Batch:
    return right_padded(ragged_rows(), padding)


def shared_batch() -> Batch:
    """Pairs of rows that share all of the prompt but its last token; they do not say so."""
    tokens = random_batch(8).tokens
    tokens[1::2, :5] = tokens[::2, :5]
    tokens[:, 5] = torch.arange(8)
    return Batch.of(tokens, 6, 4)


def change(batch: Batch, column: int) -> Batch:
    """The batch with the token at ``column`` replaced by another digit in every row."""
    tokens = batch.tokens.clone()
    tokens[:, column] = (tokens[:, column] + 3) % 10
    return replace(batch, tokens=tokens)


@contextmanager
def embedded_tokens(objective: Objective) -> Iterator[list[Tensor]]:
    """The tokens that the backbone embeds meanwhile."""
    seen: list[Tensor] = []
    embed = objective.backbone.embed

    def spy(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        return embed(tokens)

    objective.backbone.embed = spy  # type: ignore[method-assign]  # removed again below
    try:
        yield seen
    finally:
        del objective.backbone.embed


def inputs_of(objective: Objective, batch: Batch, generator: torch.Generator | None = None) -> Tensor:
    """The tokens that the loss reads first."""
    with embedded_tokens(objective) as seen:
        objective.loss(batch, generator or rng())
    return seen[0]


def head_outputs(objective: Objective, batch: Batch) -> list[Tensor]:
    """Logits [B, K, V] of each part of the loss, in its order."""
    seen: list[Tensor] = []
    logits = objective.backbone.logits

    def spy(hidden: Tensor) -> Tensor:
        seen.append(logits(hidden).detach())
        return seen[-1]

    objective.backbone.logits = spy  # type: ignore[method-assign]  # removed again below
    try:
        objective.loss(batch, rng())
    finally:
        del objective.backbone.logits
    return seen
