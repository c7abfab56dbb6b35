"""Token masking: what is hidden, by which law, and that nothing else of teacher forcing changes."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from support import SMALL, VOCAB, Stub, build, random_batch, right_padded, scramble
from torch import Tensor

from foresee.core import seeds, spec
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import stream
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import Objective, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_logits, answer_loss, can_share_prefix
from foresee.objectives.token_masking import TokenMasking
from foresee.tasks.path_star import PathStar

TRANSFORMER = next(iter(SMALL))
KINDS = [
    "token-masking",
    "token-masking:replace=random",
    "token-masking:choose=span",
    "token-masking:choose=span,replace=random",
]
per_kind = pytest.mark.parametrize("kind", KINDS)


def rng(seed: int = 0) -> torch.Generator:
    return seeds.torch_stream("objective", seed)


def scrambled(kind: str) -> Objective:
    made = build(kind, TRANSFORMER)
    scramble(made)
    return made


@contextmanager
def spying(objective: Objective) -> Iterator[list[Tensor]]:
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


def shown(objective: Objective, batch: Batch, seed: int = 0) -> Tensor:
    with spying(objective) as seen:
        objective.loss(batch, rng(seed))
    return seen[0]


def test_loss_by_hand() -> None:
    """Prompt a, answer b b a: reads a, then b or the mask, twice."""
    after = {"a": [1 / 4, 3 / 4, 0], "b": [2 / 3, 1 / 3, 0], "m": [1 / 5, 3 / 5, 1 / 5]}
    table = torch.tensor([after["a"], after["b"], after["m"]]).clamp_min(1e-30).log() + 5.0
    made = TokenMasking(Stub(table, "token"), Vocabulary(("a", "b", "<mask>")), rng())
    batch = Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3)
    met = set()
    for seed in range(60):
        out = made.loss(batch, rng(seed))
        read = "".join("abm"[token] for token in shown(made, batch, seed)[0].tolist())
        terms = [math.log(after[symbol][target]) for symbol, target in zip(read, (1, 1, 0), strict=True)]
        assert out.total.item() == pytest.approx(-sum(terms) / 3, rel=1e-5)
        assert out.per_token[0].tolist() == pytest.approx([0.0, *(-term for term in terms)], rel=1e-5)
        assert list(out.parts) == ["token-masking"]
        met.add(read)
    assert met == {"abb", "amb", "abm", "amm"}


@per_kind
def test_prompts_stay_and_hidden_tokens_are_replaced_in_place(kind: str) -> None:
    made, batch = scrambled(kind), random_batch(rows=400, prompt=8, answer=6)
    inputs = shown(made, batch)
    assert inputs.shape == (400, 13)
    assert torch.equal(inputs[:, :8], batch.prompts)
    changed = inputs != batch.tokens[:, :-1]
    assert changed.any(0)[8:].all()
    assert not changed[:, 8:].all()
    mask = made.vocab.token("<mask>")
    if "random" in kind:
        assert set(inputs[:, 8:].flatten().tolist()) <= set(batch.answers.flatten().tolist())
    else:
        assert (inputs[changed] == mask).all()
    assert made.vocab.symbols == (*VOCAB.symbols, "<mask>")


@per_kind
def test_labels_are_those_of_the_true_answer(kind: str) -> None:
    """The loss is next-token's on the inputs shown, against the answer as it was."""
    made, batch = scrambled(kind), random_batch()
    inputs = torch.cat((shown(made, batch), batch.tokens[:, -1:]), 1)
    expected = answer_loss(answer_logits(made.backbone, inputs, batch), batch, "reference")
    out = made.loss(batch, rng())
    assert torch.equal(out.total, expected.total)
    assert torch.equal(out.per_token, expected.per_token)


def counts(values: Tensor) -> Counter[int]:
    return Counter(values.tolist())


def assert_uniform(found: Counter[int], expected: range) -> None:
    """Each of the expected values about equally often, within four standard deviations, and no other."""
    number, share = sum(found.values()), 1 / len(expected)
    spread = 4 * math.sqrt(number * share * (1 - share))
    assert set(found) == set(expected)
    assert all(abs(times - number * share) < spread for times in found.values())


def test_each_row_has_its_own_rate() -> None:
    """With a rate from U(0, 1), every number of hidden tokens is equally likely; and every place."""
    made, batch = build("token-masking", TRANSFORMER), random_batch(rows=3000, prompt=8, answer=7)
    hidden = shown(made, batch)[:, 8:] == made.vocab.token("<mask>")
    assert_uniform(counts(hidden.sum(1)), range(7))
    assert_uniform(counts(hidden[hidden.sum(1) == 1].int().argmax(1)), range(6))
    spans = hidden[:, 1:] & ~hidden[:, :-1]
    assert (spans.sum(1) > 1).any()


