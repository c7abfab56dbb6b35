"""A checkpoint as a backbone: its rows, masks, positions and options, what is refused, and a run from end to end."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints as tiny
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from foresee.backbones import backbones
from foresee.backbones.counterparts import word_tokenizer
from foresee.backbones.hf import HuggingFace
from foresee.backbones.hf.checks import LogitsForm
from foresee.core import seeds
from foresee.core.checkpoint_files import quiet
from foresee.core.errors import RequestError
from foresee.core.spec import resolve
from foresee.core.vocabulary import Vocabulary

VOCAB = tiny.path_star(10)
STD = 0.2


def load(folder: Path, vocab: Vocabulary = VOCAB, stream: str = "weights", **options: Any) -> HuggingFace:
    return HuggingFace(vocab, tiny.generator(stream), path=str(folder), **options)


def whole(folder: Path, **options: Any) -> Any:
    auto: Any = AutoModelForCausalLM
    with quiet():
        return auto.from_pretrained(folder, dtype=torch.float32, **options).eval()


def tokens(rows: int = 3, length: int = 9, seed: int = 0) -> Tensor:
    return torch.randint(len(VOCAB), (rows, length), generator=seeds.torch_stream("test tokens", seed))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2 with a tokenizer whose numbers are not the task's."""
    folder = tiny.save(tmp_path_factory.mktemp("gpt2"), "gpt2", std=STD)
    return tiny.single_digits(folder)


