"""What teacher forcing and its kin read and lose: next-token, reversed, teacherless and token masking."""

from __future__ import annotations

import math
from collections import Counter
from math import log

import pytest
import torch
from objective_support import (
    LEARNED,
    POSITIONLESS,
    ROTARY,
    assert_loss,
    change,
    head_outputs,
    inputs_of,
    rng,
    scrambled,
)
from support import SMALL, Stub, build, random_batch, right_padded
from torch import Tensor
from torch.nn import functional

from foresee.core import seeds, spec
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import LossOut, objectives
from foresee.objectives.reversed import flip_answers
from foresee.objectives.teacher_forcing import (
    answer_logits,
    answer_loss,
    answer_states,
    can_share_prefix,
    states_from,
    trunk_and_answer_states,
)
from foresee.objectives.token_masking import TokenMasking
from foresee.tasks.path_star import PathStar

BATCH = Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3)

AFTER_TOKEN = torch.tensor([[1 / 4, 3 / 4, 0.0], [2 / 3, 1 / 3, 0.0], [1 / 5, 3 / 5, 1 / 5]])
"""Row t: probabilities of a, b and $ after reading a, b or $."""

AT_POSITION = torch.tensor([[1 / 2, 1 / 2, 0.0], [1 / 8, 7 / 8, 0.0], [1 / 3, 2 / 3, 0.0]])
"""Row t: probabilities of a, b and $ at position t, whatever is read."""


def loss(objective: str, table: Tensor, by: str, batch: Batch = BATCH) -> LossOut:
    chosen = spec.resolve(objectives, objective)
    vocab = Vocabulary(("a", "b", "$"))
    # A logit is a log-probability up to a constant.
    stub = Stub(table.clamp_min(1e-30).log() + 5.0, by)  # type: ignore[arg-type]  # parametrised
    out: LossOut = chosen.build(stub, vocab, rng()).loss(batch, rng())
    return out


@pytest.mark.parametrize(
    ("objective", "by", "terms"),
    [
        # Reads a, b, b and predicts b, b, a.
        ("next-token", "token", [log(3 / 4), log(1 / 3), log(2 / 3)]),
        ("next-token", "position", [log(1 / 2), log(7 / 8), log(1 / 3)]),
        # Reads a, a, b and predicts a, b, b: the last answer token first.
        ("reversed", "token", [log(1 / 3), log(3 / 4), log(1 / 4)]),
        ("reversed", "position", [log(2 / 3), log(7 / 8), log(1 / 2)]),
        # Reads a, $, $ and predicts b, b, a.
        ("teacherless", "token", [log(3 / 4), log(3 / 5), log(1 / 5)]),
        ("teacherless", "position", [log(1 / 2), log(7 / 8), log(1 / 3)]),
    ],
)
def test_loss_by_hand(objective: str, by: str, terms: list[float]) -> None:
    """``terms`` are log-probabilities of the answer's tokens in the task's own order."""
    out = loss(objective, AFTER_TOKEN if by == "token" else AT_POSITION, by)
    assert_loss(out, {objective: -sum(terms) / 3}, [-term for term in terms])


def test_reversed_is_next_token_on_a_batch_reversed_by_hand() -> None:
    batch = random_batch()
    by_hand = Batch.of(torch.cat((batch.prompts, batch.answers.flip(1)), 1), 6, 4)
    backwards, forwards = scrambled("reversed"), scrambled("next-token")
    assert torch.equal(flip_answers(batch).tokens, by_hand.tokens)
    out, expected = backwards.loss(batch, rng()), forwards.loss(by_hand, rng())
    assert torch.equal(out.total, expected.total)
    assert torch.equal(out.per_token[:, 6:].flip(1), expected.per_token[:, 6:])
    assert torch.equal(backwards.forced(batch).flip(1), forwards.forced(by_hand))
    assert torch.equal(backwards.generate(batch.prompts, 4).flip(1), forwards.generate(batch.prompts, 4))
    # Flipping is its own inverse, and leaves prompts and padding.
    ragged = right_padded([random_batch(1, 3, 4), random_batch(1, 6, 2), random_batch(1, 2, 0)], 11)
    once, outside = flip_answers(ragged), ~ragged.in_answer()
    assert torch.equal(flip_answers(once).tokens, ragged.tokens)
    assert torch.equal(once.tokens[outside], ragged.tokens[outside])
    assert once.tokens[0, 3:7].tolist() == ragged.tokens[0, 3:7].flip(0).tolist()


