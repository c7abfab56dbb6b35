"""Mamba-2: weights start as published, and its size is what formulas say."""

from __future__ import annotations

import math

import pytest
import torch
from recurrent_nets import mamba2
from support import numbered

from foresee.backbones import backbones
from foresee.backbones.mamba.mamba2 import Mamba2Layer
from foresee.core import seeds, spec
from foresee.core.errors import RequestError


def test_weights_start_as_published() -> None:
    net = mamba2(vocab_size=500, width=256, head_width=2, layers=4, state=16)
    assert net.token_table is not None
    assert net.token_table.std().item() == pytest.approx(0.02, rel=0.02)
    for layer in net.layers:
        assert isinstance(layer, Mamba2Layer)
        for weight, bound in (
            (layer.in_proj, 1 / math.sqrt(256)),
            (layer.out_proj, 1 / math.sqrt(512) / math.sqrt(4)),
            (layer.convolution_weight, 1 / math.sqrt(4)),
            (layer.convolution_bias, 1 / math.sqrt(4)),
        ):
            assert bound * 0.95 < weight.abs().max() <= bound
            assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.1)
        A = layer.A_log.exp()
        assert 1 <= A.min() < 2
        assert 15 < A.max() <= 16
        assert A.mean().item() == pytest.approx(8.5, rel=0.1)
        dt = torch.nn.functional.softplus(layer.dt_bias)
        assert 0.001 <= dt.min() * 1.0001 < 0.0015
        assert 0.07 < dt.max() <= 0.1 * 1.0001
        assert dt.log().mean().item() == pytest.approx(math.log(0.01), abs=0.2)  # the middle of a log-uniform
        for ones in (layer.D, layer.norm.weight, layer.gated_norm_weight):
            assert torch.equal(ones, torch.ones_like(ones))


def test_weight_decay_spares_what_is_not_a_matrix() -> None:
    """The optimiser decays by the number of axes."""
    layer = mamba2().layers[0]
    flat = {name for name, value in layer.named_parameters() if value.dim() == 1}
    assert flat == {"A_log", "D", "dt_bias", "convolution_bias", "norm.weight", "gated_norm_weight"}


def test_sizes_by_formula() -> None:
    V, L, W, S, H, G, K = 13, 2, 32, 6, 4, 2, 4
    net = mamba2(V, state=S, groups=G, tied=False)
    E, C = 2 * W, 2 * W + 2 * G * S
    products = L * (W * (E + C + H) + E * W)
    assert net.flops_per_token() == products + V * W
    other = L * (C * K + C + 3 * H + E + W) + W
    assert sum(value.numel() for value in net.parameters()) == products + other + 2 * V * W
    assert net.twin(seeds.torch_stream("twin")).flops_per_token() == products


def test_the_preset_and_the_defaults() -> None:
    options = spec.resolve(backbones, "mamba2-nano").options
    assert options == {
        "layers": 3, "width": 128, "state": 64, "head_width": 64, "groups": 1, "convolution": 4, "expansion": 2,
        "tied": True,
    }  # fmt: skip
    assert spec.resolve(backbones, "mamba2-nano").build(numbered(13), seeds.torch_stream("preset")).width == 128


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"layers": 0}, "layers=0 must be at least 1"),
        ({"width": 0}, "width=0 must be at least 1"),
        ({"state": 0}, "state=0 must be at least 1"),
        ({"head_width": -1}, "head_width=-1 must be at least 1"),
        ({"groups": 0}, "groups=0 must be at least 1"),
        ({"convolution": 0}, "convolution=0 must be at least 1"),
        ({"expansion": 0}, "expansion=0 must be at least 1"),
        ({"head_width": 24}, "expansion=2 times width=32 is 64, which must be a multiple of head_width=24"),
        ({"head_width": 128}, "expansion=2 times width=32 is 64, which must be a multiple of head_width=128"),
        ({"groups": 3}, "groups=3 must divide the 4 heads"),
    ],
    ids=str,
)
def test_impossible_options_are_refused(options: dict[str, int], reason: str) -> None:
    with pytest.raises(RequestError, match=f"^mamba2: {reason}"):
        mamba2(**options)
