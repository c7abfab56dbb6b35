"""The library's model that a Transformer turns into computes what the Transformer computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support import scramble, transformer
from transformers import AutoModelForCausalLM

from foresee.core import seeds
from foresee.core.errors import RequestError

LLAMA: dict[str, Any] = {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False}
KINDS: dict[str, dict[str, Any]] = {
    "gpt2": {},
    "gpt2, tanh": {"mlp": "gelu-tanh", "hidden": 40},
    "gpt2, untied": {"tied": False},
    "llama": {**LLAMA, "tied": False},
    "llama, tied": {**LLAMA, "hidden": 40},
}


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_equal_through_a_saved_folder(kind: str, tmp_path: Path) -> None:
    net = transformer(**KINDS[kind])
    scramble(net)
    before = torch.get_rng_state()
    net.counterpart().save_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    tokens = torch.randint(13, (3, 12), generator=seeds.torch_stream("counterpart"))
    with torch.no_grad():
        expected = net.logits(net(net.embed(tokens)))
        torch.testing.assert_close(loaded(tokens).logits, expected, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("odd", [{"positions": "none"}, {"bias": False}, {**LLAMA, "norm": "layer"}])
def test_mixed_parts_have_none(odd: dict[str, Any]) -> None:
    with pytest.raises(RequestError, match="only GPT-2's parts together"):
        transformer(**odd).counterpart()


def test_a_twin_has_none() -> None:
    with pytest.raises(RequestError, match="a twin has no token table"):
        transformer().twin(seeds.torch_stream("twin")).counterpart()
