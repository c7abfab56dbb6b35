"""Multi-token prediction by parallel heads, and by modules in sequence."""

from __future__ import annotations

import math
from math import log
from pathlib import Path

import pytest
import torch
from objective_support import LEARNED, ROTARY, assert_loss, rng, scrambled
from support import Stub, numbered, random_batch, transformer
from tiny import tiny
from torch import Tensor

from foresee.backbones.base import Layer
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.joint_multi_token import JointMultiToken
from foresee.objectives.multi_token import MultiToken
from foresee.objectives.multi_token_sequential import MultiTokenSequential
from foresee.training.loop import continue_run, train

AFTER_TOKEN = torch.tensor(
    [[1 / 4, 3 / 4], [2 / 3, 1 / 3], [1 / 5, 4 / 5], [3 / 7, 4 / 7], [1 / 9, 8 / 9], [2 / 11, 9 / 11]]
)
"""Probabilities of a and b. Rows 0 and 1: next-token's after reading a and b; the others are for further tokens."""


class NextRows(Layer):
    """Adds a number to the row of the table that a state stands for."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        shifted = z.roll(self.rows, -1)
        return shifted if keep is None else shifted[:, keep]


class HeadTable(Stub):
    """Rows 2 j and 2 j + 1 of the table are head j + 1's probabilities after reading a and b."""

    def __init__(self) -> None:
        super().__init__(AFTER_TOKEN.log(), "token")
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
def test_heads_by_hand(row: list[int], prompt: int, heads: list[list[float]]) -> None:
    made = MultiToken(HeadTable(), Vocabulary(("a", "b")), rng(), heads=3, weight=0.5)
    out = made.loss(Batch.of(torch.tensor([row]), prompt, 3), rng())
    sums = [-sum(map(log, each)) for each in heads]
    parts = {"next-token": sums[0] / 3, "head-2": 0.5 * sums[1] / 3, "head-3": 0.5 * sums[2] / 3}
    assert_loss(out, parts, [-log(p) for p in heads[0]])


@pytest.mark.parametrize(
    ("curriculum", "further"),
    [("constant", [2, 2, 2, 2, 2, 2]), ("forward", [0, 0, 1, 1, 2, 2]), ("reverse", [2, 2, 1, 1, 0, 0])],
)
def test_a_curriculum_adds_and_drops_heads_while_training(tmp_path: Path, curriculum: str, further: list[int]) -> None:
    """Three heads over six steps; dropped are the farthest. It begins anew where a finished run is continued."""
    settings = tiny(f"multi-token:heads=3,curriculum={curriculum}", steps=6, eval_every=1)
    run = train(settings, tmp_path)
    for each in (run, continue_run(run, 6)) if curriculum == "forward" else (run,):
        losses = [[step["parts"][head] for head in ("head-2", "head-3")] for step in each.metrics[-6:]]
        assert [[loss > 0 for loss in both] for both in losses] == [[count > 0, count > 1] for count in further]


class ModuleTable(Stub):
    """Rows 0 and 1: next-token's probabilities after reading a and b. Rows 2 to 5 are for modules to choose from."""

    def __init__(self) -> None:
        super().__init__(AFTER_TOKEN.log(), "token")

    def last_layer(self, generator: torch.Generator) -> Layer:
        return NextRows(0)


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
def test_modules_by_hand(row: list[int], prompt: int, modules: list[list[float]]) -> None:
    """Module 1 looks at the token it is shown alone, and module 2 at the state it is given alone."""
    made = MultiTokenSequential(ModuleTable(), Vocabulary(("a", "b")), rng(), depth=2, weight=0.3)
    # A one-hot vector of width 6 is normalised to sqrt(6).
    shift = torch.eye(6).roll(2, 0) / math.sqrt(6)
    with torch.no_grad():
        made.chain[0].get_parameter("projection").copy_(torch.cat((torch.zeros(6, 6), shift), 1))
        made.chain[1].get_parameter("projection").copy_(torch.cat((shift, torch.zeros(6, 6)), 1))
    out = made.loss(Batch.of(torch.tensor([row]), prompt, 3), rng())
    sums = [-sum(map(log, each)) for each in modules]
    parts = {"next-token": sums[0] / 3, "module-1": 0.15 * sums[1] / 3, "module-2": 0.15 * sums[2] / 3}
    assert_loss(out, parts, [-log(p) for p in modules[0]], 1e-4)


