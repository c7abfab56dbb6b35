"""Multi-token prediction with modules in sequence."""

from __future__ import annotations

import math
from math import log
from typing import Any

import pytest
import torch
from several_tokens import AFTER_TOKEN, KINDS, parts_of_loss, predictions, ragged_batches, scrambled
from support import Stub, random_batch
from torch import Tensor

from foresee.backbones.base import Layer
from foresee.core.batch import Batch
from foresee.core.seeds import stream, torch_stream
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.multi_token_sequential import MultiTokenSequential, PredictionModule
from foresee.tasks.path_star import PathStar


def build(options: str = "depth=2", vocab_size: int = 13, **kind: Any) -> MultiTokenSequential:
    made = scrambled(f"multi-token-sequential:{options}", vocab_size, **kind)
    assert isinstance(made, MultiTokenSequential)
    return made


# A loss by hand.


class AsItIs(Layer):
    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        return z if keep is None else z[:, keep]


class Table(Stub):
    """Rows 0 and 1: next-token's probabilities after reading a and b. Rows 2 to 5 are for modules to choose from."""

    def __init__(self) -> None:
        super().__init__(AFTER_TOKEN.log(), "token")

    def last_layer(self, generator: torch.Generator) -> Layer:
        return AsItIs()


@pytest.mark.parametrize(
    ("row", "prompt", "modules"),
    [
        # The prompt "a", the answer "b b a". Module 1 at a and b is shown b, b and predicts b, a. Module 2 at a has
        # module 1's state there, made of the b it was shown, and predicts a.
        ([0, 1, 1, 0], 1, [[3 / 4, 1 / 3, 2 / 3], [4 / 7, 3 / 7], [2 / 11]]),
        # The prompt "b a", the answer "b b a": module 1 at the first b is shown the a and predicts a b.
        ([1, 0, 1, 1, 0], 2, [[3 / 4, 1 / 3, 2 / 3], [4 / 5, 4 / 7, 3 / 7], [8 / 9, 2 / 11]]),
    ],
)
def test_loss_by_hand(row: list[int], prompt: int, modules: list[list[float]]) -> None:
    """Module 1 looks at the token it is shown alone, and module 2 at the state it is given alone."""
    made = MultiTokenSequential(Table(), Vocabulary(("a", "b")), torch_stream("t"), depth=2, weight=0.3)
    # A one-hot vector of width 6 is normalised to sqrt(6).
    shift = torch.eye(6).roll(2, 0) / math.sqrt(6)
    with torch.no_grad():
        made.chain[0].get_parameter("projection").copy_(torch.cat((torch.zeros(6, 6), shift), 1))
        made.chain[1].get_parameter("projection").copy_(torch.cat((shift, torch.zeros(6, 6)), 1))
    out = made.loss(Batch.of(torch.tensor([row]), prompt, 3), torch_stream("t"))
    sums = [-sum(map(log, each)) for each in modules]
    assert list(out.parts) == ["next-token", "module-1", "module-2"]
    expected = [sums[0] / 3, 0.15 * sums[1] / 3, 0.15 * sums[2] / 3]
    assert [part.item() for part in out.parts.values()] == pytest.approx(expected, rel=1e-4)
    assert out.total.item() == pytest.approx(sum(expected), rel=1e-4)
    assert out.per_token[0, prompt:].tolist() == pytest.approx([-log(p) for p in modules[0]], rel=1e-5)
    assert not out.per_token[0, :prompt].any()


# The same loss, worked out row by row, module by module, from the equations.


def rms_normed(x: Tensor, weight: Tensor) -> Tensor:
    return x / math.sqrt((x * x).mean().item() + 1e-6) * weight