@pytest.fixture(scope="module")
def phi(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phi, whose head is its own and has a bias, without a tokenizer."""
    return tiny.save(tmp_path_factory.mktemp("phi"), "phi", std=STD)


# Rows of the table ----------------------------------------------------------------------------------------------------


def test_only_the_rows_of_the_task_are_kept(gpt2: Path) -> None:
    net: Any = load(gpt2)
    assert net.token_ids == (14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 3, 2, 1, 0)
    assert torch.equal(net.token_table, whole(gpt2).transformer.wte.weight[torch.tensor(net.token_ids)])
    assert not [name for name, parameter in net.named_parameters() if tiny.ROWS in parameter.shape]
    assert (net.head, net.head_bias) == (None, None)


def test_a_head_of_its_own_and_its_bias_are_kept(phi: Path) -> None:
    net: Any = load(phi)
    model = whole(phi)
    assert net.token_ids == tuple(range(len(VOCAB)))
    assert torch.equal(net.head, model.lm_head.weight[: len(VOCAB)])
    assert torch.equal(net.head_bias, model.lm_head.bias[: len(VOCAB)])
    torch.testing.assert_close(net.logits(net(net.embed(tokens()))), model(tokens()).logits[..., : len(VOCAB)])


def test_symbols_in_angle_brackets_get_fresh_rows_near_the_mean(gpt2: Path) -> None:
    vocab = VOCAB.extended(("<mask>", "<pad>"))
    nets: list[Any] = [load(gpt2, vocab), load(gpt2, vocab), load(gpt2, vocab, "another stream")]
    ours, again, other = (net.token_table.detach() for net in nets)
    table = whole(gpt2).transformer.wte.weight.detach()
    assert nets[0].token_ids[-2:] == (None, None)
    assert not torch.equal(ours[-2], ours[-1])
    assert float((ours[-2] - table.mean(0)).std() / table.std()) == pytest.approx(0.1, rel=0.5)
    assert torch.equal(ours, again)
    assert torch.equal(ours[:-2], other[:-2])
    assert not torch.equal(ours[-2:], other[-2:])


def test_a_family_that_scales_and_caps_is_followed(tmp_path: Path) -> None:
    gemma = load(tiny.save(tmp_path / "gemma2", "gemma2", std=STD))
    cohere = load(tiny.save(tmp_path / "cohere", "cohere", std=STD))
    assert gemma.embed_scale == pytest.approx(tiny.WIDTH**0.5)
    assert gemma.logits_form == LogitsForm(1.0, 2.0)
    assert cohere.logits_form.scale == pytest.approx(0.25)
    for net, folder in ((gemma, tmp_path / "gemma2"), (cohere, tmp_path / "cohere")):
        ours, theirs = net.logits(net(net.embed(tokens()))), whole(folder)(tokens()).logits[..., : len(VOCAB)]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_logits_that_rows_alone_do_not_give_are_refused(phi: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import PhiForCausalLM

    plain = PhiForCausalLM.forward

    def shifted(self: Any, *given: Any, **options: Any) -> Any:
        out = plain(self, *given, **options)
        out.logits = out.logits + torch.arange(tiny.ROWS)
        return out

    monkeypatch.setattr(PhiForCausalLM, "forward", shifted)
    with pytest.raises(RequestError, match=r"\(phi\) computes its logits in a way that its rows alone do not give"):
        load(phi)


# Masks, positions, training -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_two_sequences_packed_into_one_row_are_read_as_if_alone(gpt2: Path, attention: str) -> None:
    """A bool mask would hide nothing under eager attention, and positions alone would be read as packed documents."""
    net = load(gpt2, attention=attention).eval()
    assert net.body.config._attn_implementation == attention
    x = net.embed(tokens())
    default = load(gpt2)
    assert default.body.config._attn_implementation == "sdpa"
    torch.testing.assert_close(net(x), default(x), rtol=1e-4, atol=1e-5)
    places = torch.cat((torch.arange(4), torch.arange(5)))
    document = torch.tensor([0] * 4 + [1] * 5)
    visible = ((document[:, None] == document) & (torch.ones(9, 9).tril() > 0))[None]
    packed = net(x, attend=visible, positions=places)
    torch.testing.assert_close(packed, torch.cat((net(x[:, :4]), net(x[:, 4:])), 1), rtol=1e-4, atol=1e-5)
    assert (packed - net(x)).abs().max() > 0.1


def test_a_mask_wider_than_local_attention_is_refused(tmp_path: Path) -> None:
    net = load(tiny.save(tmp_path, "gemma2", std=STD))
    net(torch.zeros(1, 16, tiny.WIDTH), attend="full")
    with pytest.raises(RequestError, match=r"\(gemma2\) attends within 16 tokens, which a mask for 17 would undo"):
        net(torch.zeros(1, 17, tiny.WIDTH), attend="full")
    net(torch.zeros(1, 17, tiny.WIDTH))


def test_training_draws_nothing_though_the_checkpoint_has_dropout(gpt2: Path) -> None:
    assert whole(gpt2).config.resid_pdrop == 0.1
    net = load(gpt2)
    x = net.embed(tokens())
    assert net.training
    assert torch.equal(net(x), net(x))
    assert torch.equal(net(x), net.eval()(x))


# Options --------------------------------------------------------------------------------------------------------------


def test_rows_and_the_interface_are_float32_whatever_the_weights(gpt2: Path, tmp_path: Path) -> None:
    with quiet():
        tiny.model("gpt2").half().save_pretrained(tmp_path)
    assert {parameter.dtype for parameter in load(tmp_path).parameters()} == {torch.float32}
    net: Any = load(gpt2, dtype="bfloat16")
    exact = load(gpt2)
    assert {parameter.dtype for parameter in net.body.parameters()} == {torch.bfloat16}
    assert net.token_table.dtype == torch.float32
    assert net.has == exact.has
    hidden = net(net.embed(tokens()))
    assert hidden.dtype == torch.float32
    difference = (hidden - exact(exact.embed(tokens()))).abs().max()
    assert 0 < difference < 0.1
    _, state = net.start(net.embed(tokens()))
    assert net.step(net.embed(tokens()[:, 0]), state)[0].dtype == torch.float32
    torch.autograd.backward(net.logits(hidden).log_softmax(-1)[..., 0].sum())


def test_random_weights_are_the_architectures(gpt2: Path, tmp_path: Path) -> None:
    fresh, pretrained = load(gpt2, random=True), load(gpt2)
    for net, std in ((fresh, 0.02), (pretrained, STD)):
        assert float(net.body.h[0].attn.c_attn.weight.detach().std()) == pytest.approx(std, rel=0.1)
    assert fresh.token_ids == pretrained.token_ids
    tiny.config("gpt2").save_pretrained(tmp_path)
    assert load(tmp_path, random=True).vocab_size == len(VOCAB)


def test_the_spec_has_a_bare_form(gpt2: Path) -> None:
    resolved = resolve(backbones, f"hf:{gpt2}")
    assert resolved.cls is HuggingFace
    assert resolved.text == (
        f"hf:path={gpt2},dtype=float32,attention=none,random=false,symbols=auto,lora=none,lora_alpha=none"
    )
    assert resolve(backbones, resolved.text) == resolved
    assert resolve(backbones, f"hf:{gpt2},symbols=first,lora=4").options["lora"] == 4


# Shape and export -----------------------------------------------------------------------------------------------------


def test_parameters_in_matrix_products(gpt2: Path, phi: Path) -> None:
    layer = 4 * tiny.WIDTH**2 + 8 * tiny.WIDTH**2
    assert load(gpt2).flops_per_token() == 2 * layer + len(VOCAB) * tiny.WIDTH
    assert load(phi).flops_per_token() == 2 * (4 * 32 * 32 + 2 * 32 * 48) + len(VOCAB) * tiny.WIDTH


@torch.no_grad()
def nudge(net: HuggingFace) -> None:
    """Changes every parameter, as training would."""
    rng = tiny.generator("nudge")
    for parameter in net.parameters():
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))


@pytest.mark.parametrize("random", [False, True])
@pytest.mark.parametrize("name", ["gpt2", "phi"])
def test_the_counterpart_computes_the_same_once_saved(
    name: str, random: bool, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder = request.getfixturevalue(name)
    vocab = VOCAB.extended(("<mask>",)) if name == "gpt2" else VOCAB
    net = load(folder, vocab, random=random).eval()
    nudge(net)
    with quiet():
        net.counterpart().save_pretrained(tmp_path)
    model, ids = whole(tmp_path), torch.tensor(net.counterpart_ids())
    shown = tokens()
    shown[:, 2] = net.vocab_size - 1
    torch.testing.assert_close(
        net.logits(net(net.embed(shown))), model(ids[shown]).logits[..., ids], rtol=1e-4, atol=1e-5
    )
    word_tokenizer(vocab, net.counterpart_ids()).save_pretrained(tmp_path)
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("1,2|0,9/1,9=$")["input_ids"] == [ids[token] for token in vocab.encode("12|09/19=$")]
    table, original = model.get_input_embeddings().weight, whole(folder).get_input_embeddings().weight
    assert len(table) == tiny.ROWS + (name == "gpt2")
    spare = [row for row in range(tiny.ROWS) if row not in net.token_ids]
    assert torch.equal(table[spare], original[spare]) is not random
    assert model.config.to_dict().get("resid_pdrop") == whole(folder).config.to_dict().get("resid_pdrop")


# What is refused ------------------------------------------------------------------------------------------------------


def configured(folder: Path, name: str = "", **changes: Any) -> None:
    """A folder with a configuration alone: a tiny GPT-2's, changed, or the default of the named one."""
    (getattr(transformers, name)() if name else tiny.config("gpt2")).save_pretrained(folder)
    tiny.edit_config(folder, **changes)


def saved(folder: Path, family: str = "gpt2", **changes: Any) -> None:
    """A checkpoint whose configuration was changed afterwards."""
    with quiet():
        tiny.save(folder, family)
    tiny.edit_config(folder, **changes)


def pickled(folder: Path) -> None:
    configured(folder)
    torch.save({}, folder / "pytorch_model.bin")


def truncated(folder: Path) -> None:
    saved(folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])