@pytest.mark.parametrize("column", range(4))
def test_no_answer_token_reaches_any_teacherless_prediction(column: int) -> None:
    made, batch = scrambled("teacherless"), random_batch()
    inputs, (before,) = inputs_of(made, batch), head_outputs(made, batch)
    (after,) = head_outputs(made, change(batch, 6 + column))
    assert torch.equal(inputs[:, :6], batch.prompts)
    assert (inputs[:, 6:] == made.vocab.token("$")).all()
    assert torch.equal(before, after)
    assert torch.equal(made.generate(batch.prompts, 4), before.argmax(-1)), "decoding is the pass of training"


@pytest.mark.parametrize("share", [0.25, 0.5, 0.9])
def test_hybrid_leaves_a_share_of_rows_teacher_forced(share: float) -> None:
    made, batch = build(f"teacherless:hybrid={share}", LEARNED), random_batch(rows=400, prompt=8)
    dummy = made.vocab.token("$")
    draws = rng()
    forced_rows = []
    for _ in range(2):
        inputs = inputs_of(made, batch, draws)
        masked = inputs[:, 8:] == dummy
        assert torch.equal(masked.any(1), masked.all(1))  # whole rows
        assert torch.equal(inputs[~masked.any(1)], batch.tokens[~masked.any(1), :-1])
        forced_rows.append(~masked.any(1))
    spread = 4 * math.sqrt(share * (1 - share) / 400)
    assert all(rows.float().mean().item() == pytest.approx(share, abs=spread) for rows in forced_rows)
    assert not torch.equal(*forced_rows)


def test_each_hybrid_row_loses_what_its_kind_loses() -> None:
    """Next-token on rows left as they are, teacherless on the others; same weights."""
    batch = random_batch()
    mixed, plain = scrambled("teacherless:hybrid=0.5"), scrambled("teacherless")
    inputs, out = inputs_of(mixed, batch), mixed.loss(batch, rng())
    forced = inputs[:, 6:].ne(mixed.vocab.token("$")).any(1)
    assert 0 < forced.sum() < 16
    expected = plain.loss(batch, rng()).per_token
    logits = mixed.backbone.logits(mixed.backbone(mixed.backbone.embed(batch.tokens)))[:, 5:-1]
    teacher = functional.cross_entropy(logits.transpose(1, 2), batch.answers, reduction="none")
    torch.testing.assert_close(out.per_token[~forced], expected[~forced])
    torch.testing.assert_close(out.per_token[forced, 6:], teacher[forced].detach())


KINDS = [
    "token-masking",
    "token-masking:replace=random",
    "token-masking:choose=span",
    "token-masking:choose=span,replace=random",
]


def test_token_masking_by_hand() -> None:
    """Prompt a, answer b b a: reads a, then b or the mask, twice."""
    after = {"a": [1 / 4, 3 / 4, 0], "b": [2 / 3, 1 / 3, 0], "m": [1 / 5, 3 / 5, 1 / 5]}
    table = torch.tensor([after["a"], after["b"], after["m"]]).clamp_min(1e-30).log() + 5.0
    made = TokenMasking(Stub(table, "token"), Vocabulary(("a", "b", "<mask>")), rng())
    batch = Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3)
    met = set()
    for seed in range(60):
        out = made.loss(batch, rng(seed))
        read = "".join("abm"[token] for token in inputs_of(made, batch, rng(seed))[0].tolist())
        terms = [math.log(after[symbol][target]) for symbol, target in zip(read, (1, 1, 0), strict=True)]
        assert_loss(out, {"token-masking": -sum(terms) / 3}, [-term for term in terms])
        met.add(read)
    assert met == {"abb", "amb", "abm", "amm"}


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_stay_masked_tokens_are_replaced_in_place_and_labels_are_those_of_the_true_answer(kind: str) -> None:
    """The loss is next-token's on the inputs shown, against the answer as it was."""
    made, batch = scrambled(kind), random_batch(rows=400, prompt=8, answer=6)
    inputs = inputs_of(made, batch)
    assert inputs.shape == (400, 13)
    assert torch.equal(inputs[:, :8], batch.prompts)
    changed = inputs != batch.tokens[:, :-1]
    assert changed.any(0)[8:].all()
    assert not changed[:, 8:].all()
    if "random" in kind:
        assert set(inputs[:, 8:].flatten().tolist()) <= set(batch.answers.flatten().tolist())
    else:
        assert (inputs[changed] == made.vocab.token("<mask>")).all()
    shown = torch.cat((inputs, batch.tokens[:, -1:]), 1)
    expected = answer_loss(answer_logits(made.backbone, shown, batch), batch, "reference")
    out = made.loss(batch, rng())
    assert torch.equal(out.total, expected.total)
    assert torch.equal(out.per_token, expected.per_token)


