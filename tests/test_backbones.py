"""What every backbone must do: the registered ones in several kinds, two checkpoints, and a plug-in of five methods."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints as tiny
import torch
from support import mamba, mamba2, numbered, scramble, transformer
from torch import Tensor, nn

import foresee
from foresee.backbones import Backbone, Cap, backbones
from foresee.backbones.base import Layer, matrix_weights
from foresee.backbones.hf import HuggingFace
from foresee.core import seeds, spec
from foresee.core.errors import RequestError
from foresee.core.plugins import load_plugin_file

WIDTH, VOCAB_SIZE, CONTEXT = 32, 13, 300
ALL, NONE = frozenset(Cap), frozenset[Cap]()
PLUGIN = Path(__file__).resolve().parent.parent / "examples" / "plugins" / "gru_backbone.py"
LLAMA: dict[str, Any] = {"positions": "rotary", "norm": "rms", "mlp": "swiglu", "bias": False, "tied": False}

KINDS: dict[str, tuple[Callable[..., Backbone], frozenset[Cap]]] = {
    "transformer": (partial(transformer, context=CONTEXT), ALL),
    "transformer, llama": (partial(transformer, context=CONTEXT, **LLAMA), ALL),
    "transformer, no positions": (partial(transformer, context=CONTEXT, positions="none"), ALL - {Cap.POSITIONS}),
    "mamba": (mamba, NONE),
    "mamba, odd": (partial(mamba, state=3, convolution=2, expansion=3, time_step_rank=5, tied=False), NONE),
    "mamba, no window": (partial(mamba, convolution=1), NONE),
    "mamba2": (mamba2, NONE),
    "mamba2, groups": (partial(mamba2, groups=2, state=6, tied=False), NONE),
    "mamba2, odd": (partial(mamba2, head_width=4, state=5, convolution=2, expansion=3), NONE),
    "mamba2, no window": (partial(mamba2, convolution=1), NONE),
}
CHECKPOINTS = {"hf, gpt2": ("gpt2", ALL), "hf, mamba": ("mamba", NONE)}
SCRATCH, EVERY = [*KINDS], [*KINDS, *CHECKPOINTS, "least"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    limit: dict[str, dict[str, int]] = {"gpt2": {"n_positions": CONTEXT}}
    return {
        family: tiny.save(tmp_path_factory.mktemp(family), family, std=0.2, **limit.get(family, {}))
        for family, _ in CHECKPOINTS.values()
    }


@pytest.fixture(scope="module")
def gru() -> Iterator[type[Backbone]]:
    """The example plug-in, which has the five methods and nothing else."""
    backbones.discover()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbones, "_classes", dict(backbones._classes))
        load_plugin_file(PLUGIN)
        yield backbones.get("gru")
    del sys.modules[f"foresee_plugin_{PLUGIN.stem}"]


@pytest.fixture
def build(request: pytest.FixtureRequest, folders: dict[str, Path]) -> Callable[..., Backbone]:
    """Builds the kind that the test is parametrised by."""
    kind: str = request.param
    if kind == "least":
        gru = request.getfixturevalue("gru")
        return lambda seed=0: gru(numbered(VOCAB_SIZE), seeds.torch_stream("least", seed), width=WIDTH, layers=2)
    if kind in KINDS:
        return KINDS[kind][0]
    path = str(folders[CHECKPOINTS[kind][0]])
    return lambda seed=0: HuggingFace(numbered(VOCAB_SIZE), seeds.torch_stream("hf", seed), path=path, random=seed > 0)


@pytest.fixture
def net(build: Callable[..., Backbone]) -> Backbone:
    made = build()
    if not isinstance(made, HuggingFace):
        scramble(made)
    return made


def of(kinds: list[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("build", kinds, indirect=True)


def states(length: int, rows: int = 3) -> Tensor:
    return torch.randn(rows, length, WIDTH, generator=seeds.torch_stream("states"))


def close(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-5)


def test_every_registered_backbone_is_tested_here() -> None:
    assert {name.partition(",")[0] for name in EVERY} - {"least"} == set(backbones.names())


# Capabilities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "has"),
    [
        *((kind, has) for kind, (_, has) in KINDS.items()),
        *((kind, has) for kind, (_, has) in CHECKPOINTS.items()),
        ("least", NONE),
    ],
    indirect=["build"],
)
def test_what_is_measured_is_what_it_can_do(net: Backbone, has: frozenset[Cap]) -> None:
    assert net.has == has
    assert net.twin(seeds.torch_stream("twin")).has == has
    x, causal = states(4), torch.ones(3, 4, 4, dtype=torch.bool).tril()
    asked: dict[Cap, dict[str, Any]] = {
        Cap.LOOKAHEAD: {"attend": "full"}, Cap.VISIBILITY: {"attend": causal},
        Cap.POSITIONS: {"positions": torch.arange(4)},
    }  # fmt: skip
    for cap, options in asked.items():
        if cap in has:
            assert net(x, **options).shape == x.shape
        else:
            says = "attend='causal'|no positions|positions=none|was measured not to have|leave attend and positions out"
            with pytest.raises(RequestError, match=says):
                net(x, **options)


# Decoding -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
@of(EVERY)
@pytest.mark.parametrize(("prompt", "steps"), [(1, 0), (2, 16), (5, 1), (31, 0), (64, 1000), (73, 2)])
def test_decoding_equals_reading(net: Backbone, prompt: int, steps: int) -> None:
    """Within a chunk of a scan, at its end and after it; past a buffer's first capacity."""
    exactly = not isinstance(net, HuggingFace)  # parts of which compute in float32 in any case
    x = states(prompt + 40).double() if exactly else states(prompt + 40)
    near = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-11) if exactly else close
    whole = net.double()(x) if exactly else net(x)
    hidden, state = net.start(x[:, :prompt], steps)
    near(hidden, whole[:, prompt - 1])
    for place in range(prompt, prompt + 40):
        hidden, state = net.step(x[:, place], state)
        near(hidden, whole[:, place])


