"""Multi-token prediction with parallel heads."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from support import Stub, numbered, random_batch, right_padded, scramble, transformer
from torch import Tensor

from foresee import spec
from foresee.backbones.base import Layer
from foresee.backbones.transformer import Transformer
from foresee.batch import Batch
from foresee.errors import RequestError
from foresee.objectives import objectives
from foresee.objectives.multi_token import MultiToken
from foresee.objectives.next_token import NextToken
from foresee.seeds import stream, torch_stream
from foresee.tasks.path_star import PathStar
from foresee.vocabulary import Vocabulary

KINDS: list[dict[str, Any]] = [
    {},
    {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "tied": False},
]
RAGGED = [(3, 4), (6, 2), (4, 4), (3, 1), (1, 3)]


def build(options: str = "heads=4", vocab_size: int = 13, **kind: Any) -> MultiToken:
    backbone = transformer(vocab_size, **kind)
    made = spec.resolve(objectives, f"multi-token:{options}").build(backbone, numbered(vocab_size), torch_stream("t"))
    scramble(made)
    assert isinstance(made, MultiToken)
    return made


def ragged_batch(padding: int) -> tuple[Batch, list[Batch]]:
    rows = [random_batch(1, *shape, seed=number) for number, shape in enumerate(RAGGED)]
    return right_padded(rows, padding), rows


# A loss by hand.


class NextRows(Layer):
    """Adds a number to the row of the table that a state stands for."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        shifted = z.roll(self.rows, -1)
        return shifted if keep is None else shifted[:, keep]


class Table(Stub):
    """Rows 2 j and 2 j + 1 of the table are head j + 1's probabilities after reading a and b."""

    def __init__(self) -> None:
        after = [[1 / 4, 3 / 4], [2 / 3, 1 / 3], [1 / 5, 4 / 5], [3 / 7, 4 / 7], [1 / 9, 8 / 9], [2 / 11, 9 / 11]]
        super().__init__(torch.tensor(after).log(), "token")
        self.made = 0

    def last_layer(self, generator: torch.Generator) -> Layer:
        self.made += 1
        return NextRows(2 * self.made)


@pytest.mark.parametrize(
    ("row", "prompt", "heads"),
    [
        # The prompt "a", the answer "b b a". Head 2 reads a, b and predicts b, a; head 3 reads a and predicts a.
        ([0, 1, 1, 0], 1, [[3 / 4, 1 / 3, 2 / 3], [4 / 5, 3 / 7], [1 / 9]]),
        # The prompt "b a", the answer "b b a": head 2 predicts the first "b" from the prompt's b, before it read "a".
        ([1, 0, 1, 1, 0], 2, [[3 / 4, 1 / 3, 2 / 3], [4 / 7, 4 / 5, 3 / 7], [9 / 11, 1 / 9]]),
    ],
)
def test_loss_by_hand(row: list[int], prompt: int, heads: list[list[float]]) -> None:
    made = MultiToken(Table(), Vocabulary(("a", "b")), torch_stream("t"), heads=3, weight=0.5)
    out = made.loss(Batch.of(torch.tensor([row]), prompt, 3), torch_stream("t"))
    sums = [-sum(map(log, each)) for each in heads]
    assert list(out.parts) == ["next-token", "head-2", "head-3"]
    expected = [sums[0] / 3, 0.5 * sums[1] / 3, 0.5 * sums[2] / 3]
    assert [part.item() for part in out.parts.values()] == pytest.approx(expected, rel=1e-5)
    assert out.total.item() == pytest.approx(sum(expected), rel=1e-5)
    assert out.per_token[0, prompt:].tolist() == pytest.approx([-log(p) for p in heads[0]], rel=1e-5)
    assert not out.per_token[0, :prompt].any()


# The same loss, worked out row by row and pair by pair.


def pairs_loss(made: MultiToken, rows: list[Batch]) -> dict[str, float]:
    """For each head the sum over pairs (t, j) whose target t + j is in the answer, over the number of answer tokens."""
    heads = [None, *made.further_heads]
    sums = [0.0 for _ in heads]
    answers = 0
    for row in rows:
        prompt, end = int(row.prompt_len), int(row.prompt_len + row.answer_len)
        answers += end - prompt
        states = made.backbone.trace(made.backbone.embed(row.tokens))
        for index, head in enumerate(heads):
            final = states[-1] if head is None else head(states[-2])
            for t in range(end):
                target = t + index + 1
                if prompt <= target < end:
                    sums[index] -= made.backbone.logits(final[0, t]).log_softmax(-1)[row.tokens[0, target]].item()
    weights = [1.0] + [made.weight] * len(made.further_heads)
    names = ["next-token", *(f"head-{j}" for j in range(2, len(heads) + 1))]
    return {name: weight * total / answers for name, weight, total in zip(names, weights, sums, strict=True)}


