"""Any-order: which orders are drawn, which places inputs carry, and what each prediction may read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import log
from typing import Any

import pytest
import torch
from objective_support import LEARNED, ROTARY, assert_loss, rng, scrambled
from refusals import refused
from support import Stub, build, random_batch, right_padded
from torch import Tensor

from foresee.backbones import Attend, Cap
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import any_order
from foresee.objectives.any_order import AnyOrder, draw_order


def order_of(monkeypatch: pytest.MonkeyPatch, *answer: int) -> None:
    """Every row of a uniform batch is read in this order of its answer's places."""

    def order(batch: Batch, *_: object) -> Tensor:
        columns = torch.arange(batch.tokens.shape[1]).repeat(len(batch), 1)
        columns[:, batch.layout.first : batch.layout.last] = batch.layout.first + torch.tensor(answer)
        return columns

    monkeypatch.setattr(any_order, "draw_order", order)


AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4], [2 / 3, 1 / 3]])

FOR_PLACE = torch.tensor([[1.0, 1.0], [1.0, 2.0], [1.0, 1.0], [3.0, 1.0]])
"""Row t: factors of the odds of a and b where the next token stands at place t."""


class Signposts(Stub):
    """Logits that are a sum of two known tables: of the token read, and of the place it is given."""

    def __init__(self) -> None:
        super().__init__(torch.cat((AFTER_TOKEN.log(), FOR_PLACE.log())), "token")
        self.given: list[Tensor | None] = []

    @property
    def longest(self) -> int:
        return 4

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        assert attend == "causal"
        self.given.append(positions)
        return super().forward(x, keep=keep)


@pytest.mark.parametrize(
    ("order", "probabilities"),
    [
        # From left to right: a carries place 1, b place 2, b place 3; predicts b, b, a.
        ((0, 1, 2), [(3 / 4 * 2) / (3 / 4 * 2 + 1 / 4), 1 / 3, (2 / 3 * 3) / (2 / 3 * 3 + 1 / 3)]),
        # Place 3 first: a carries place 3 and predicts a; a carries place 1, predicts b; b carries place 2, predicts b.
        ((2, 0, 1), [(3 / 4 * 2) / (3 / 4 * 2 + 1 / 4), 1 / 3, (1 / 4 * 3) / (1 / 4 * 3 + 3 / 4)]),
        # Place 2, 1, 3: a carries 2, predicts b; b carries 1, predicts b; b carries 3, predicts a.
        ((1, 0, 2), [(1 / 3 * 2) / (1 / 3 * 2 + 2 / 3), 3 / 4, (2 / 3 * 3) / (2 / 3 * 3 + 1 / 3)]),
    ],
)
def test_loss_by_hand(order: tuple[int, int, int], probabilities: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """``probabilities`` are of the answer's tokens in the task's own order."""
    order_of(monkeypatch, *order)
    backbone = Signposts()
    objective = AnyOrder(backbone, Vocabulary(("a", "b")), rng())
    with torch.no_grad():
        objective.target_table.copy_(torch.eye(6)[2:])
    out = objective.loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    assert_loss(out, {"any-order": -sum(map(log, probabilities)) / 3}, [-log(each) for each in probabilities])
    (given,) = backbone.given
    assert given is not None
    assert given.tolist() == [[0, *(1 + place for place in order[:-1])]]


def asked_alone(made: Any, tokens: Tensor, places: Tensor, place: Tensor) -> Tensor:
    """[B, V]: log-probabilities of the token at ``place`` [B], given ``tokens`` [B, T] that stand at ``places``."""
    net, following = made.backbone, torch.cat((places[:, 1:], place[:, None]), 1)
    tables = (
        [made.target_table[places], made.target_table[following]] if made.shared else [made.target_table[following]]
    )
    scores = net.logits(net(net.embed(tokens) + torch.cat(tables, -1), positions=places))[:, -1]
    found: Tensor = scores.log_softmax(-1)
    return found


@pytest.mark.parametrize("table", ["separate", "shared"])
@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
def test_each_slot_predicts_from_what_came_before_it_in_the_drawn_order(backbone: str, table: str) -> None:
    """Every prediction computed alone, from a sequence that ends with its own slot."""
    objective, batch = scrambled(f"any-order:table={table}", backbone), random_batch()
    order, out = draw_order(batch, rng()), objective.loss(batch, rng())
    assert len(set(map(tuple, order.tolist()))) > 8
    for slot in range(5, 9):
        places, following = order[:, : slot + 1], order[:, slot + 1]
        scores = asked_alone(objective, batch.tokens.gather(1, places), places, following)
        losses = -scores.gather(1, batch.tokens.gather(1, following[:, None]))
        torch.testing.assert_close(out.per_token.gather(1, following[:, None]), losses, rtol=1e-4, atol=1e-5)
    assert out.total.item() == pytest.approx(out.per_token[:, 6:].mean().item(), rel=1e-5)


def test_orders_are_permutations_of_answers_and_of_nothing_else_and_all_are_equally_likely() -> None:
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 0)] * 50)]
    batch = right_padded(rows, 0)
    order = draw_order(batch, rng())
    columns = torch.arange(batch.tokens.shape[1]).expand_as(order)
    assert torch.equal(order.sort(1).values, columns)
    assert torch.equal(order[~batch.in_answer()], columns[~batch.in_answer()])
    assert not torch.equal(order, columns)
    assert order.dtype == torch.int64
    many = Batch.of(torch.zeros(6000, 8, dtype=torch.int64), 5, 3)
    drawn = Counter(map(tuple, draw_order(many, rng())[:, 5:].tolist()))
    assert len(drawn) == 6
    assert all(850 < times < 1150 for times in drawn.values())


