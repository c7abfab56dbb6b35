"""Families of checkpoints: what they can do, how they decode, a layer of them, adapters, and where they mislead."""

from __future__ import annotations

import sys
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
from foresee.backbones.hf.checks import Decoder, DecodingState, agrees
from foresee.backbones.hf.reading import mask_and_positions
from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.checkpoint_files import quiet
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Objective
from foresee.objectives.next_token import NextToken
from foresee.objectives.reversed import Reversed
from foresee.objectives.teacher_forcing import SHARING
from foresee.objectives.teacherless import Teacherless
from foresee.tasks.path_star import PathStar
from foresee.training.checkpoint import saved_weights

VOCAB = Vocabulary(tuple("0123456789|=/$"))
ALL = frozenset(Cap)
MEASURED = {
    "gpt2": ALL, "gpt_neox": ALL, "llama": ALL, "qwen3": ALL, "mamba": frozenset(), "mamba2": frozenset(),
    **{family: {Cap.LOOKAHEAD} for family in ("jamba", "falcon_h1", "recurrent_gemma", "bamba")},
}  # fmt: skip
"""Jamba's one attention layer reads whatever a mask lets it read; its Mamba layer reads the past in any case, and
nothing in it knows of positions; so in other models that are recurrent by half. Mamba 2 takes a mask and ignores it."""
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

    def load(self, family: str, vocab: Vocabulary = VOCAB, **options: Any) -> HuggingFace:
        return HuggingFace(vocab, tiny.generator(), path=str(self.folder(family)), **options).eval()

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
def test_logits_and_trace_are_those_of_the_checkpoint(checkpoints: Checkpoints, family: str) -> None:
    net, shown = checkpoints.load(family), tokens()
    theirs = checkpoints.whole(family)(shown, use_cache=False, output_hidden_states=True)
    x = net.embed(shown)
    close(net.logits(net(x)), theirs.logits[..., : len(VOCAB)])
    assert theirs.logits.std() > 0.2  # large enough that a mistake would show
    trace = net.trace(x)
    assert trace.shape == (net.config.num_hidden_layers + 1, *x.shape)
    assert torch.equal(trace[-1], net(x))
    if family == "gpt2":  # families differ in what their own list begins and ends with
        close(trace, torch.stack(theirs.hidden_states))
    elif family != "recurrent_gemma":  # which scales its inputs
        assert torch.equal(trace[0], x)
    assert (trace[1:] - trace[:-1]).abs().amax((1, 2, 3)).min() > 1e-3


# Decoding -------------------------------------------------------------------------------------------------------------