@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_counts_once_by_its_target(kind: dict[str, Any], padding: int) -> None:
    made = build("heads=5,weight=0.3", **kind)
    batch, rows = ragged_batch(padding)
    with torch.no_grad():
        parts = {name: part.item() for name, part in made.loss(batch, torch_stream("t")).parts.items()}
        assert parts == pytest.approx(pairs_loss(made, rows), rel=1e-4)
        alone = {name: part.item() for name, part in made.loss(rows[1], torch_stream("t")).parts.items()}
        assert alone == pytest.approx(pairs_loss(made, rows[1:2]), rel=1e-4)


def test_the_default_weight_gives_the_plain_sum_and_a_small_one_the_mean() -> None:
    batch = random_batch()
    plain = build("heads=3").loss(batch, torch_stream("t")).parts
    mean = build("heads=3,weight=0.5").loss(batch, torch_stream("t")).parts
    torch.testing.assert_close(mean["next-token"], plain["next-token"])
    for name in ("head-2", "head-3"):
        torch.testing.assert_close(2 * mean[name], plain[name])


def test_a_head_that_looks_beyond_the_sequence_adds_nothing() -> None:
    out = build("heads=12").loss(random_batch(), torch_stream("t"))
    assert [name for name, part in out.parts.items() if part == 0] == ["head-10", "head-11", "head-12"]
    assert out.total.isfinite()


# What is read.


def predictions(made: MultiToken, batch: Batch) -> list[Tensor]:
    """Logits [B, K, V] of each head, in the order in which the loss takes them; the last is of the last column."""
    seen: list[Tensor] = []
    logits = made.backbone.logits

    def spy(hidden: Tensor) -> Tensor:
        seen.append(logits(hidden).detach())
        return seen[-1]

    made.backbone.logits = spy  # type: ignore[method-assign]  # removed again below
    try:
        made.loss(batch, torch_stream("t"))
    finally:
        del made.backbone.logits
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_head_j_reads_what_stands_j_columns_before_its_target_and_earlier(kind: dict[str, Any]) -> None:
    made, batch = build("heads=4", **kind), random_batch()
    before = predictions(made, batch)
    assert [each.shape[1] for each in before] == [4, 4, 4, 4]
    for changed in range(10):
        tokens = batch.tokens.clone()
        tokens[:, changed] = (tokens[:, changed] + 3) % 10
        after = predictions(made, Batch.of(tokens, 6, 4))
        for j, (first, second) in enumerate(zip(before, after, strict=True), start=1):
            moved = (first != second).any(-1).all(0).tolist()
            still = (first == second).all(-1).all(0).tolist()
            assert moved == [changed <= column - j for column in range(6, 10)]
            assert still == [not each for each in moved]


def test_the_branch_token_is_predicted_before_any_answer_token_is_read() -> None:
    """On path-star, the token after the start: head 2 predicts it from "=", head 3 from the goal."""
    task = PathStar(degree=2, length=5, nodes=20)
    batch = task.sample(8, stream("test"))
    made = build("heads=3", vocab_size=len(task.vocab))
    first = batch.layout.first
    trunk = made.backbone.trace(made.backbone.embed(batch.prompts))[-2]
    seen = predictions(made, batch)
    for j, head in enumerate(made.further_heads, start=2):
        expected = made.backbone.logits(head(trunk))[:, first + 1 - j]
        torch.testing.assert_close(seen[j - 1][:, 1], expected.detach(), rtol=1e-4, atol=1e-4)


# Shape.


def test_a_head_is_as_deep_as_the_next_token_path() -> None:
    """With the last layer's own weights, a head at a position says what next-token says there."""
    made, batch = build("heads=2"), random_batch(prompt=6)
    backbone, head = made.backbone, made.further_heads[0]
    assert isinstance(backbone, Transformer)
    head.get_submodule("block").load_state_dict(backbone.blocks[-1].state_dict())
    head.get_submodule("norm").load_state_dict(backbone.final_norm.state_dict())
    following, further = predictions(made, batch)
    torch.testing.assert_close(further[:, 1:], following[:, :-1])