@torch.no_grad()
@of(EVERY)
def test_two_prefixes_are_continued_in_turns(net: Backbone) -> None:
    x = states(9)
    sequences = (x, x.flip(1))
    wholes = [net(each) for each in sequences]
    begun = [net.start(each[:, :4])[1] for each in sequences]
    for place in range(4, 9):
        for which in (0, 1):
            hidden, begun[which] = net.step(sequences[which][:, place], begun[which])
            close(hidden, wholes[which][:, place])


@torch.no_grad()
@of(EVERY)
def test_decoding_under_bfloat16_autocast(net: Backbone) -> None:
    x = states(20)
    with torch.autocast("cpu", torch.bfloat16):
        hidden, state = net.start(x[:, :3])
        for place in range(3, 20):
            hidden, state = net.step(x[:, place], state)
    exact = net(x)[:, -1]
    assert (hidden - exact).norm() / exact.norm() < 0.06


# Reading --------------------------------------------------------------------------------------------------------------


@torch.no_grad()
@of(EVERY)
@pytest.mark.parametrize("keep", [slice(0, 9), slice(0, 1), slice(3, 7), slice(8, 9), slice(-3, None)], ids=str)
def test_keep_is_a_slice_of_the_whole(net: Backbone, keep: slice) -> None:
    x = states(9)
    close(net(x, keep=keep), net(x)[:, keep])
    if Cap.LOOKAHEAD in net.has and keep.start >= 0:
        close(net(x, attend="full", keep=keep), net(x, attend="full")[:, keep])


@torch.no_grad()
@of(EVERY)
@pytest.mark.parametrize("length", [9, 96, 192])
def test_the_past_is_blind_to_the_future_through_every_layer(net: Backbone, length: int) -> None:
    x, nudged, cut = states(length), states(length), length // 2 + 1
    nudged[:, cut:] = -x[:, cut:]
    torch.testing.assert_close(net(x)[:, :cut], net(nudged)[:, :cut], rtol=1e-5, atol=1e-6)
    assert ((net(x)[:, cut:] - net(nudged)[:, cut:]).abs().amax(-1) > 1e-3).all()


def outcome(net: Backbone, **options: Any) -> tuple[Tensor, Tensor]:
    """Logits of some tokens, and the gradient of every parameter."""
    tokens = torch.randint(VOCAB_SIZE, (4, 12), generator=seeds.torch_stream("tokens"))
    logits = net.logits(net(net.embed(tokens), **options))
    loss = logits.float().log_softmax(-1)[..., 0].mean()
    gradients = torch.autograd.grad(loss, list(net.parameters()), materialize_grads=True)
    assert all(gradient.dtype == torch.float32 for gradient in gradients)
    return logits.detach().float(), torch.cat([gradient.flatten() for gradient in gradients])


