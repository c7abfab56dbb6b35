"""Mamba: weights start as published, and its size is what formulas say."""

from __future__ import annotations

import math

import pytest
import torch
from recurrent_nets import mamba
from support import numbered

from foresee.backbones import backbones
from foresee.backbones.mamba.mamba import MambaLayer
from foresee.core import seeds, spec
from foresee.core.errors import RequestError


def test_weights_start_as_published() -> None:
    net = mamba(vocab_size=500, width=256, layers=4, state=16)
    assert net.token_table is not None
    assert net.token_table.std().item() == pytest.approx(0.02, rel=0.02)
    for layer in net.layers:
        assert isinstance(layer, MambaLayer)
        for weight, bound in (
            (layer.in_proj, 1 / math.sqrt(256)),
            (layer.x_proj, 1 / math.sqrt(512)),
            (layer.dt_proj, 1 / math.sqrt(16)),
            (layer.out_proj, 1 / math.sqrt(512) / math.sqrt(4)),
            (layer.convolution_weight, 1 / math.sqrt(4)),
            (layer.convolution_bias, 1 / math.sqrt(4)),
        ):
            assert bound * 0.95 < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        torch.testing.assert_close(layer.A_log.exp(), torch.arange(1.0, 17).expand(512, 16))
        dt = torch.nn.functional.softplus(layer.dt_bias)
        assert 0.001 <= dt.min() * 1.0001 < 0.0015
        assert 0.07 < dt.max() <= 0.1 * 1.0001
        assert dt.log().mean().item() == pytest.approx(math.log(0.01), abs=0.2)  # the middle of a log-uniform
        for ones in (layer.D, layer.norm.weight):
            assert torch.equal(ones, torch.ones_like(ones))


def test_sizes_by_formula() -> None:
    V, L, W, N, R, K = 13, 2, 32, 6, 5, 4
    net = mamba(V, state=N, time_step_rank=R, tied=False)
    E = 2 * W
    products = L * (W * 2 * E + E * (R + 2 * N) + R * E + E * W)
    assert net.flops_per_token() == products + V * W
    other = L * (E * K + E + E + E * N + E + W) + W  # convolution, dt's bias, A, D, norms
    assert sum(value.numel() for value in net.parameters()) == products + other + 2 * V * W
    assert net.twin(seeds.torch_stream("twin")).flops_per_token() == products


@pytest.mark.parametrize(("width", "rank"), [(128, 8), (32, 2), (33, 3), (8, 1)])
def test_the_rank_of_time_steps_by_default(width: int, rank: int) -> None:
    layer = mamba(width=width).layers[0]
    assert isinstance(layer, MambaLayer)
    assert layer.dt_proj.shape == (2 * width, rank)


def test_the_preset_and_the_defaults() -> None:
    options = spec.resolve(backbones, "mamba-nano").options
    assert options == {
        "layers": 3, "width": 128, "state": 16, "convolution": 4, "expansion": 2, "time_step_rank": None, "tied": True,
    }  # fmt: skip
    assert spec.resolve(backbones, "mamba-nano").build(numbered(13), seeds.torch_stream("preset")).width == 128


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 0}, {"width": 0}, {"state": 0}, {"convolution": 0}, {"expansion": -1}, {"time_step_rank": 0},
    ],
    ids=str,
)  # fmt: skip
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    ((name, value),) = options.items()
    with pytest.raises(RequestError, match=f"^mamba: {name}={value} must be at least 1$"):
        mamba(**options)
