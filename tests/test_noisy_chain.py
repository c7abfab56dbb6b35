"""The noisy chain: its steps slip as often as they should, and nothing but the whole prompt says where."""

from __future__ import annotations

import math

import pytest
import torch

from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.tasks.noisy_chain import NoisyChain

TASK = NoisyChain(length=12, states=7, noise=0.1, key=9)


def test_slips_are_as_frequent_as_asked_and_go_anywhere_else() -> None:
    batch = TASK.sample(20_000, seeds.stream("slips"))
    walk = torch.cat([batch.prompts[:, [TASK.key]], batch.answers], 1)
    moved = (walk.diff(dim=1) % 7).flatten().bincount(minlength=7) / (20_000 * 12)
    assert abs(float(1 - moved[1]) - 0.1) < 0.003
    others = moved[[0, 2, 3, 4, 5, 6]]
    assert (others - 0.1 / 6).abs().max() < 0.002


def test_slips_of_different_steps_are_independent() -> None:
    batch = TASK.sample(20_000, seeds.stream("slips"))
    walk = torch.cat([batch.prompts[:, [TASK.key]], batch.answers], 1)
    whole = ((walk.diff(dim=1) % 7) == 1).all(1).double().mean()
    assert abs(float(whole) - 0.9**12) < 0.01
    assert math.isclose(TASK.chance, 0.9**12)


def test_references() -> None:
    entropy = -0.9 * math.log(0.9) - 0.1 * math.log(0.1 / 6)
    assert math.isclose(TASK.plateau, entropy)
    sure = NoisyChain(length=5, states=4, noise=0.0, key=2)
    assert (sure.chance, sure.plateau) == (1.0, 0.0)
    assert sure.solve([0, 1, 2, 4]) == [3, 0, 1, 2, 3]


def test_prompts_must_fit_a_word() -> None:
    with pytest.raises(RequestError, match="makes 10\\*\\*20 prompts"):
        NoisyChain(key=19)