@of(EVERY)
def test_every_weight_has_a_finite_gradient(net: Backbone) -> None:
    tokens = torch.arange(VOCAB_SIZE)[None]
    torch.autograd.backward(net.logits(net(net.embed(tokens))).log_softmax(-1)[..., 0].sum())
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


@of([kind for kind in EVERY if kind != "least"])
@pytest.mark.parametrize("keep", [None, slice(5, 12)], ids=str)
def test_recomputing_keeps_less_and_gives_the_same_gradients(net: Backbone, keep: slice | None) -> None:
    kept: list[int] = []

    def count(value: Tensor) -> Tensor:
        kept.append(value.numel())
        return value

    with torch.autograd.graph.saved_tensors_hooks(count, lambda value: value):
        logits, gradient = outcome(net.train(), keep=keep)
        everything = sum(kept)
        kept.clear()
        net.recompute = True
        again, recomputed = outcome(net, keep=keep)
    assert sum(kept) < everything / 2
    assert torch.equal(again, logits)
    torch.testing.assert_close(recomputed, gradient, rtol=1e-5, atol=1e-7)
    close(net.start(states(6))[0], net(states(6))[:, -1])  # nothing of it is left for decoding


@of(EVERY)
def test_bfloat16_autocast_is_close_forwards_and_backwards(net: Backbone) -> None:
    exact, gradient = outcome(net, keep=slice(5, 12))
    with torch.autocast("cpu", torch.bfloat16):
        rough, rough_gradient = outcome(net, keep=slice(5, 12))
    assert 0 < (rough - exact).norm() / exact.norm() < 0.05
    assert torch.cosine_similarity(rough_gradient, gradient, 0) > 0.99


# Layers ---------------------------------------------------------------------------------------------------------------


@of([kind for kind in EVERY if kind != "least"])
def test_trace_and_trunk_are_the_layers_inputs_and_carry_gradients(net: Backbone) -> None:
    x = states(9)
    trace = net.trace(x)
    assert trace.shape == (3, 3, 9, WIDTH)
    if net.longest is None:  # learned positions are added below the first layer
        assert torch.equal(trace[0], x)
        assert torch.equal(trace[0], net.trace(x)[0])
    assert torch.equal(trace[-1], net(x))
    trunk, final = net.with_trunk(x, keep=slice(3, 6))
    torch.testing.assert_close(trunk, trace[-2])
    close(final, net(x)[:, 3:6])
    (first, *_) = torch.autograd.grad(trunk.square().sum(), list(net.layer_list()[0].parameters()), allow_unused=True)
    assert first is not None
    assert first.any()


@torch.no_grad()
@of(SCRATCH)
def test_a_fresh_last_layer_stands_on_the_trunk_as_its_own_does(net: Any) -> None:
    x = states(9)
    trunk, final = net.with_trunk(x, keep=slice(3, 6))
    head: Layer = net.last_layer(seeds.torch_stream("head"))
    expected = net(x)
    assert not torch.allclose(head(trunk), expected, atol=1e-2), "its weights are its own"
    own = [*net.layer_list()[-1].parameters(), *net.final_norm.parameters()]
    for ours, theirs in zip(head.parameters(), own, strict=True):
        ours.copy_(theirs)
    close(head(trunk), expected)
    close(head(trunk, keep=slice(3, 6)), final)


# Weights --------------------------------------------------------------------------------------------------------------