def test_a_span_is_contiguous_and_of_any_length_and_place() -> None:
    made, batch = build("token-masking:choose=span", TRANSFORMER), random_batch(rows=3000, prompt=8, answer=7)
    hidden = shown(made, batch)[:, 8:] == made.vocab.token("<mask>")
    length = hidden.sum(1)
    begins = hidden & ~torch.nn.functional.pad(hidden, (1, 0))[:, :-1]
    assert torch.equal(begins.sum(1), (length > 0).long())
    assert_uniform(counts(length), range(7))
    for each in range(1, 6):
        assert_uniform(counts(hidden[length == each].int().argmax(1)), range(6 - each + 1))


def test_random_tokens_are_drawn_from_the_answers_as_often_as_they_occur() -> None:
    """Three times a 3 to one 7, and no token of a prompt or of padding."""
    rows = [Batch.of(torch.tensor([[5, 6, 11, *answer]]), 3, 4) for answer in ([3, 3, 3, 7], [7, 3, 3, 3])]
    rows.append(Batch.of(torch.tensor([[11, 3, 3, 3, 7]]), 1, 4))
    batch = right_padded(rows * 300, 9)
    made = build("token-masking:replace=random", TRANSFORMER)
    inputs, places = shown(made, batch), batch.in_answer()[:, :-1]
    assert torch.equal(inputs[~places], batch.tokens[:, :-1][~places])
    # Each token keeps its place with the row's rate, one half on average, or is one of the two.
    share = (inputs[places] == 3).float().mean().item()
    before = (batch.tokens[:, :-1][places] == 3).float().mean().item()
    spread = 4 * math.sqrt(0.25 / 900)
    assert share == pytest.approx(0.5 * before + 0.5 * 0.75, abs=spread)
    assert set(inputs[places].tolist()) == {3, 7}


@per_kind
def test_padding_is_never_read(kind: str) -> None:
    """Rows of differing lengths, one of them without an answer: what fills them up changes nothing."""
    rows = [
        random_batch(1, *shape, seed=number) for number, shape in enumerate([(3, 4), (6, 2), (4, 4), (3, 1), (5, 0)])
    ]
    made = scrambled(kind)
    out, again = (made.loss(right_padded(rows, padding), rng()) for padding in (0, 12))
    assert torch.equal(out.total, again.total)
    assert torch.equal(out.per_token, again.per_token)
    assert (out.per_token != 0).equal(right_padded(rows, 0).in_answer())


@pytest.mark.parametrize("kind", ["token-masking", "token-masking:choose=span"])
def test_a_hidden_token_reaches_no_prediction_but_as_its_own_target(kind: str) -> None:
    made, batch = scrambled(kind), random_batch(rows=200, prompt=8, answer=4)
    hidden = shown(made, batch)[:, 8:] == made.vocab.token("<mask>")
    before = made.loss(batch, rng()).per_token
    for column in range(3):
        tokens = batch.tokens.clone()
        tokens[:, 8 + column] = (tokens[:, 8 + column] + 3) % 10
        after = made.loss(dataclasses.replace(batch, tokens=tokens), rng()).per_token
        changed = (before != after)[:, 8:]
        assert not changed[:, :column].any()
        assert changed[:, column].all()
        assert not changed[hidden[:, column], column + 1 :].any()
        assert changed[~hidden[:, column], column + 1].all()


@per_kind
def test_decoding_and_forcing_are_next_tokens_and_show_no_mask(kind: str) -> None:
    made, batch = scrambled(kind), random_batch()
    plain = NextToken(made.backbone, made.vocab, rng())
    with torch.no_grad(), spying(made) as seen:
        assert torch.equal(made.generate(batch.prompts, 4), plain.generate(batch.prompts, 4))
        forced = made.forced(batch)
        assert forced is not None
        assert torch.equal(forced, plain.forced(batch))
    for tokens in seen:
        if tokens.dim() == 2:  # what is given, and not what the model wrote
            assert (tokens != made.vocab.token("<mask>")).all()
    assert sum(parameter.numel() for parameter in made.parameters()) == sum(
        parameter.numel() for parameter in made.backbone.parameters()
    )


@per_kind
def test_reading_a_shared_prefix_once_changes_nothing(kind: str) -> None:
    task = PathStar(degree=2, length=4, nodes=10, goals="all")
    batch = task.sample(16, stream("test"))
    vocab = task.vocab.extended(("<mask>",))
    made = spec.resolve(objectives, kind).build(SMALL[TRANSFORMER](vocab, rng()), vocab, rng())
    together = batch.sharing(task.group, task.shared_prefix)
    assert can_share_prefix(made.backbone, together.layout, 16)
    torch.testing.assert_close(made.loss(together, rng()).per_token, made.loss(batch, rng()).per_token)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("choose=words", r"^objective 'token-masking': choose='words' must be one of tokens, span$"),
        ("replace=noise", r"^objective 'token-masking': replace='noise' must be one of mask, random$"),
    ],
)
def test_impossible_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        build(f"token-masking:{options}", TRANSFORMER)


def test_the_mask_must_be_in_the_vocabulary() -> None:
    with pytest.raises(RequestError, match=r"^symbol '<mask>' is not in the vocabulary"):
        TokenMasking(build("next-token", TRANSFORMER).backbone, VOCAB, rng())
