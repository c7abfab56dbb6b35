"""Mamba and Mamba-2: weights start as published, and a state has one size whatever was read."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from recurrent_nets import WIDTH, mamba, mamba2
from torch import Tensor
from torch.nn import functional

from foresee.core import seeds

BOUNDS = {"in_proj": 1 / math.sqrt(256), "convolution_weight": 0.5, "convolution_bias": 0.5,
          "out_proj": 1 / math.sqrt(512) / math.sqrt(4)}  # fmt: skip


@pytest.mark.parametrize(
    ("net", "further"),
    [
        (partial(mamba, state=16), {"x_proj": 1 / math.sqrt(512), "dt_proj": 1 / math.sqrt(16)}),
        (partial(mamba2, state=16, head_width=2), {}),
    ],
    ids=["mamba", "mamba2"],
)
def test_weights_start_as_published(net: Callable[..., Any], further: dict[str, float]) -> None:
    made = net(vocab_size=500, width=256, layers=4)
    assert made.token_table.std().item() == pytest.approx(0.02, rel=0.02)
    for layer in made.layers:
        for name, bound in (BOUNDS | further).items():
            weight = layer.get_parameter(name)
            assert bound * 0.95 < weight.abs().max() <= bound, name
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1), name
        A = layer.A_log.exp()
        if further:
            torch.testing.assert_close(A, torch.arange(1.0, 17).expand(512, 16))
        else:
            assert 1 <= A.min() < 2
            assert 15 < A.max() <= 16
            assert A.mean().item() == pytest.approx(8.5, rel=0.1)
        dt = functional.softplus(layer.dt_bias)
        assert 0.001 <= dt.min() * 1.0001 < 0.0015
        assert 0.07 < dt.max() <= 0.1 * 1.0001
        assert dt.log().mean().item() == pytest.approx(math.log(0.01), abs=0.2)  # the middle of a log-uniform
        ones = [layer.D, layer.norm.weight] + ([] if further else [layer.gated_norm_weight])
        assert all(torch.equal(value, torch.ones_like(value)) for value in ones)


@pytest.mark.parametrize(("width", "rank"), [(128, 8), (32, 2), (33, 3), (8, 1)])
def test_the_rank_of_time_steps_by_default(width: int, rank: int) -> None:
    layer: Any = mamba(width=width).layers[0]
    assert layer.dt_proj.shape == (2 * width, rank)


@torch.no_grad()
@pytest.mark.parametrize(
    ("net", "numbers"),
    [
        (mamba, 2 * WIDTH * (8 + 3)),
        (partial(mamba, state=3, convolution=2, expansion=3), 3 * WIDTH * (3 + 1)),
        (mamba2, 2 * WIDTH * 8 + 3 * (2 * WIDTH + 2 * 8)),
        (partial(mamba2, state=6, groups=2, convolution=1), 2 * WIDTH * 6),
    ],
    ids=["mamba", "mamba, odd", "mamba2", "mamba2, groups, no window"],
)
def test_a_state_has_one_size_whatever_was_read_and_stays_float32(net: Callable[[], Any], numbers: int) -> None:
    made = net()
    x = torch.randn(3, 200, WIDTH, generator=seeds.torch_stream("states"))

    def held(state: list[Any]) -> int:
        """Bytes of memory that a state keeps alive."""
        parts: list[Tensor] = [part for each in state for part in (each.window, each.scan)]
        return sum(part.untyped_storage().nbytes() for part in parts)

    states = [made.start(x[:, :length])[1] for length in (1, 5, 200)]
    assert {held(state) for state in states} == {4 * 3 * 2 * numbers}
    for place in range(5):
        states = [made.step(x[:, place], state)[1] for state in states]
        assert len({held(state) for state in states}) == 1
    with torch.autocast("cpu", torch.bfloat16):
        _, state = made.step(x[:, 0], made.start(x)[1])
    assert {each.scan.dtype for each in state} == {torch.float32}
