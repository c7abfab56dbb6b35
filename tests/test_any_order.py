"""Any-order: which orders are drawn, which places tokens are told, and what each prediction may read."""

from __future__ import annotations

from collections import Counter
from math import log

import pytest
import torch
from support import SMALL, Stub, build, random_batch, right_padded, scramble
from torch import Tensor

from foresee.backbones import Attend
from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import any_order
from foresee.objectives.any_order import AnyOrder, draw_order

LEARNED = next(iter(SMALL))
ROTARY, POSITIONLESS = (next(name for name in SMALL if f"positions={kind}" in name) for kind in ("rotary", "none"))

per_backbone = pytest.mark.parametrize("backbone", [LEARNED, ROTARY], ids=["learned", "rotary"])


def rng(*key: int) -> torch.Generator:
    return seeds.torch_stream("any order", *key)


def made(backbone: str = LEARNED) -> AnyOrder:
    """With weights large enough that anything read shows in the output."""
    objective = build("any-order", backbone)
    assert isinstance(objective, AnyOrder)
    scramble(objective)
    return objective


def states(objective: AnyOrder, batch: Batch) -> Tensor:
    """Final states [B, A, D] that the loss predicts from, slot by slot."""
    found: list[Tensor] = []
    hook = objective.backbone.register_forward_hook(lambda _module, _inputs, output: found.append(output.detach()))
    try:
        objective.loss(batch, rng())
    finally:
        hook.remove()
    (hidden,) = found
    return hidden


def order_of(monkeypatch: pytest.MonkeyPatch, *answer: int) -> None:
    """Every row of a uniform batch is read in this order of its answer's places."""

    def order(batch: Batch, *_: object) -> Tensor:
        columns = torch.arange(batch.tokens.shape[1]).repeat(len(batch), 1)
        columns[:, batch.layout.first : batch.layout.last] = batch.layout.first + torch.tensor(answer)
        return columns

    monkeypatch.setattr(any_order, "draw_order", order)


# The loss by hand. Symbols a and b; prompt "a", answer "b b a" at places 1, 2 and 3.

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4], [2 / 3, 1 / 3]])
FOR_PLACE = torch.tensor([[1.0, 1.0], [1.0, 2.0], [1.0, 1.0], [3.0, 1.0]])
"""Row t: factors of the odds of a and b where the next token stands at place t."""


class Signposts(Stub):
    """Logits that are a sum of two known tables: of the token read, and of the place it is told."""

    def __init__(self) -> None:
        super().__init__(torch.cat((AFTER_TOKEN.log(), FOR_PLACE.log())), "token")
        self.told: list[Tensor | None] = []

    @property
    def longest(self) -> int:
        return 4

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        assert attend == "causal"
        self.told.append(positions)
        return super().forward(x, keep=keep)


