"""A checkpoint gives a fresh layer of its kind, which stands on its trunk as its own last layer does."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_checkpoints as tiny
import torch

from foresee.backbones.hf import HuggingFace
from foresee.backbones.hf.reading import HuggingFaceLayer
from foresee.core.errors import RequestError
from foresee.training.loop import train
from foresee.training.run import load, saved_weights
from foresee.training.settings import Settings

VOCAB = tiny.path_star(10)


def load_family(folder: Path, family: str) -> HuggingFace:
    return HuggingFace(VOCAB, tiny.generator("weights"), path=str(tiny.save(folder, family, std=0.2)))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "mamba"])
def test_with_the_last_layers_weights_it_gives_the_final_states(tmp_path: Path, family: str) -> None:
    net = load_family(tmp_path, family)
    head: HuggingFaceLayer = net.last_layer(tiny.generator("head"))
    x = torch.randn(2, 7, net.width, generator=tiny.generator("inputs"))
    with torch.no_grad():
        trunk, final = net.with_trunk(x, keep=slice(2, 5))
        torch.testing.assert_close(trunk, net.trace(x)[-2])
        torch.testing.assert_close(final, net(x)[:, 2:5])
        assert not torch.allclose(head(trunk, keep=slice(2, 5)), final, atol=1e-2), "its weights are its own"
        last = len(net._reader.layers()) - 1
        theirs = {name.replace(f".{last}.", ".0."): value for name, value in net.body.state_dict().items()}
        for name, value in head.body.named_parameters():
            if value.requires_grad:
                value.copy_(theirs[name])
        torch.testing.assert_close(head(trunk, keep=slice(2, 5)), final, rtol=1e-4, atol=1e-5)


def test_it_adds_no_positions_of_its_own(tmp_path: Path) -> None:
    head = load_family(tmp_path, "gpt2").last_layer(tiny.generator("head"))
    same = torch.ones(1, 6, head.body.config.hidden_size)
    with torch.no_grad():
        states = head(same)
    torch.testing.assert_close(states, states[:, :1].expand_as(states))


def test_layers_of_several_kinds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="its layers are of several kinds"):
        load_family(tmp_path, "jamba").last_layer(tiny.generator("head"))


def test_heads_of_equal_depth_train_on_a_checkpoint_and_load_again(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "checkpoint", "gpt2", std=0.02)
    spec = Settings.of(
        "path-star:degree=2,length=3,nodes=10", "multi-token:heads=2", f"hf:path={folder}",
        steps=6, batch=16, data="fixed:320", test=16, eval_every=3, warmup=0,
    )  # fmt: skip
    run = train(spec, tmp_path / "runs")
    assert [line["step"] for line in run.metrics] == [3, 6]
    assert run.metrics[1]["parts"]["head-2"] < run.metrics[0]["parts"]["head-2"]
    again = load(run.dir)
    assert not any("wpe" in name and "heads" in name for name in saved_weights(again.objective))
    assert again.generate("0,1|1,2|0,3|3,4/0,4=").count(",") == 2