def pairs_loss(made: MultiTokenSequential, rows: list[Batch]) -> dict[str, float]:
    sums = [0.0 for _ in range(len(made.chain) + 1)]
    answers = 0
    for row in rows:
        tokens, prompt, end = row.tokens[0], int(row.prompt_len), int(row.prompt_len + row.answer_len)
        answers += end - prompt
        embedded = made.backbone.embed(row.tokens)[0]
        states = made.backbone(embedded[None])[0]
        for k in range(len(made.chain) + 1):
            if k:
                module = made.chain[k - 1]
                assert isinstance(module, PredictionModule)
                joined = []
                for t in range(end - k):
                    state = rms_normed(states[t], module.state_norm.weight)
                    token = rms_normed(embedded[t + k], module.token_norm.weight)
                    joined.append(module.projection @ torch.cat((state, token)))
                states = module.layer(torch.stack(joined)[None])[0]
            for t in range(end - k):
                if prompt <= t + k + 1 < end:
                    sums[k] -= made.backbone.logits(states[t]).log_softmax(-1)[tokens[t + k + 1]].item()
    parts = {"next-token": sums[0] / answers}
    for k in range(1, len(sums)):
        parts[f"module-{k}"] = made.weight / len(made.chain) * sums[k] / answers
    return parts


@torch.no_grad()
@pytest.mark.parametrize("padding", [0, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_every_pair_counts_once_by_its_target(kind: dict[str, Any], padding: int) -> None:
    made = build("depth=3,weight=0.7", **kind)
    for batch, rows in ragged_batches(padding):
        assert parts_of_loss(made, batch) == pytest.approx(pairs_loss(made, rows), rel=1e-4)


# What is read.


def test_the_last_module_at_the_prompts_end_is_told_the_start_and_predicts_the_branch() -> None:
    """On path-star: at "=", shown the start by its embedding alone, module 1 predicts the token after it."""
    task = PathStar(degree=2, length=5, nodes=20)
    batch = task.sample(8, stream("test"))
    made = build("depth=1", vocab_size=len(task.vocab))
    backbone, module, first = made.backbone, made.chain[0], batch.layout.first
    states = backbone(backbone.embed(batch.prompts))
    symbols = backbone.embed(torch.arange(len(task.vocab)))
    told = module(states, batch.tokens[:, 1 : first + 1], symbols)
    expected = backbone.logits(told[:, -1])
    torch.testing.assert_close(predictions(made, batch)[1][:, 1], expected.detach(), rtol=1e-4, atol=1e-4)


# Shape.


def test_modules_learn_through_the_whole_backbone_and_each_other() -> None:
    made = build("depth=2")
    parts = made.loss(random_batch(), torch_stream("t")).parts
    first, second = (list(module.parameters()) for module in made.chain)
    backbone = list(made.backbone.parameters())
    of_one = torch.autograd.grad(parts["module-1"], [*backbone, *first, *second], allow_unused=True, retain_graph=True)
    of_two = torch.autograd.grad(parts["module-2"], [*backbone, *first, *second], allow_unused=True)
    learning = len(backbone) + len(first)
    assert all(gradient.any() for gradient in (*of_one[:learning], *of_two))
    assert all(gradient is None for gradient in of_one[learning:])


@pytest.mark.parametrize("depth", [1, 3])
def test_parameters_by_formula(depth: int) -> None:
    made = build(f"depth={depth}")
    width = 32
    # 12 D^2 and 15 D as a head of a block with biases and final norm; M has 2 D^2 and the two norms before it 2 D.
    own = sum(each.numel() for each in made.parameters()) - sum(each.numel() for each in made.backbone.parameters())
    assert own == depth * (14 * width**2 + 17 * width)


# Everything else.


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_states_stay_float32(kind: dict[str, Any]) -> None:
    """Also so that no norm is given a bfloat16 input with float32 weights, of which PyTorch warns."""
    made = build("depth=3", **kind)
    outputs: list[Tensor] = []
    for module in made.chain:
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        out = made.loss(random_batch(), torch_stream("t"))
    assert [each.dtype for each in outputs] == [torch.float32] * 3
    torch.autograd.backward(out.total)
    assert all(parameter.grad is not None for parameter in made.parameters())
