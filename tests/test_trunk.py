"""A fresh last layer stands on a backbone's trunk as the backbone's own last layer does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import SMALL, VOCAB, Recurrent

from foresee.backbones.base import Backbone, backbones
from foresee.core import seeds
from foresee.core.errors import RequestError

BACKBONES = [text for text in SMALL if text != "recurrent"]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_last_layer_stands_on_the_trunk(backbone: str) -> None:
    net: Any = SMALL[backbone](VOCAB, seeds.torch_stream("trunk"))
    x = torch.randn(2, 9, 32, generator=seeds.torch_stream("trunk inputs"))
    with torch.no_grad():
        trunk, final = net.with_trunk(x, keep=slice(3, 6))
        torch.testing.assert_close(final, net(x, keep=slice(3, 6)))
        head = net.last_layer(seeds.torch_stream("head"))
        expected = net(x)
        assert not torch.equal(head(trunk), expected), "its weights are its own"
        own = [
            *(net.blocks if "transformer" in backbone else net.layers)[-1].parameters(),
            *net.final_norm.parameters(),
        ]
        for ours, theirs in zip(head.parameters(), own, strict=True):
            ours.copy_(theirs)
        torch.testing.assert_close(head(trunk), expected)
        torch.testing.assert_close(head(trunk, keep=slice(3, 6)), final)


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_trunk_is_all_but_the_last_layer(backbone: str) -> None:
    net: Any = SMALL[backbone](VOCAB, seeds.torch_stream("trunk"))
    x = torch.randn(2, 9, 32, generator=seeds.torch_stream("trunk inputs"))
    with torch.no_grad():
        torch.testing.assert_close(net.with_trunk(x)[0], net.trace(x)[-2])


def test_a_backbone_without_single_layers_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(backbones._classes, "recurrent", Recurrent)
    with pytest.raises(RequestError, match="'recurrent' has no single layer to build a head from"):
        Backbone.last_layer(Recurrent(VOCAB, seeds.torch_stream("trunk")), seeds.torch_stream("head"))
