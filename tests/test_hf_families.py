"""Families of models that differ in what they can do, how they decode, and where they would mislead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints as tiny
import torch
from support import random_batch
from torch import Tensor
from transformers import AutoModelForCausalLM

import foresee
from foresee.backbones import Cap
from foresee.backbones.base import refuse_missing
from foresee.backbones.hf import HuggingFace
from foresee.backbones.hf.checks import DecodingState, ReadAgain, WithCache, agrees
from foresee.backbones.hf.reading import mask_and_positions
from foresee.core import seeds
from foresee.core.checkpoint_files import quiet
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Objective
from foresee.objectives.next_token import NextToken
from foresee.objectives.reversed import Reversed
from foresee.objectives.teacherless import Teacherless

VOCAB = Vocabulary(tuple("0123456789|=/$"))
ALL = frozenset(Cap)
MEASURED = {
    "gpt2": ALL, "gpt_neox": ALL, "llama": ALL, "qwen3": ALL, "mamba": frozenset(), "jamba": {Cap.LOOKAHEAD},
    "mamba2": frozenset(),
}  # fmt: skip
"""Jamba's one attention layer reads whatever a mask lets it read; its Mamba layer reads the past in any case, and
nothing in it knows of positions. Mamba 2 takes a mask and ignores it."""

CACHELESS = ("recurrent_gemma", "bamba")
"""The first keeps its state within its layers, the second gives other numbers with its cache than without."""

every_family = pytest.mark.parametrize("family", [*tiny.FAMILIES, "mamba2", "falcon_h1", *CACHELESS])
six = pytest.mark.parametrize("family", tiny.FAMILIES)


class Checkpoints:
    """A checkpoint of each family, written when first asked for."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, family: str) -> Path:
        if not (self.root / family).exists():
            tiny.save(self.root / family, family, std=0.2)
        return self.root / family

    def load(self, family: str, vocab: Vocabulary = VOCAB) -> HuggingFace:
        return HuggingFace(vocab, tiny.generator(), path=str(self.folder(family))).eval()

    def whole(self, family: str) -> Any:
        with quiet(), torch.random.fork_rng(devices=()):  # loading draws for some families
            auto: Any = AutoModelForCausalLM
            return auto.from_pretrained(self.folder(family)).eval()


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(tmp_path_factory.mktemp("checkpoints"))


def tokens(rows: int = 2, length: int = 10) -> Tensor:
    return torch.randint(len(VOCAB), (rows, length), generator=seeds.torch_stream("family tokens"))


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


@every_family
@torch.no_grad()
def test_logits_are_those_of_the_checkpoint(checkpoints: Checkpoints, family: str) -> None:
    net, shown = checkpoints.load(family), tokens()
    theirs = checkpoints.whole(family)(shown, use_cache=False).logits[..., : len(VOCAB)]
    close(net.logits(net(net.embed(shown))), theirs)
    assert theirs.std() > 0.2  # large enough that a mistake would show


@every_family
@torch.no_grad()
def test_the_trace_begins_with_the_input_of_each_layer_and_ends_with_the_output(
    checkpoints: Checkpoints, family: str
) -> None:
    net = checkpoints.load(family)
    x = net.embed(tokens())
    trace = net.trace(x)
    assert trace.shape == (net.config.num_hidden_layers + 1, *x.shape)
    assert torch.equal(trace[-1], net(x))
    if family not in ("gpt2", "recurrent_gemma"):  # one adds positions to its inputs, the other scales them
        assert torch.equal(trace[0], x)
    layers = next(m for m in net.body.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == len(trace) - 1)
    assert len({id(layer) for layer in layers}) == len(trace) - 1
    assert (trace[1:] - trace[:-1]).abs().amax((1, 2, 3)).min() > 1e-3


# Decoding -------------------------------------------------------------------------------------------------------------


@every_family
@torch.no_grad()
def test_decoding_step_by_step_agrees_with_reading_at_once(checkpoints: Checkpoints, family: str) -> None:
    net, shown = checkpoints.load(family), tokens(6)
    x = net.embed(shown)
    hidden, state = net.start(x[:, :4])
    close(hidden, net(x[:, :4])[:, -1])
    for position in range(4, 10):
        hidden, state = net.step(x[:, position], state)
        close(hidden, net(x[:, : position + 1])[:, -1])


@every_family
def test_a_cache_is_used_where_it_agrees(checkpoints: Checkpoints, family: str) -> None:
    expected = ReadAgain if family in CACHELESS else WithCache
    assert type(checkpoints.load(family)._decoder) is expected