def assert_uniform(values: Tensor, expected: range) -> None:
    """Each of the expected values about equally often, within four standard deviations, and no other."""
    found, share = Counter(values.tolist()), 1 / len(expected)
    spread = 4 * math.sqrt(len(values) * share * (1 - share))
    assert set(found) == set(expected)
    assert all(abs(times - len(values) * share) < spread for times in found.values())


@pytest.mark.parametrize("choose", ["tokens", "span"])
def test_any_number_of_tokens_is_masked_equally_often_at_any_place(choose: str) -> None:
    """As each row has a rate of its own, from U(0, 1); a span is contiguous."""
    made, batch = build(f"token-masking:choose={choose}", LEARNED), random_batch(rows=3000, prompt=8, answer=7)
    masked = inputs_of(made, batch)[:, 8:] == made.vocab.token("<mask>")
    length = masked.sum(1)
    begins = (masked & ~functional.pad(masked, (1, 0))[:, :-1]).sum(1)
    assert torch.equal(begins, (length > 0).long()) == (choose == "span")
    assert_uniform(length, range(7))
    for each in range(1, 6) if choose == "span" else (1,):
        assert_uniform(masked[length == each].int().argmax(1), range(6 - each + 1))


def test_random_tokens_are_drawn_from_the_answers_as_often_as_they_occur() -> None:
    """Three times a 3 to one 7, and no token of a prompt or of padding."""
    rows = [Batch.of(torch.tensor([[5, 6, 11, *answer]]), 3, 4) for answer in ([3, 3, 3, 7], [7, 3, 3, 3])]
    rows.append(Batch.of(torch.tensor([[11, 3, 3, 3, 7]]), 1, 4))
    batch = right_padded(rows * 300, 9)
    made = build("token-masking:replace=random", LEARNED)
    inputs, places = inputs_of(made, batch), batch.in_answer()[:, :-1]
    assert torch.equal(inputs[~places], batch.tokens[:, :-1][~places])
    # Each token keeps its place with the row's rate, one half on average, or is one of the two.
    share = (inputs[places] == 3).float().mean().item()
    before = (batch.tokens[:, :-1][places] == 3).float().mean().item()
    spread = 4 * math.sqrt(0.25 / 900)
    assert share == pytest.approx(0.5 * before + 0.5 * 0.75, abs=spread)
    assert set(inputs[places].tolist()) == {3, 7}


# A prefix that rows share.


@pytest.mark.parametrize("degree", [2, 3])
@pytest.mark.parametrize("backbone", [LEARNED, ROTARY, POSITIONLESS])
def test_a_shared_prefix_is_read_once_where_the_backbone_can(backbone: str, degree: int) -> None:
    task = PathStar(degree=degree, length=3, nodes=20, goals="all")
    tokens = task.sample(50 * degree, seeds.stream("test")).tokens
    same = (tokens.view(50, degree, -1) == tokens.view(50, degree, -1)[:, :1]).all(1).all(0)
    assert same[: task.shared_prefix].all()
    assert not same[task.shared_prefix]
    batch = task.sample(4 * degree, seeds.stream("test"))
    together, net = batch.sharing(task.group, task.shared_prefix), SMALL[backbone](task.vocab, rng())
    assert can_share_prefix(net, together.layout, len(together)) == (backbone != POSITIONLESS)
    assert not can_share_prefix(net, together.layout, len(together) - 1)
    read: list[int] = []
    net.register_forward_pre_hook(lambda _module, inputs: read.append(inputs[0].shape[:2].numel()))
    states = [answer_states(net, each.tokens, each) for each in (batch, together)]
    torch.testing.assert_close(states[1], states[0])
    gradients = [torch.autograd.grad(each.square().sum(), list(net.parameters()), allow_unused=True) for each in states]
    for apart, joint in zip(*gradients, strict=True):
        assert apart is None or torch.allclose(joint, apart, rtol=1e-4, atol=1e-4)
    assert (read[1] < 0.8 * read[0]) == (backbone != POSITIONLESS)
    for start in (0, task.shared_prefix - 2, batch.layout.first - 1):
        columns = [states_from(start, net, each.tokens, each) for each in (batch, together)]
        torch.testing.assert_close(columns[1], columns[0])
    apart, joint = (trunk_and_answer_states(net, each.tokens, each) for each in (batch, together))
    for one, other in zip(apart, joint, strict=True):
        torch.testing.assert_close(other, one)
    chosen = together.rows(torch.tensor([0, 3])).layout
    assert (chosen.group, chosen.shared) == (1, 0)