@pytest.mark.parametrize(
    ("objective", "beyond"),
    [
        ("multi-token:heads=12", ["head-10", "head-11", "head-12"]),
        ("multi-token-sequential:depth=10", ["module-9", "module-10"]),
        ("joint-multi-token:horizon=10", ["slot-9", "slot-10"]),
    ],
)
def test_what_looks_beyond_the_sequence_adds_nothing(objective: str, beyond: list[str]) -> None:
    out = scrambled(objective).loss(random_batch(), rng())
    assert [name for name, part in out.parts.items() if part == 0] == beyond
    assert out.total.isfinite()


@pytest.mark.parametrize("backbone", [LEARNED, ROTARY])
def test_under_autocast_states_stay_float32(backbone: str) -> None:
    """Also so that no norm is given a bfloat16 input with float32 weights, of which PyTorch warns."""
    made = scrambled("multi-token-sequential:depth=3", backbone)
    outputs: list[Tensor] = []
    for module in made.chain:
        module.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
    with torch.autocast("cpu", torch.bfloat16):
        out = made.loss(random_batch(), rng())
    assert [each.dtype for each in outputs] == [torch.float32] * 3
    torch.autograd.backward(out.total)
    assert all(parameter.grad is not None for parameter in made.parameters())


# Joint multi-token prediction: one state, several tokens, the earlier ones given


@pytest.mark.parametrize(
    ("bias", "slot_1"),
    [
        # Even attention. With tokens that differ, slots 0 and 1 cancel and the residual, the state after x_t, decides;
        # with equal ones all agree. So x_{t+2} is predicted from x_t: b from a, then a from b.
        (0.0, [1 / 4, 1 / 4]),
        # Slot 1 reads itself at weight 7/8, where 7/8 - 1/8 outweighs half of what the residual brings: so x_{t+2} is
        # predicted from x_{t+1}, the token revealed: b from b, then a from b.
        (log(7), [3 / 4, 1 / 4]),
    ],
)
def test_loss_by_hand(bias: float, slot_1: list[float]) -> None:
    """The prompt "a", the answer "b b a"; a sign for a gives a the probability 3/4, and likewise b."""
    stub = Stub(torch.tensor([[log(3) / 4, -log(3) / 4], [-log(3) / 4, log(3) / 4]]), "token")
    made = JointMultiToken(stub, Vocabulary(("a", "b")), rng(), horizon=1, heads=1, weight=0.5)
    with torch.no_grad():
        made.fetch.queries_keys.zero_()
        made.fetch.values.copy_(torch.eye(2))
        made.fetch.out.copy_(torch.eye(2))
        made.fetch.bias_table[0, 1, 1] = bias
    out = made.loss(Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3), rng())
    slot_0 = [1 / 4, 3 / 4, 1 / 4]  # b after a, b after b, a after b
    parts = {"next-token": -sum(map(log, slot_0)) / 3, "slot-1": -0.5 * sum(map(log, slot_1)) / 3}
    assert_loss(out, parts, [-log(p) for p in slot_0], 1e-3)


def test_weights_start_as_stated() -> None:
    backbone = transformer()
    fetch = JointMultiToken(backbone, numbered(13), rng()).fetch
    assert fetch.state_weight.item() == pytest.approx(0.1)
    assert not fetch.bias_table.any()
    for weight in (fetch.queries_keys, fetch.values, fetch.out):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