@pytest.mark.parametrize("mistake", ["one state for all", "stale state", "raises"])
def test_a_cache_that_goes_wrong_is_found(checkpoints: Checkpoints, mistake: str) -> None:
    class Wrong(WithCache):
        last: Any = None

        def step(self, x: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
            if mistake == "raises":
                raise AttributeError("no cache to continue")
            if mistake == "stale state":
                _, state = super().step(x, state)
            if mistake == "one state for all":
                state = self.last or state
            hidden, self.last = super().step(x, state)
            return hidden, self.last

    net = checkpoints.load("mamba")
    x = torch.randn(2, 6, tiny.WIDTH, generator=tiny.generator("wrong"))
    assert agrees(WithCache(net.body, "cache_params"), net, x)
    assert not agrees(Wrong(net.body, "cache_params"), net, x)


# Capabilities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MEASURED)
def test_what_is_measured(checkpoints: Checkpoints, family: str) -> None:
    assert checkpoints.load(family).has == MEASURED[family]


@pytest.mark.parametrize("family", MEASURED)
@torch.no_grad()
def test_what_is_measured_is_true(checkpoints: Checkpoints, family: str) -> None:
    """By hand, on the library's own model: does the first position see the last under a mask of zeros, and are two
    sequences packed into one row, each with its own positions, read as they are alone?"""
    net = checkpoints.load(family)
    x, other = net.embed(tokens()), net.embed(tokens(2, 11)[:, 1:])

    def by_hand(x: Tensor, visible: Tensor, positions: Tensor) -> Tensor:
        inputs = mask_and_positions(x, visible, positions, x.dtype)
        if family == "mamba":  # takes no positions, and multiplies its inputs by a mask of padding
            inputs = {}
        hidden: Tensor = net.body(inputs_embeds=x, use_cache=False, **inputs)[0]
        return hidden

    places = torch.arange(10)
    full = torch.ones(1, 10, 10, dtype=torch.bool)
    changed = torch.cat((x[:, :-1], other[:, :1]), 1)
    looked = (by_hand(changed, full, places) - by_hand(x, full, places))[:, 0].abs().max() > 1e-4
    assert bool(looked) is (Cap.LOOKAHEAD in net.has)

    document = torch.arange(20) // 10
    causal = torch.ones(20, 20, dtype=torch.bool).tril()
    apart = (document[:, None] == document)[None] & causal
    packed = by_hand(torch.cat((x, other), 1), apart, places.repeat(2))
    alone = torch.cat((net(x), net(other)), 1)
    assert torch.allclose(packed, alone, rtol=1e-4, atol=2e-5) is (net.has == ALL)


def test_half_recurrent_models_look_ahead_but_obey_no_mask(checkpoints: Checkpoints) -> None:
    for family in ("falcon_h1", "recurrent_gemma", "bamba"):
        has = checkpoints.load(family).has
        assert has == {Cap.LOOKAHEAD}, "their recurrent half reads the order whatever positions say"


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_a_recurrent_model_refuses_rather_than_ignores(checkpoints: Checkpoints, family: str) -> None:
    net = checkpoints.load(family)
    x = net.embed(tokens())
    mask = torch.ones(2, 10, 10, dtype=torch.bool).tril()
    for options, cap in (
        ({"attend": "full"}, "LOOKAHEAD"),
        ({"attend": mask}, "VISIBILITY"),
        ({"positions": torch.arange(10)}, "POSITIONS"),
    ):
        with pytest.raises(RequestError, match=rf"\({family}\) was measured not to have {cap} \("):
            net(x, **options)


def test_a_family_that_never_looks_ahead(tmp_path: Path) -> None:
    net = HuggingFace(VOCAB, tiny.generator(), path=str(tiny.save(tmp_path, "gpt_neo", std=0.2)))
    assert net.has == {Cap.VISIBILITY, Cap.POSITIONS}
    with pytest.raises(RequestError, match=r"\(gpt_neo\) was measured not to have LOOKAHEAD"):
        net(net.embed(tokens()), attend="full")


# Objectives -----------------------------------------------------------------------------------------------------------


@six
@pytest.mark.parametrize("kind", [NextToken, Reversed, Teacherless])
def test_objectives_that_need_nothing_train_on_every_family(
    checkpoints: Checkpoints, family: str, kind: type[Objective]
) -> None:
    net = checkpoints.load(family).train()
    refuse_missing(kind.needs, "objective", net, family)
    made, batch = kind(net, VOCAB, tiny.generator("objective")), random_batch(4)
    total = made.loss(batch, tiny.generator("loss")).total
    torch.autograd.backward(total)
    still = [name for name, value in made.named_parameters() if value.grad is None or not value.grad.any()]
    assert total.isfinite()
    assert not still
    with torch.inference_mode():
        assert made.eval().generate(batch.prompts, 4).shape == (4, 4)


@six
def test_answers_written_freely_are_those_of_reading_at_once(checkpoints: Checkpoints, family: str) -> None:
    net = checkpoints.load(family)
    made, prompt = NextToken(net, VOCAB, tiny.generator()), tokens(4, 6)
    with torch.inference_mode():
        written = made.generate(prompt, 5)
        shown = prompt
        for _ in range(5):
            shown = torch.cat((shown, net.logits(net(net.embed(shown))[:, -1:]).argmax(-1)), 1)
    assert torch.equal(written, shown[:, 6:])


@six
def test_an_objective_that_looks_ahead_is_refused_on_a_recurrent_model(checkpoints: Checkpoints, family: str) -> None:
    net, needs = checkpoints.load(family), frozenset({Cap.LOOKAHEAD})
    if family != "mamba":
        refuse_missing(needs, "masked-diffusion", net, family)
        return
    with pytest.raises(RequestError, match=r"'masked-diffusion' needs LOOKAHEAD .* backbone 'mamba' was measured not"):
        refuse_missing(needs, "masked-diffusion", net, family)


def test_a_run_of_a_family_that_uses_one_layer_twice(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "zamba2", "zamba2")
    settings: dict[str, Any] = {"steps": 2, "batch": 4, "data": "fixed:50", "test": 20, "device": "cpu"}
    run = foresee.train("path-star:degree=2,length=3,nodes=8", backbone=f"hf:{folder}", root=tmp_path, **settings)
    trained = run.objective.backbone.state_dict()
    first, second = (trained[f"body.layers.{layer}.shared_transformer.self_attn.q_proj.weight"] for layer in (1, 3))
    assert torch.equal(first, second)
    assert first.data_ptr() == second.data_ptr()


@six
def test_a_twin_of_every_family(checkpoints: Checkpoints, family: str) -> None:
    net = checkpoints.load(family)
    twin = net.twin(tiny.generator("twin"))
    x = net.embed(tokens())
    assert twin(x).shape == x.shape
    assert twin.has == net.has
    assert not any(torch.equal(own, value) for own, value in zip(twin(x), net(x), strict=True))