@pytest.mark.parametrize(
    ("order", "probabilities"),
    [
        # From left to right: a tells place 1, b place 2, b place 3; predicts b, b, a.
        ((0, 1, 2), [(3 / 4 * 2) / (3 / 4 * 2 + 1 / 4), 1 / 3, (2 / 3 * 3) / (2 / 3 * 3 + 1 / 3)]),
        # Place 3 first: a tells place 3 and predicts a; a tells place 1, predicts b; b tells place 2, predicts b.
        ((2, 0, 1), [(3 / 4 * 2) / (3 / 4 * 2 + 1 / 4), 1 / 3, (1 / 4 * 3) / (1 / 4 * 3 + 3 / 4)]),
        # Place 2, 1, 3: a tells 2, predicts b; b tells 1, predicts b; b tells 3, predicts a.
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
    assert out.per_token[0].tolist() == pytest.approx([0.0, *(-log(each) for each in probabilities)], rel=1e-5)
    assert out.total.item() == pytest.approx(-sum(map(log, probabilities)) / 3, rel=1e-5)
    assert out.parts == {"any-order": out.total}
    (told,) = backbone.told
    assert told is not None
    assert told.tolist() == [[0, *(1 + place for place in order[:-1])]]


@per_backbone
def test_each_slot_predicts_from_what_came_before_it_in_the_drawn_order(backbone: str) -> None:
    """Every prediction computed alone, from a sequence that ends with its own slot."""
    objective, batch = made(backbone), random_batch()
    order, out, net = draw_order(batch, rng()), objective.loss(batch, rng()), objective.backbone
    assert len(set(map(tuple, order.tolist()))) > 8
    for row in range(16):
        for slot in range(5, 9):
            places, following = order[row, : slot + 1], order[row, 1 : slot + 2]
            x = net.embed(batch.tokens[row, places])[None] + objective.target_table[following]
            scores = net.logits(net(x, positions=places))[0, -1].log_softmax(-1)
            loss = -scores[batch.tokens[row, following[-1]]].item()
            assert out.per_token[row, following[-1]].item() == pytest.approx(loss, rel=1e-4, abs=1e-5)
    assert out.total.item() == pytest.approx(out.per_token[:, 6:].mean().item(), rel=1e-5)


@per_backbone
def test_a_token_changes_only_predictions_after_its_turn(backbone: str) -> None:
    objective, batch = made(backbone), random_batch()
    order, before = draw_order(batch, rng()), states(objective, batch)
    for column in range(10):
        tokens = batch.tokens.clone()
        tokens[:, column] = (tokens[:, column] + 3) % 10
        changed = (states(objective, Batch.of(tokens, 6, 4)) != before).any(-1)
        turn = (order == column).long().argmax(1)  # slot 5 gives the first prediction
        assert torch.equal(changed, torch.arange(5, 9) >= turn[:, None]), f"column {column}"


@per_backbone
def test_a_prediction_knows_the_place_it_is_for(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two orders that part at the last step but one: only the predictions from there on differ."""
    objective, batch = made(backbone), random_batch()
    order_of(monkeypatch, 2, 0, 1, 3)
    one = states(objective, batch)
    order_of(monkeypatch, 2, 0, 3, 1)
    other = states(objective, batch)
    assert (one != other).any(-1).all(0).tolist() == [False, False, True, True]
    assert torch.equal(one[:, :2], other[:, :2])


# Orders.


def test_orders_are_permutations_of_answers_and_of_nothing_else() -> None:
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 0)] * 50)]
    batch = right_padded(rows, 0)
    order = draw_order(batch, rng())
    columns = torch.arange(batch.tokens.shape[1]).expand_as(order)
    assert torch.equal(order.sort(1).values, columns)
    assert torch.equal(order[~batch.in_answer()], columns[~batch.in_answer()])
    assert not torch.equal(order, columns)
    assert order.dtype == torch.int64


def test_all_orders_are_equally_likely() -> None:
    batch = Batch.of(torch.zeros(6000, 8, dtype=torch.int64), 5, 3)
    drawn = Counter(map(tuple, draw_order(batch, rng())[:, 5:].tolist()))
    assert len(drawn) == 6
    assert all(850 < times < 1150 for times in drawn.values())


def test_each_step_draws_anew() -> None:
    batch, draws = random_batch(), rng()
    assert not torch.equal(draw_order(batch, draws), draw_order(batch, draws))


@per_backbone
@pytest.mark.parametrize("padding", [0, 12])
def test_rows_of_differing_lengths_lose_what_each_loses_alone(
    backbone: str, padding: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(batch: Batch, *_: object) -> Tensor:
        columns = torch.arange(batch.tokens.shape[1]).expand_as(batch.tokens)
        mirrored = 2 * batch.prompt_len[:, None] + batch.answer_len[:, None] - 1 - columns
        return torch.where(batch.in_answer(), mirrored, columns)

    monkeypatch.setattr(any_order, "draw_order", backwards)
    objective = made(backbone)
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 1)])]
    together = objective.loss(right_padded(rows, padding), rng())
    alone = [objective.loss(row, rng()) for row in rows]
    for number, row in enumerate(rows):
        columns = row.tokens.shape[1]
        torch.testing.assert_close(together.per_token[number, :columns], alone[number].per_token[0])
        assert not together.per_token[number, columns:].any()
    expected = sum(out.total * row.layout.width for out, row in zip(alone, rows, strict=True)) / 11
    torch.testing.assert_close(together.total, expected)


# Decoding.


@per_backbone
def test_forcing_is_the_loss_of_the_order_from_left_to_right(backbone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    order_of(monkeypatch, 0, 1, 2, 3)
    objective, batch = made(backbone), random_batch()
    forced = objective.forced(batch).gather(2, batch.answers[..., None])[..., 0]
    torch.testing.assert_close(objective.loss(batch, rng()).per_token[:, 6:], -forced)


@per_backbone
@torch.no_grad()
def test_decoding_tells_every_token_the_place_to_its_right(backbone: str) -> None:
    """The cached decoding is that of whole sequences read anew, whose places are each given."""
    objective, tokens = made(backbone), random_batch().prompts
    wrote, net = objective.generate(tokens, 4), objective.backbone
    for column in range(4):
        places = torch.arange(6 + column)
        x = net.embed(tokens) + objective.target_table[places + 1]
        best = net.logits(net(x, positions=places))[:, -1].argmax(-1)
        assert torch.equal(best, wrote[:, column])
        tokens = torch.cat((tokens, best[:, None]), 1)


# Parts and refusals.


@pytest.mark.parametrize(("options", "places"), [("", 32), (":context=20", 20), (":context=100", 32)])
def test_its_only_parameters_are_the_table_of_target_places(options: str, places: int) -> None:
    objective = build(f"any-order{options}", LEARNED)
    own = {name: parameter for name, parameter in objective.named_parameters() if not name.startswith("backbone.")}
    assert list(own) == ["target_table"]  # its name spares it from weight decay
    assert own["target_table"].shape == (places, 32)
    assert own["target_table"].std().item() == pytest.approx(0.02, rel=0.1)


def test_a_backbone_without_bound_gets_a_table_of_1024_places() -> None:
    objective = AnyOrder(Stub(torch.eye(3), "token"), Vocabulary(("a", "b", "c")), rng())
    assert objective.target_table.shape == (1024, 3)


def test_a_sequence_longer_than_the_table_is_refused() -> None:
    objective, batch = build("any-order:context=9", LEARNED), random_batch()
    message = r"^any-order: a sequence of 10 tokens does not fit the 9 places of its table; set context=10 or more"
    with pytest.raises(RequestError, match=message):
        objective.loss(batch, rng())
    with pytest.raises(RequestError, match=message):
        objective.forced(batch)
    with pytest.raises(RequestError, match=message):
        objective.generate(batch.prompts, 4)
    assert objective.generate(batch.prompts, 3).shape == (16, 3)


def test_a_table_without_places_is_refused() -> None:
    with pytest.raises(RequestError, match=r"^any-order: context=0 must be at least 1$"):
        build("any-order:context=0", LEARNED)


@pytest.mark.parametrize("backbone", [POSITIONLESS, "recurrent"])
def test_a_backbone_that_cannot_be_told_places_is_refused(backbone: str) -> None:
    with pytest.raises(RequestError, match=r"^objective 'any-order' needs POSITIONS "):
        build("any-order", backbone)