@of(EVERY)
def test_the_generator_alone_decides_the_weights(build: Callable[..., Backbone]) -> None:
    first, same, other = (build(seed=seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    fixed = {name for name in first if torch.equal(first[name], other[name])}
    constant = {name for name, value in first.items() if value.numel() < 2 or not value.std() > 0}
    assert {name for name in fixed if not name.endswith("A_log")} == constant


@of(EVERY)
def test_a_twin_has_the_same_shape_and_other_weights_and_no_tokens(net: Backbone) -> None:
    twin, again = net.twin(seeds.torch_stream("twin")), net.twin(seeds.torch_stream("twin"))
    tables = {"token_table", "head", "head_bias", "table.weight"}
    shapes = {name: value.shape for name, value in net.named_parameters() if name not in tables}
    assert {name: value.shape for name, value in twin.named_parameters() if name not in tables} == shapes
    assert torch.equal(twin(states(5)), again(states(5)))
    assert not torch.allclose(twin(states(5)), net(states(5)), atol=0.1)
    assert twin.vocab_size == 0
    if hasattr(net, "token_table"):
        for call in (lambda: twin.embed(torch.zeros(1, 1, dtype=torch.int64)), lambda: twin.logits(states(5))):
            with pytest.raises(RuntimeError, match="is a twin"):
                call()  # type: ignore[no-untyped-call]
        with pytest.raises(RequestError, match=r"a twin .*no"):
            twin.counterpart()


LAYER_MATRICES = {
    "transformer": {"attention_in.weight", "attention_out.weight", "mlp_in.weight", "mlp_out.weight"},
    "mamba": {"in_proj", "x_proj", "dt_proj", "out_proj", "convolution_weight"},
    "mamba2": {"in_proj", "out_proj", "convolution_weight"},
}


@of(SCRATCH)
def test_weight_decay_acts_on_matrices_alone(build: Callable[..., Backbone], request: pytest.FixtureRequest) -> None:
    kind = request.node.callspec.params["build"].partition(",")[0]
    net = build()
    decayed = {id(weight) for weight in matrix_weights(nn.ModuleDict({"inner": net}))}
    names = {name for name, value in net.named_parameters() if id(value) in decayed}
    assert {name.split(".", 2)[2] for name in names if "." in name} == LAYER_MATRICES[kind]
    assert {name for name in names if "." not in name} == {"head"} & dict(net.named_parameters()).keys()


def test_weight_decay_spares_embeddings_and_decay_rates_of_checkpoints(folders: dict[str, Path]) -> None:
    for family, spared in (("gpt2", {"body.wpe.weight"}), ("mamba", {"A_log"})):
        net = HuggingFace(numbered(VOCAB_SIZE), seeds.torch_stream("hf"), path=str(folders[family]))
        decayed = {id(weight) for weight in matrix_weights(net)}
        left = {name for name, value in net.named_parameters() if value.dim() >= 2 and id(value) not in decayed}
        assert {name if family == "gpt2" else name.rpartition(".")[2] for name in left} == {"token_table", *spared}


def test_sizes_by_formula() -> None:
    def count(net: Backbone) -> int:
        return sum(value.numel() for value in net.parameters())

    V, C, L, W, F, N, R, K, S, H, G = 13, 64, 2, 32, 48, 6, 5, 4, 6, 4, 2
    E = 2 * W
    plain, llama = transformer(V, context=C), transformer(V, hidden=F, **LLAMA)
    assert count(plain) == V * W + C * W + L * (12 * W * W + 13 * W) + 2 * W
    assert count(llama) == 2 * V * W + L * (4 * W * W + 3 * W * F + 2 * W) + W
    one, two = mamba(V, state=N, time_step_rank=R, tied=False), mamba2(V, state=S, groups=G, tied=False)
    in_one, in_two = L * (W * 2 * E + E * (R + 2 * N) + R * E + E * W), L * (W * (2 * E + 2 * G * S + H) + E * W)
    assert count(one) == in_one + L * (E * K + E + E + E * N + E + W) + W + 2 * V * W
    channels = E + 2 * G * S
    assert count(two) == in_two + L * (channels * K + channels + 3 * H + E + W) + W + 2 * V * W
    products = {plain: 12 * L * W * W, llama: L * (4 * W * W + 3 * W * F), one: in_one, two: in_two}
    for net, expected in products.items():
        assert net.flops_per_token() == expected + V * W
        assert net.twin(seeds.torch_stream("twin")).flops_per_token() == expected


def test_presets_and_defaults() -> None:
    gpt, mamba_shape = {"norm": "layer", "tied": True}, {"layers": 3, "width": 128, "convolution": 4}
    presets: dict[str, dict[str, Any]] = {
        "gpt-nano": {"layers": 6, "width": 128, "heads": 4, "positions": "rotary", **gpt},
        "gpt-mini": {"layers": 12, "width": 384, "heads": 6, "positions": "learned", **gpt},
        "mamba-nano": {**mamba_shape, "state": 16, "expansion": 2, "tied": True},
        "mamba2-nano": {**mamba_shape, "state": 64, "head_width": 64, "groups": 1},
    }
    for preset, options in presets.items():
        assert options.items() <= spec.resolve(backbones, preset).options.items()


# Refusals -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build_one", "options", "reason"),
    [
        (transformer, {"layers": 0}, "layers=0 must be at least 1"),
        (transformer, {"width": 30}, "width=30 must be a multiple of heads=4"),
        (transformer, {"width": 12, "positions": "rotary"}, "an even quotient for rotary"),
        (mamba2, {"head_width": 24}, "expansion=2 times width=32 is 64, which must be a multiple of head_width=24"),
        (mamba2, {"head_width": 128}, "expansion=2 times width=32 is 64, which must be a multiple of head_width=128"),
        (mamba2, {"groups": 3}, "groups=3 must divide the 4 heads"),
    ],
)  # fmt: skip
def test_impossible_options_are_refused(build_one: Any, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(RequestError, match=f"^{build_one.__name__}: .*{reason}"):
        build_one(**options)


@of([kind for kind in EVERY if kind.startswith("transformer") or kind == "hf, gpt2"])
def test_a_sequence_beyond_its_positions_is_refused(net: Backbone) -> None:
    assert net.longest == CONTEXT
    says = (
        "sequence of 301 tokens does not fit context=300; set context=301|300 positions, too few for a sequence of 301"
    )
    for read in (net, net.trace, net.start):
        read(states(CONTEXT, 1))
        with pytest.raises(RequestError, match=says):
            read(states(CONTEXT + 1, 1))
    _, state = net.start(states(CONTEXT, 1))
    with pytest.raises(RequestError, match=says):
        net.step(states(1, 1)[:, 0], state)


@of(["least"])
def test_what_a_plug_in_of_five_methods_lacks_is_refused_in_one_sentence(net: Backbone) -> None:
    x = states(4)
    assert (net.longest, net.shards(), net.content_digest({}), net.attention(x)) == (None, [], "", None)
    assert net.flops_per_token() == 2 * 6 * WIDTH**2 + VOCAB_SIZE * WIDTH
    assert net.counterpart_ids() == tuple(range(VOCAB_SIZE))
    assert {tuple(weight.shape) for weight in matrix_weights(net)} == {(3 * WIDTH, WIDTH)}
    for call, says in {
        lambda: net.trace(x): "does not list its layers",
        lambda: net.with_trunk(x): "does not list its layers",
        lambda: net.last_layer(seeds.torch_stream("head")): "has no single layer to build a head from",
        net.counterpart: "has no counterpart in the transformers library",
    }.items():
        with pytest.raises(RequestError, match=f"^backbone 'gru' {says}$"):
            call()


@pytest.mark.usefixtures("gru")
@pytest.mark.parametrize(
    ("objective", "says"),
    [
        ("next-token", ""), ("reversed", ""), ("any-order", "needs POSITIONS"),
        ("multi-token", "adds layers .* has no single layer to build a head from"),
        ("multi-token-sequential", "adds layers .* has no single layer to build a head from"),
    ],
)  # fmt: skip
def test_a_plug_in_of_five_methods_trains_and_decodes_or_is_refused(objective: str, says: str, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"steps": 60, "batch": 64, "lr": 1e-2, "warmup": 5, "test": 50, "device": "cpu"}
    given = ("path-star:degree=2,length=2,nodes=6,goals=one", objective, "gru:layers=1,width=32")
    if says:
        with pytest.raises(RequestError, match=f"{objective}.*{says}"):
            foresee.train(*given, runs=tmp_path, **settings)
        return
    run = foresee.train(*given, data="fixed:500", eval_every=30, runs=tmp_path, **settings)
    assert run.metrics[-1]["loss"] < run.metrics[0]["loss"]
    assert foresee.load(run.dir).generate("1,2|1,4/1,2=") == run.generate("1,2|1,4/1,2=")
    with pytest.raises(RequestError, match="a prompt is a text, not a list; give one at a time"):
        run.generate(["1,2|1,4/1,2="])  # type: ignore[arg-type]  # what is tested