@every_family
@torch.no_grad()
def test_decoding_agrees_and_reads_rows_once_until_they_part(checkpoints: Checkpoints, family: str) -> None:
    net, shown = checkpoints.load(family), tokens(6)
    shown[:, :6] = shown[[0, 0, 2, 2, 2, 5], :6]
    x, read = net.embed(shown), [0]
    hook = net.body.register_forward_pre_hook(
        lambda _, __, given: read.append(given["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    hidden, state = net.start(x[:, :8])
    hook.remove()
    close(hidden, net(x[:, :8])[:, -1])
    for position in (8, 9):
        hidden, state = net.step(x[:, position], state)
        close(hidden, net(x[:, : position + 1])[:, -1])
    assert sum(read) == (3 * 6 + 6 * 2 if net._decoder.shares else 6 * 8)
    assert net._decoder.shares or family not in ("gpt2", "llama", "qwen3")
    assert (net._decoder.name is None) == (family in CACHELESS), "a cache is used where it agrees"


@every_family
def test_training_reads_the_prompt_that_a_group_shares_once_where_the_family_allows(
    checkpoints: Checkpoints, family: str
) -> None:
    task = PathStar(degree=2, length=3, nodes=10, goals="all")
    net, batch = checkpoints.load(family, task.vocab), task.sample(8, seeds.stream("family rows"))
    made, read = NextToken(net, task.vocab, tiny.generator()), [0]
    net.body.register_forward_pre_hook(
        lambda _, __, given: read.append(given["inputs_embeds"].shape[:2].numel()), with_kwargs=True
    )
    apart, together = (
        made.loss(each, tiny.generator()).total for each in (batch, batch.sharing(task.group, task.shared_prefix))
    )
    close(together, apart)
    columns = task.prompt_length + task.answer_length - 1
    own = columns - task.shared_prefix
    shares = MEASURED.get(family, frozenset()) >= SHARING
    assert read[1:] == [8 * columns, 4 * (task.shared_prefix + 2 * own) if shares else 8 * columns]
    assert shares == (family in ("gpt2", "gpt_neox", "llama", "qwen3"))


@pytest.mark.parametrize("mistake", ["one state for all", "stale state", "raises"])
def test_a_cache_that_goes_wrong_is_found(checkpoints: Checkpoints, mistake: str) -> None:
    class Wrong(Decoder):
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
    assert agrees(Decoder(net.body, net, "cache_params"), x)
    assert not agrees(Wrong(net.body, net, "cache_params"), x)


# Capabilities ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MEASURED)
@torch.no_grad()
def test_what_is_measured_is_true(checkpoints: Checkpoints, family: str) -> None:
    """By hand, on the library's own model: does the first position see the last under a mask of zeros, and are two
    sequences packed into one row, each with its own positions, read as they are alone?"""
    net = checkpoints.load(family)
    assert net.has == MEASURED[family]
    if family in ("falcon_h1", "recurrent_gemma", "bamba"):
        return  # whose code takes other words
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


def test_a_run_of_a_family_that_uses_one_layer_twice(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "zamba2", "zamba2")
    settings: dict[str, Any] = {"steps": 2, "batch": 4, "data": "fixed:50", "test": 20, "device": "cpu"}
    run = foresee.train(
        "path-star:degree=2,length=3,nodes=8,goals=one", backbone=f"hf:{folder}", runs=tmp_path, **settings
    )
    trained = run.objective.backbone.state_dict()
    first, second = (trained[f"body.layers.{layer}.shared_transformer.self_attn.q_proj.weight"] for layer in (1, 3))
    assert torch.equal(first, second)
    assert first.data_ptr() == second.data_ptr()


# One layer ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "mamba"])
@torch.no_grad()
def test_a_fresh_layer_with_the_last_layers_weights_gives_the_final_states(
    checkpoints: Checkpoints, family: str
) -> None:
    net = checkpoints.load(family)
    head = net.last_layer(tiny.generator("head"))
    x = torch.randn(2, 7, net.width, generator=tiny.generator("inputs"))
    trunk, final = net.with_trunk(x, keep=slice(2, 5))
    assert not torch.allclose(head(trunk, keep=slice(2, 5)), final, atol=1e-2), "its weights are its own"
    last = len(net.layer_list()) - 1
    theirs = {name.replace(f".{last}.", ".0."): value for name, value in net.body.state_dict().items()}
    for name, value in head.body.named_parameters():
        if value.requires_grad:
            value.copy_(theirs[name])
    close(head(trunk, keep=slice(2, 5)), final)


def test_a_fresh_layer_adds_no_positions_of_its_own_and_takes_layers_of_one_kind(checkpoints: Checkpoints) -> None:
    with torch.no_grad():
        states = checkpoints.load("gpt2").last_layer(tiny.generator("head"))(torch.ones(1, 6, tiny.WIDTH))
    torch.testing.assert_close(states, states[:, :1].expand_as(states))
    with pytest.raises(RequestError, match="its layers are of several kinds"):
        checkpoints.load("jamba").last_layer(tiny.generator("head"))


def test_heads_of_equal_depth_train_on_a_checkpoint_and_load_again(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "checkpoint", "gpt2", std=0.02)
    settings: dict[str, Any] = {"steps": 6, "batch": 16, "data": "fixed:320", "test": 16, "eval_every": 3, "warmup": 0}
    run = foresee.train(
        "path-star:degree=2,length=3,nodes=10,goals=one", objective="multi-token:heads=2", backbone=f"hf:path={folder}",
        runs=tmp_path / "runs", **settings,
    )  # fmt: skip
    assert [line["step"] for line in run.metrics] == [3, 6]
    assert run.metrics[1]["parts"]["head-2"] < run.metrics[0]["parts"]["head-2"]
    again = foresee.load(run.dir)
    assert not any("wpe" in name and "heads" in name for name in saved_weights(again.objective))
    assert again.generate("0,1|1,2|0,3|3,4/0,4=").count(",") == 2


# Adapters -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def nudge_what_trains(net: HuggingFace) -> None:
    rng = tiny.generator("by hand")
    for parameter in net.parameters():
        if parameter.requires_grad:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=rng))


def scores(net: HuggingFace) -> Tensor:
    return net.logits(net(net.embed(tokens())))


def test_without_the_package_the_extra_is_named(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(RequestError, match=r"^hf: lora=4 needs the package peft, .* pip install '.*\[lora\]'"):
        checkpoints.load("gpt2", lora=4)


@pytest.mark.parametrize("family", [*tiny.FAMILIES, "phi", "mamba2", "falcon_h1"])
def test_only_adapters_and_token_rows_train_and_the_counterpart_has_them_merged(
    checkpoints: Checkpoints, family: str, tmp_path: Path
) -> None:
    """An adapter that a family's code reads past, as on ``dt_proj`` of Mamba, would show here."""
    pytest.importorskip("peft")
    net, plain = checkpoints.load(family, lora=3), checkpoints.load(family)
    before = scores(net).detach()
    torch.testing.assert_close(before, scores(plain), rtol=1e-5, atol=1e-6)
    assert net.has == plain.has
    nudge_what_trains(net)  # until B has moved, no gradient reaches A
    torch.autograd.backward(scores(net).log_softmax(-1)[..., 0].sum())
    for name, parameter in net.named_parameters():
        trains = "lora_" in name or name in ("token_table", "head", "head_bias")
        assert parameter.requires_grad is trains
        assert (parameter.grad is not None and bool(parameter.grad.any())) is trains, name
        assert "lora_" not in name or 3 in parameter.shape
    with quiet(), torch.random.fork_rng(devices=()), torch.no_grad():
        net.counterpart().save_pretrained(tmp_path)
        model: Any = AutoModelForCausalLM.from_pretrained(tmp_path)
        ids = torch.tensor(net.counterpart_ids())
        merged = model(ids[tokens()], use_cache=False).logits[..., ids]
        torch.testing.assert_close(scores(net), merged, rtol=1e-3, atol=1e-4)
        assert (merged - before).abs().max() > 0.1
    assert not [name for name in model.state_dict() if "lora" in name]


def test_adapters_are_drawn_from_the_generator_and_scaled_by_alpha(checkpoints: Checkpoints) -> None:
    pytest.importorskip("peft")

    def layer(stream: str = "a", **options: Any) -> Any:
        net = HuggingFace(VOCAB, tiny.generator(stream), path=str(checkpoints.folder("gpt2")), lora=2, **options)
        return net.body.h[0].mlp.c_fc

    first, again, other = (layer(stream).lora_A["default"].weight for stream in ("a", "a", "b"))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    updates = []
    for adapted in (layer(), layer(lora_alpha=4), layer(lora_alpha=2)):
        torch.nn.init.ones_(adapted.lora_B["default"].weight)
        updates.append(adapted.get_delta_weight("default").detach())
    torch.testing.assert_close(updates[0], updates[1])
    torch.testing.assert_close(updates[0], 2 * updates[2])


def test_adapters_stay_float32_and_recomputing_and_decoding_work_with_them(checkpoints: Checkpoints) -> None:
    pytest.importorskip("peft")
    net = checkpoints.load("gpt2", lora=2, dtype="bfloat16")
    kinds = {parameter.requires_grad: parameter.dtype for parameter in net.parameters()}
    assert kinds == {True: torch.float32, False: torch.bfloat16}
    with torch.autocast("cpu", torch.bfloat16):
        torch.autograd.backward(scores(net).float().sum())
    adapter = net.body.h[0].mlp.c_fc.lora_B["default"].weight
    assert adapter.grad.dtype == torch.float32
    assert adapter.grad.any()
    net = checkpoints.load("gpt2", lora=2).train()
    nudge_what_trains(net)
    wanted = [parameter for parameter in net.parameters() if parameter.requires_grad]
    plain, again = list[Tensor](), list[Tensor]()
    for gradients in (plain, again):
        gradients += torch.autograd.grad(scores(net).log_softmax(-1)[..., 0].sum(), wanted)
        net.recompute = True
    assert all(map(torch.equal, plain, again))
    x = net.embed(tokens())
    _, state = net.start(x[:, :8])
    close(net.step(x[:, 8], state)[0], net(x)[:, 8])


def test_a_run_trains_adapters_and_leaves_the_rest(checkpoints: Checkpoints, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    settings: dict[str, Any] = {"steps": 5, "batch": 8, "data": "fixed:100", "test": 20, "device": "cpu"}
    task, backbone = "path-star:degree=2,length=3,nodes=8,goals=one", f"hf:{checkpoints.folder('gpt2')},lora=2"
    run = foresee.train(task, backbone=backbone, runs=tmp_path, weight_decay=0.5, **settings)
    trained = run.objective.backbone.state_dict()
    plain = checkpoints.load("gpt2", foresee.task(task).vocab).state_dict()
    assert torch.equal(trained["body.h.0.mlp.c_fc.base_layer.weight"], plain["body.h.0.mlp.c_fc.weight"])
    assert trained["body.h.0.mlp.c_fc.lora_B.default.weight"].any()
    assert not torch.equal(trained["token_table"], plain["token_table"])


def test_rows_are_not_packed_beyond_local_attention(checkpoints: Checkpoints) -> None:
    """16 positions fit its window and the packed rows of a pair do not; then each is read by itself."""
    net = checkpoints.load("gpt_neo")
    assert net.widest_mask == 16
    batch = Batch.of(tokens(4, 14).index_fill(1, torch.arange(8), 3), 10, 4)
    made = NextToken(net, VOCAB, tiny.generator())
    paired = made.loss(batch.sharing(2, 8), tiny.generator())
    assert torch.equal(paired.per_token, made.loss(batch, tiny.generator()).per_token)