def test_heads_learn_through_the_trunk_and_beside_the_last_layer() -> None:
    made = build("heads=2")
    backbone = made.backbone
    assert isinstance(backbone, Transformer)
    part = made.loss(random_batch(), torch_stream("t")).parts["head-2"]
    last = list(backbone.blocks[-1].parameters()) + list(backbone.final_norm.parameters())
    below = list(backbone.blocks[0].parameters())
    gradients = torch.autograd.grad(part, [*last, *below], allow_unused=True)
    assert all(gradient is None for gradient in gradients[: len(last)])
    assert all(gradient.any() for gradient in gradients[len(last) :])


@pytest.mark.parametrize("heads", [2, 4])
def test_parameters_by_formula(heads: int) -> None:
    made = build(f"heads={heads}")
    width = 32
    # A block has 12 D^2 weights, 9 D biases and two norms of 2 D; the final norm has 2 D.
    own = sum(each.numel() for each in made.parameters()) - sum(each.numel() for each in made.backbone.parameters())
    assert own == (heads - 1) * (12 * width**2 + 15 * width)


def test_decoding_is_next_tokens_and_drops_the_further_heads() -> None:
    made, batch = build(), random_batch()
    plain = NextToken(made.backbone, made.vocab, torch_stream("t"))
    with torch.no_grad():
        for parameter in made.further_heads.parameters():
            parameter.fill_(float("nan"))
        assert torch.equal(made.generate(batch.prompts, 4), plain.generate(batch.prompts, 4))
        assert torch.equal(made.forced(batch), plain.forced(batch))


def test_the_next_token_part_is_next_tokens_loss() -> None:
    made, batch = build(), ragged_batch(0)[0]
    out, plain = (
        each.loss(batch, torch_stream("t")) for each in (made, NextToken(made.backbone, made.vocab, torch_stream("t")))
    )
    torch.testing.assert_close(out.parts["next-token"], plain.total)
    torch.testing.assert_close(out.per_token, plain.per_token)


# Everything else.


def test_recomputing_the_backbones_activations_changes_no_gradient() -> None:
    made, batch = build(), random_batch()
    gradients = []
    for recompute in (False, True):
        made.backbone.recompute = recompute
        gradients.append(torch.autograd.grad(made.loss(batch, torch_stream("t")).total, list(made.parameters())))
    for kept, anew in zip(*gradients, strict=True):
        torch.testing.assert_close(anew, kept)


def test_rows_that_share_a_prefix_lose_what_they_lose_apart() -> None:
    task = PathStar(degree=2, length=3, nodes=10, goals="all")
    batch = task.sample(8, stream("test"))
    made = build(vocab_size=len(task.vocab))
    apart = made.loss(batch, torch_stream("t"))
    together = made.loss(batch.sharing(task.group, task.shared_prefix), torch_stream("t"))
    torch.testing.assert_close(together.per_token, apart.per_token)
    torch.testing.assert_close(together.total, apart.total)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("heads=1", r"heads=1 must be at least 2; one head alone is next-token"),
        ("heads=0", r"heads=0 must be at least 2; one head alone is next-token"),
        ("weight=0", r"weight=0.0 must be above 0 and finite"),
        ("weight=nan", r"weight=nan must be above 0 and finite"),
        ("weight=inf", r"weight=inf must be above 0 and finite"),
    ],
)
def test_impossible_options_are_refused(options: str, message: str) -> None:
    with pytest.raises(RequestError, match=f"^multi-token: {message}$"):
        build(options)


def test_a_backbone_without_single_layers_is_refused_with_the_objective_named() -> None:
    class Whole(Transformer):
        def last_layer(self, generator: torch.Generator) -> Layer:  # type: ignore[override]  # it has none
            raise RequestError("backbone 'whole' has no single layer to build a head from")

    backbone = Whole(numbered(13), torch_stream("t"), layers=1, width=16, heads=2)
    with pytest.raises(RequestError, match=r"^objective 'multi-token' adds layers .* backbone 'whole' has no single"):
        MultiToken(backbone, numbered(13), torch_stream("t"))
