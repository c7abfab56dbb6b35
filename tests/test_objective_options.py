"""What is refused of an objective: options, vocabularies and backbones."""

from __future__ import annotations

import pytest
import torch
from objective_support import LEARNED, rng
from support import VOCAB, build, numbered

from foresee.backbones.base import Layer
from foresee.backbones.transformer import Transformer
from foresee.core import seeds, spec
from foresee.core.errors import RequestError
from foresee.objectives import objectives


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ("joint-multi-token:heads=3", "must divide the backbone's width, 32"),
        ("joint-multi-token:heads=0", "must divide the backbone's width, 32"),
        ("masked-diffusion:weighting=linear", "must be one of elbo, mean, mgdm"),
        ("token-masking:choose=words", "must be one of tokens, span"),
        ("token-masking:replace=noise", "must be one of mask, random"),
        ("next-latent:latents=prompt", "must be one of sequence, answer"),
        ("future-insertion:place=end", "must be one of start, random"),
        ("belief-state:gap=2", "has no option 'gap'"),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(objective: str, reason: str) -> None:
    name, _, option = objective.partition(":")
    with pytest.raises(RequestError, match=reason) as refused:
        build(objective, LEARNED)
    assert name in str(refused.value)
    assert option.partition("=")[0] in str(refused.value)


@pytest.mark.parametrize("name", [name for name in objectives.names() if objectives.get(name).symbols])
def test_symbols_of_its_own_must_be_in_the_vocabulary(name: str) -> None:
    symbol = objectives.get(name).symbols[0]
    made = build(name, LEARNED)
    assert made.vocab.symbols == (*VOCAB.symbols, *objectives.get(name).symbols)
    with pytest.raises(RequestError) as refused:
        spec.resolve(objectives, name).build(made.backbone, VOCAB, rng())
    assert f"symbol {symbol!r} is not in the vocabulary" in str(refused.value)


@pytest.mark.parametrize("name", ["multi-token", "multi-token-sequential"])
def test_a_backbone_without_single_layers_is_refused_with_the_objective_named(name: str) -> None:
    class Whole(Transformer):
        def last_layer(self, generator: torch.Generator) -> Layer:  # type: ignore[override]  # it has none
            raise RequestError("backbone 'whole' has no single layer to build a head from")

    backbone = Whole(numbered(13), seeds.torch_stream("t"), layers=1, width=16, heads=2)
    with pytest.raises(RequestError, match=f"^objective '{name}' adds layers .* backbone 'whole' has no single"):
        spec.resolve(objectives, name).build(backbone, numbered(13), seeds.torch_stream("t"))
