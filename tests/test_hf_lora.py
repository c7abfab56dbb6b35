"""Adapters on a checkpoint: what trains, what stays, and what comes out when they are merged."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints as tiny
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

import foresee
from foresee.backbones.hf import HuggingFace
from foresee.core import seeds
from foresee.core.checkpoint_files import quiet
from foresee.core.errors import RequestError

VOCAB = tiny.path_star(8)


def load(folder: Path, stream: str = "weights", **options: Any) -> HuggingFace:
    return HuggingFace(VOCAB, tiny.generator(stream), path=str(folder), **options)


def tokens() -> Tensor:
    return torch.randint(len(VOCAB), (3, 9), generator=seeds.torch_stream("adapted tokens"))


def logits(net: HuggingFace) -> Tensor:
    return net.logits(net(net.embed(tokens())))


@torch.no_grad()
def train_by_hand(net: HuggingFace) -> None:
    """Moves everything that trains."""
    rng = tiny.generator("by hand")
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save(tmp_path_factory.mktemp("gpt2"), "gpt2", std=0.2)


def test_without_the_package_the_extra_is_named(gpt2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RequestError, match=r"^hf: lora=4 needs the package peft, .* pip install 'foresee\[lora\]'"):
        load(gpt2, lora=4)


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_only_adapters_and_token_rows_train(family: str, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    folder = tiny.save(tmp_path, family, std=0.2)
    net, plain = load(folder, lora=3), load(folder)
    torch.testing.assert_close(logits(net), logits(plain), rtol=1e-5, atol=1e-6)
    assert net.has == plain.has
    train_by_hand(net)  # until B has moved, no gradient reaches A
    torch.autograd.backward(logits(net).log_softmax(-1)[..., 0].sum())
    for name, parameter in net.named_parameters():
        trains = "lora_" in name or name in ("token_table", "head", "head_bias")
        assert parameter.requires_grad is trains
        assert (parameter.grad is not None and bool(parameter.grad.any())) is trains, name
        if "lora_" in name:
            assert 3 in parameter.shape


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "phi", "mamba2", "falcon_h1"])
@torch.no_grad()
def test_the_counterpart_has_the_adapters_merged(family: str, tmp_path: Path) -> None:
    """An adapter that a family's code reads past, as on ``dt_proj`` of Mamba, would show here."""
    pytest.importorskip("peft")
    net = load(tiny.save(tmp_path / "from", family, std=0.2), lora=2).eval()
    before = logits(net)
    train_by_hand(net)
    with quiet(), torch.random.fork_rng(devices=()):
        net.counterpart().save_pretrained(tmp_path / "to")
        model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "to")
    ids = torch.tensor(net.counterpart_ids())
    torch.testing.assert_close(
        logits(net), model(ids[tokens()], use_cache=False).logits[..., ids], rtol=1e-3, atol=1e-4
    )
    assert (logits(net) - before).abs().max() > 0.1
    assert not [name for name in model.state_dict() if "lora" in name]


def test_alpha_scales_the_update_and_is_twice_the_rank_by_default(gpt2: Path) -> None:
    pytest.importorskip("peft")

    def update(**options: Any) -> Tensor:
        net = load(gpt2, lora=2, **options)
        layer = net.body.h[0].mlp.c_fc
        torch.nn.init.ones_(layer.lora_B["default"].weight)
        delta: Tensor = layer.get_delta_weight("default").detach()
        return delta

    torch.testing.assert_close(update(), update(lora_alpha=4))
    torch.testing.assert_close(update(), 2 * update(lora_alpha=2))


def test_adapters_are_drawn_from_the_generator_alone(gpt2: Path) -> None:
    pytest.importorskip("peft")
    name = "body.h.0.attn.c_attn.lora_A.default.weight"
    first, again, other = (load(gpt2, stream, lora=2).state_dict()[name] for stream in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_adapters_stay_float32_on_bfloat16_weights(gpt2: Path) -> None:
    pytest.importorskip("peft")
    net = load(gpt2, lora=2, dtype="bfloat16")
    kinds = {parameter.requires_grad: parameter.dtype for parameter in net.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        torch.autograd.backward(logits(net).float().sum())
    adapter = net.body.h[0].mlp.c_fc.lora_B["default"].weight
    assert adapter.grad.dtype == torch.float32
    assert adapter.grad.any()


def test_recomputing_and_decoding_work_with_adapters(gpt2: Path) -> None:
    pytest.importorskip("peft")
    net = load(gpt2, lora=2)
    train_by_hand(net)

    def gradients() -> list[Tensor]:
        wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
        return list(torch.autograd.grad(logits(net).log_softmax(-1)[..., 0].sum(), wanted))

    plain = gradients()
    net.recompute = True
    assert all(torch.equal(first, again) for first, again in zip(plain, gradients(), strict=True))
    x = net.embed(tokens())
    _, state = net.start(x[:, :8])
    torch.testing.assert_close(net.step(x[:, 8], state)[0], net(x)[:, 8], rtol=1e-4, atol=1e-5)


def test_a_run_trains_adapters_and_leaves_the_rest(gpt2: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    settings: dict[str, Any] = {"steps": 5, "batch": 8, "data": "fixed:100", "test": 20, "device": "cpu"}
    task = "path-star:degree=2,length=3,nodes=8"
    run = foresee.train(task, backbone=f"hf:{gpt2},lora=2", root=tmp_path, weight_decay=0.5, **settings)
    trained, plain = run.objective.backbone.state_dict(), load(gpt2).state_dict()
    assert torch.equal(trained["body.h.0.mlp.c_fc.base_layer.weight"], plain["body.h.0.mlp.c_fc.weight"])
    assert trained["body.h.0.mlp.c_fc.lora_B.default.weight"].any()
    assert not torch.equal(trained["token_table"], plain["token_table"])
