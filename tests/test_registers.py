"""Registers: the loss by hand, who reads whom, positions and offsets, and that nothing of them is left at decoding."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import pytest
import torch
from support import SMALL, VOCAB, Stub, build, random_batch, right_padded, scramble
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Attend, Cap
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import torch_stream
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.next_token import NextToken
from foresee.objectives.registers import Registers, register_places, visibility

CAPABLE = [name for name in SMALL if name.startswith("transformer") and "positions=none" not in name]
FIRST = CAPABLE[0]

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
    table = torch.empty(width, SYMBOLS).normal_(generator=torch_stream("table"))
    made = Registers(
        Counting(table), Vocabulary(("a", "b")), torch_stream("by hand"), max_offset=max_offset, weight=weight
    )
    with torch.no_grad():
        made.register_table.copy_(torch.eye(width)[[SYMBOLS]])
    return made


def log_probability(made: Registers, read: Sequence[int], register: bool, position: int, target: int) -> float:
    """Of ``target`` where the tokens ``read`` are visible, number by number."""
    table: list[list[float]] = made.backbone.get_parameter("table").tolist()
    rows = [*read, *([SYMBOLS] if register else []), SYMBOLS + 1 + position]
    scores = [sum(table[row][symbol] for row in rows) for symbol in range(SYMBOLS)]
    return scores[target] - log(sum(exp(score) for score in scores))


def scrambled(spec: str = "registers", backbone: str = FIRST) -> Registers:
    made = build(spec, backbone)
    assert isinstance(made, Registers)
    scramble(made)
    return made


def read(made: Registers, batch: Batch, seed: str = "draws") -> tuple[dict[str, Tensor], Tensor]:
    """What the backbone was told besides its inputs, and its states [B, A + R, D] from ``=`` on."""
    told: list[dict[str, Tensor]] = []
    states: list[Tensor] = []

    def look(_module: nn.Module, _inputs: object, options: dict[str, Tensor], output: Tensor) -> None:
        told.append(options)
        states.append(output.detach())

    hook = made.backbone.register_forward_hook(look, with_kwargs=True)
    try:
        made.loss(batch, torch_stream(seed))
    finally:
        hook.remove()
    return told[0], states[0]


def offsets(made: Registers, batch: Batch, seed: str = "draws") -> Tensor:
    """[B]: the offset of each row, read off the position of the register after the prompt."""
    told, _ = read(made, batch, seed)
    return told["positions"][:, batch.layout.last - 1] - batch.prompt_len + 2


# The loss.


@pytest.mark.parametrize("seed", ["one", "two", "three"])
@pytest.mark.parametrize("weight", [0.5, 0.3])
def test_loss_by_hand(weight: float, seed: str) -> None:
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
    out = made.loss(batch, torch_stream(seed))
    assert list(out.parts) == ["next-token", "registers"]
    assert out.parts["next-token"].item() == pytest.approx(-(1 - weight) * sum(plain) / 6, rel=1e-5)
    assert out.parts["registers"].item() == pytest.approx(-weight * sum(ahead) / len(ahead), rel=1e-5)
    assert out.total.item() == pytest.approx(sum(part.item() for part in out.parts.values()), rel=1e-5)
    assert out.per_token[:, 1:].flatten().tolist() == pytest.approx([-term for term in plain], rel=1e-5)
    assert not out.per_token[:, 0].any()


@pytest.mark.parametrize("backbone", CAPABLE)
def test_ragged_rows_lose_what_they_lose_alone_whatever_the_padding(backbone: str) -> None:
    """With one possible offset, 2: as many registers have a target as a row has answer tokens, less one."""
    made = scrambled("registers:max_offset=2", backbone)
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 1)])]
    alone = [made.loss(row, torch_stream("none")).parts["registers"] * (row.layout.width - 1) for row in rows]
    for padding in (0, 12):
        together = made.loss(right_padded(rows, padding), torch_stream("none")).parts["registers"]
        torch.testing.assert_close(together, torch.stack(alone).sum() / 7)


def test_answers_of_one_token_have_no_registers() -> None:
    out = scrambled().loss(random_batch(4, 6, 1), torch_stream("none"))
    assert out.parts["registers"].item() == 0
    assert out.total.isfinite()


def test_offsets_beyond_the_answer_cost_nothing() -> None:
    """Two answer tokens and offsets up to 6: rows that drew more than 2 have no target, and the mean is of the rest."""
    made, batch = scrambled("registers:max_offset=6"), random_batch(40, 6, 2)
    drawn = torch.randint(2, 7, (40, 1), generator=torch_stream("draws"))
    some = (drawn == 2)[:, 0].nonzero().flatten()
    assert 0 < len(some) < 40
    only = scrambled("registers:max_offset=2").loss(batch.rows(some), torch_stream("none"))
    torch.testing.assert_close(made.loss(batch, torch_stream("draws")).parts["registers"], only.parts["registers"])


# Offsets and positions.


@pytest.mark.parametrize("most", [2, 4])
def test_offsets_are_uniform_from_two_on(most: int) -> None:
    """An offset of 1, which would bring the cheat back, never occurs."""
    drawn = offsets(scrambled(f"registers:max_offset={most}"), random_batch(300, 8, 4))
    counts = drawn.bincount(minlength=most + 1).tolist()
    expected = 300 / (most - 1)
    assert counts[:2] == [0, 0]
    assert all(abs(count - expected) < 4 * expected**0.5 for count in counts[2:])


def test_a_register_stands_just_before_its_target() -> None:
    made, batch = scrambled(), random_batch()
    told, _ = read(made, batch)
    assert torch.equal(told["positions"][:, :9], torch.arange(9).expand(16, -1))
    drawn = offsets(made, batch)
    for row in range(16):
        for number in range(3):  # after columns 5, 6 and 7
            before_target = 5 + number + int(drawn[row]) - 1
            assert told["positions"][row, 9 + number] == min(before_target, 8)


def test_only_registers_depend_on_the_draw() -> None:
    made, batch = scrambled(), random_batch()
    (_, once), (_, again) = read(made, batch, "one"), read(made, batch, "two")
    differ = offsets(made, batch, "one") != offsets(made, batch, "two")
    assert differ.any()
    assert torch.equal(once[:, :4], again[:, :4])
    assert torch.equal((once != again).any(-1)[:, 4], differ)


# Who reads whom.


@pytest.mark.parametrize("backbone", CAPABLE)
def test_regular_tokens_are_those_of_next_token(backbone: str) -> None:
    made, batch = scrambled(backbone=backbone), random_batch()
    _, states = read(made, batch)
    with torch.no_grad():
        plain = made.backbone(made.backbone.embed(batch.tokens[:, :9]), keep=slice(5, 9))
    torch.testing.assert_close(states[:, :4], plain)
    made.register_table.data.normal_(generator=torch_stream("other registers"))
    _, changed = read(made, batch)
    assert torch.equal(states[:, :4], changed[:, :4])
    assert (states != changed).any(-1)[:, 4:].all()


@pytest.mark.parametrize("backbone", CAPABLE)
def test_a_register_has_read_what_the_token_before_it_has(backbone: str) -> None:
    """Ten columns, of which the last is never shown; registers come after columns 5, 6 and 7."""
    made, batch = scrambled(backbone=backbone), random_batch()
    _, before = read(made, batch)
    for column in range(10):
        tokens = batch.tokens.clone()
        tokens[:, column] = (tokens[:, column] + 3) % 10
        _, after = read(made, Batch.of(tokens, 6, 4))
        moved = (before != after).any(-1)
        assert moved.all(0).tolist() == moved.any(0).tolist() == [
            column <= place for place in (5, 6, 7, 8, 5, 6, 7)
        ]  # fmt: skip


def test_visibility_of_a_small_case() -> None:
    """Prompt of one, answer of three: columns 0, 1, 2, then registers after columns 0 and 1."""
    after = register_places(Batch.of(torch.zeros(1, 4, dtype=torch.int64), 1, 3))
    assert after.tolist() == [[0, 1]]
    assert visibility(after, 3)[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 0, 0, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_no_register_reads_another_in_rows_of_differing_lengths() -> None:
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (2, 1), (9, 0)])]
    batch = right_padded(rows, 0)
    regular = batch.layout.last - 1
    visible = visibility(register_places(batch), regular)
    assert torch.equal(visible[:, regular:, regular:], torch.eye(visible.shape[1] - regular).bool().expand(4, -1, -1))
    assert not visible[:, :regular, regular:].any()


@pytest.mark.parametrize("backbone", CAPABLE)
def test_registers_appended_are_registers_interleaved(backbone: str) -> None:
    """The paper's order: prompt, register, token, register, token, ..., with its mask written out."""
    made, batch = scrambled(backbone=backbone), random_batch()
    drawn, (_, states) = offsets(made, batch), read(made, batch)
    order: list[tuple[int, bool]] = []  # (column, whether it is the register after it)
    for column in range(9):
        order.append((column, False))
        if 5 <= column <= 7:
            order.append((column, True))
    visible = [
        [theirs <= mine and (not is_register or me == it) for it, (theirs, is_register) in enumerate(order)]
        for me, (mine, _) in enumerate(order)
    ]
    embedded = made.backbone.embed(batch.tokens[:, :9])
    with torch.no_grad():
        inputs = [
            made.register_table.expand(16, -1) if is_register else embedded[:, column] for column, is_register in order
        ]
        positions = [
            (column + drawn - 1).clamp_max(8) if is_register else torch.full_like(drawn, column)
            for column, is_register in order
        ]
        interleaved = made.backbone(
            torch.stack(inputs, 1), attend=torch.tensor(visible)[None], positions=torch.stack(positions, 1)
        )
    places = [order.index((column, False)) for column in (5, 6, 7, 8)]
    places += [order.index((column, True)) for column in (5, 6, 7)]
    torch.testing.assert_close(interleaved[:, places], states)