def not_finite(folder: Path) -> None:
    """Of which one number of one weight became NaN, as in a training that diverged."""
    saved(folder)
    weights = load_file(folder / "model.safetensors")
    weights["transformer.h.1.mlp.c_fc.weight"][0, 0] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


OWN_CODE: dict[str, Any] = {"model_type": "mine", "auto_map": {"AutoModelForCausalLM": "modeling_mine.Mine"}}
QUANTISED: dict[str, Any] = {"quantization_config": {"quant_method": "gptq", "bits": 4}}


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (lambda folder: None, {}, "holds no config.json, so there is no model in it"),
        (lambda folder: (folder / "config.json").write_text("{"), {}, "config.json cannot be read"),
        (partial(configured, model_type="no-such-type"), {}, "has no architecture of model_type='no-such-type'"),
        (partial(configured, **OWN_CODE), {}, r"needs code of its own \(model_type='mine'\), which is never run"),
        (partial(saved, **QUANTISED), {}, "holds quantised weights"),
        (partial(configured, name="T5Config"), {}, r"\(t5\) is an encoder-decoder"),
        (partial(configured, name="DistilBertConfig"), {}, r"\(distilbert\) is not a causal language model"),
        (
            partial(saved, family="bert"),
            {},
            r"\(bert\) does not serve as a backbone: HuggingFace leaks: in causal",
        ),
        (pickled, {}, r"holds pickled weights alone, and nothing is unpickled here; .*save_pretrained"),
        (configured, {}, "holds no model.safetensors; random=true starts from its architecture alone"),
        (truncated, {}, "the weights of .* cannot be loaded"),
        (partial(saved, n_embd=2 * tiny.WIDTH), {}, "the weights of .* cannot be loaded"),
        (partial(saved, n_layer=3), {}, r"lacks the weights 'transformer\.h\.2\."),
        (not_finite, {}, r"weight 'transformer\.h\.1\.mlp\.c_fc\.weight' of the checkpoint holds NaN or infinity$"),
        (partial(configured, n_head=5), {"random": True}, r"\(gpt2\) cannot be built: "),
        (saved, {"attention": "no-such"}, r"\(gpt2\) with attention=no-such cannot be built"),
        (saved, {"attention": "flash_attention_2"}, r"\(gpt2\) with attention=flash_attention_2 cannot be built"),
        (saved, {"lora": 0}, "lora=0 must be at least 1, a rank, or none"),
        (saved, {"lora": 4, "lora_alpha": 0}, "lora_alpha=0 must be at least 1"),
        (saved, {"lora_alpha": 8}, "lora_alpha=8 scales adapters, of which there are none; give lora too"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    make: Callable[[Path], Any], options: dict[str, Any], says: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(RequestError, match=says) as refusal:
        load(tmp_path, **options)
    assert "\n" not in str(refusal.value)
    if not {"lora", "lora_alpha"} & options.keys():
        assert str(tmp_path) in str(refusal.value)


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "file").write_text("")
    for path, says in {
        str(tmp_path / "missing"): "no such folder",
        "./missing": "no such folder",
        str(tmp_path / "file"): "is a file; give the folder",
        "nobody/no-such-model": "is not in the local cache of the hub, and the hub cannot be reached",
        "no such model": "the hub does not give it",
        "a,b": "holds a comma, which a spec cannot",
    }.items():
        with pytest.raises(RequestError, match=says) as refusal:
            HuggingFace(VOCAB, tiny.generator(), path=path)
        assert "\n" not in str(refusal.value)
