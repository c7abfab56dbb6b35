"""Registers: the loss by hand, who reads whom, positions and offsets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from objective_support import assert_loss, rng, scrambled
from support import Stub, random_batch, right_padded
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Attend
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.registers import Registers, register_places, visibility

SYMBOLS, PLACES = 2, 6


class Counting(Stub):
    """A state holds how often each symbol is visible, whether a register is, and its own position, one-hot."""

    def __init__(self, table: Tensor) -> None:
        super().__init__(table, "token")

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        assert isinstance(attend, Tensor)
        assert positions is not None
        hidden = attend.to(x.dtype) @ x
        hidden = hidden + functional.one_hot(positions + SYMBOLS + 1, self.width)
        return hidden if keep is None else hidden[:, keep]


def counting(max_offset: int, weight: float) -> Registers:
    width = SYMBOLS + 1 + PLACES
    table = torch.empty(width, SYMBOLS).normal_(generator=rng())
    made = Registers(Counting(table), Vocabulary(("a", "b")), rng(), max_offset=max_offset, weight=weight)
    with torch.no_grad():
        made.register_table.copy_(torch.eye(width)[[SYMBOLS]])
    return made


def log_probability(made: Any, read: Sequence[int], register: bool, position: int, target: int) -> float:
    """Of ``target`` where the tokens ``read`` are visible."""
    rows = [*read, *([SYMBOLS] if register else []), SYMBOLS + 1 + position]
    scores: Tensor = made.backbone.get_parameter("table")[rows].sum(0)
    return scores.log_softmax(0)[target].item()


def offsets(made: Any, batch: Batch, seed: int = 0) -> Tensor:
    """[B]: the offset of each row, read off the position of the register after the prompt."""
    given: list[Tensor] = []
    hook = made.backbone.register_forward_pre_hook(
        lambda _module, _inputs, options: given.append(options["positions"]), with_kwargs=True
    )
    made.loss(batch, rng(seed))
    hook.remove()
    return given[0][:, batch.layout.last - 1] - batch.prompt_len + 2


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("weight", [0.5, 0.3])
def test_loss_by_hand(weight: float, seed: int) -> None:
    """Prompt "a", answers "b b a" and "a b b"; offsets of 2 or 3."""
    made, rows = counting(3, weight), [[0, 1, 1, 0], [0, 0, 1, 1]]
    batch = Batch.of(torch.tensor(rows), 1, 3)
    drawn = offsets(made, batch, seed).tolist()
    plain, ahead = [], []
    for row, offset in zip(rows, drawn, strict=True):
        for place in range(3):  # reads up to ``place``, predicts the next
            plain.append(log_probability(made, row[: place + 1], False, place, row[place + 1]))
            if place + offset < 4:
                target = place + offset
                ahead.append(log_probability(made, row[: place + 1], True, target - 1, row[target]))
    out = made.loss(batch, rng(seed))
    parts = {"next-token": -(1 - weight) * sum(plain) / 6, "registers": -weight * sum(ahead) / len(ahead)}
    assert_loss(out, parts, [-term for row in (plain[:3], plain[3:]) for term in (0.0, *row)])


@pytest.mark.parametrize("most", [2, 4])
def test_offsets_are_uniform_from_two_on_and_beyond_the_answer_cost_nothing(most: int) -> None:
    """An offset of 1, which would bring the cheat back, never occurs."""
    drawn = offsets(scrambled(f"registers:max_offset={most}"), random_batch(300, 8, 4))
    counts = drawn.bincount(minlength=most + 1).tolist()
    expected = 300 / (most - 1)
    assert counts[:2] == [0, 0]
    assert all(abs(count - expected) < 4 * expected**0.5 for count in counts[2:])
    # Two answer tokens and offsets up to 6: rows that drew more than 2 have no target, and the mean is of the rest.
    made, batch = scrambled("registers:max_offset=6"), random_batch(40, 6, 2)
    some = (torch.randint(2, 7, (40, 1), generator=rng(0)) == 2)[:, 0].nonzero().flatten()
    assert 0 < len(some) < 40
    only = scrambled("registers:max_offset=2").loss(batch.rows(some), rng())
    torch.testing.assert_close(made.loss(batch, rng(0)).parts["registers"], only.parts["registers"])


def test_no_register_reads_another_in_rows_of_differing_lengths() -> None:
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (2, 1), (9, 0)])]
    batch = right_padded(rows, 0)
    regular = batch.layout.last - 1
    visible = visibility(register_places(batch), regular)
    assert torch.equal(visible[:, regular:, regular:], torch.eye(visible.shape[1] - regular).bool().expand(4, -1, -1))
    assert not visible[:, :regular, regular:].any()