# Nothing is left at decoding.


@pytest.mark.parametrize("backbone", CAPABLE)
def test_decoding_and_forcing_are_next_tokens_own(backbone: str) -> None:
    made, batch = scrambled(backbone=backbone), random_batch()
    plain = NextToken(made.backbone, made.vocab, torch_stream("none"))
    with torch.no_grad():
        assert torch.equal(made.generate(batch.prompts, 4), plain.generate(batch.prompts, 4))
        assert torch.equal(made.forced(batch), plain.forced(batch))
        lost, plainly = made.loss(batch, torch_stream("none")), plain.loss(batch, torch_stream("none"))
    torch.testing.assert_close(lost.per_token, plainly.per_token)
    torch.testing.assert_close(lost.parts["next-token"], 0.5 * plainly.total)


@pytest.mark.parametrize("backbone", CAPABLE)
def test_one_embedding_is_added_and_no_symbol(backbone: str) -> None:
    made, plain = build("registers", backbone), build("next-token", backbone)
    added = sum(p.numel() for p in made.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == made.backbone.width
    assert made.vocab == VOCAB


@pytest.mark.parametrize("backbone", [name for name in SMALL if name not in CAPABLE])
def test_backbones_without_masks_or_positions_are_refused(backbone: str) -> None:
    with pytest.raises(RequestError, match=r"^objective 'registers' needs (POSITIONS|VISIBILITY) \("):
        build("registers", backbone)


def test_both_capabilities_are_needed() -> None:
    assert Registers.needs == {Cap.VISIBILITY, Cap.POSITIONS}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("max_offset=1", r"^registers: max_offset=1 must be at least 2$"),
        ("weight=0", r"^registers: weight=0\.0 must be above 0 and below 1$"),
        ("weight=1", r"^registers: weight=1\.0 must be above 0 and below 1$"),
        ("weight=nan", r"^registers: weight=nan must be above 0 and below 1$"),
    ],
)
def test_impossible_options_are_refused(spec: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        build(f"registers:{spec}", FIRST)