@pytest.mark.parametrize("table", ["separate", "shared"])
@pytest.mark.parametrize("decode", ["left", "goal-first", "confident"])
@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
@torch.no_grad()
def test_decoding_asks_for_the_places_in_its_order(backbone: str, decode: str, table: str) -> None:
    """Answers are those of whole sequences read anew, each asked for one place."""
    objective = scrambled(f"any-order:table={table},decode={decode}", backbone)
    tokens = random_batch().prompts
    answers, places = objective.generate(tokens, 4), torch.arange(6).repeat(16, 1)
    assert answers.shape == (16, 4)
    decided = []
    for filled in range(4):
        scores = torch.stack([asked_alone(objective, tokens, places, torch.full((16,), 6 + at)) for at in range(4)], 1)
        for row, known in enumerate(places[:, 6:] - 6):
            scores[row, known] = -torch.inf
        surest = scores.amax(-1).argmax(-1)
        place = {"left": torch.full((16,), filled), "goal-first": torch.full((16,), 3 - filled)}.get(decode, surest)
        best = scores[torch.arange(16), place].argmax(-1)
        assert torch.equal(best, answers[torch.arange(16), place])
        tokens, places = torch.cat((tokens, best[:, None]), 1), torch.cat((places, 6 + place[:, None]), 1)
        decided.append(place)
    assert (len(set(map(tuple, torch.stack(decided, 1).tolist()))) > 3) == (decode == "confident")
    if decode == "confident":
        trace = objective.trace(tokens[:1, :6], 4)
        assert torch.equal(trace.log_probs.argmax(-1), answers[0])
        assert trace.passes[torch.stack(decided, 1)[0]].tolist() == [1, 2, 3, 4]


def test_the_surest_place_first_takes_a_backbone_that_obeys_masks_and_halves_of_one_table_an_even_width() -> None:
    backbone, vocab = Stub(torch.eye(3), "token"), Vocabulary(tuple("abc"))
    with refused("any-order: table=shared halves ", " width, so 3 must be even"):
        AnyOrder(backbone, vocab, rng(), table="shared")
    backbone.has = frozenset({Cap.POSITIONS})
    unbounded = AnyOrder(backbone, vocab, rng(), decode="goal-first")
    assert unbounded.target_table.shape == (1024, 3)
    with refused("any-order: decode=confident needs VISIBILITY"):
        AnyOrder(backbone, vocab, rng(), decode="confident")


@pytest.mark.parametrize(
    ("options", "shape"),
    [("", (32, 32)), (":context=20", (20, 32)), (":context=100", (32, 32)), (":table=shared", (32, 16))],
)
def test_its_only_parameters_are_the_table_of_places(options: str, shape: tuple[int, int]) -> None:
    objective = build(f"any-order{options}", LEARNED)
    own = {name: parameter for name, parameter in objective.named_parameters() if not name.startswith("backbone.")}
    assert list(own) == ["target_table"]  # its name spares it from weight decay
    assert own["target_table"].shape == shape
    assert own["target_table"].std().item() == pytest.approx(0.02, rel=0.1)


def test_a_sequence_longer_than_the_table_is_refused() -> None:
    objective, batch = build("any-order:context=9", LEARNED), random_batch()
    too_long: list[Callable[[], object]] = [
        lambda: objective.loss(batch, rng()), lambda: objective.forced(batch),
        lambda: objective.generate(batch.prompts, 4),
    ]  # fmt: skip
    for call in too_long:
        with refused("any-order: a sequence of 10 tokens does not fit the 9 places of its table; set context=10"):
            call()
    assert objective.generate(batch.prompts, 3).shape == (16, 3)
