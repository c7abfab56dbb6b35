"""A checkpoint fine-tuned on a user's own file, with its own tokenizer."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from data_files import data, sums, write_jsonl
from test_export import run_card
from tiny import BACKBONE, tiny
from tiny_checkpoints import save
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from foresee.core.errors import RequestError
from foresee.core.seeds import stream
from foresee.experiments.diagnose.result import write_tokens
from foresee.training.export import export
from foresee.training.loop import train

ALPHABET = "0123456789+= abcdef"


def write_tokenizer(folder: Path, *, end: bool = True, begin: bool = False) -> None:
    """Byte-level pieces with one merge, so that two digits may be one token."""
    pieces = ["</s>", "<s>", *ALPHABET.replace(" ", "Ġ"), "12"]
    tokenizer = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[("1", "2")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if begin:
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    special = {"eos_token": "</s>"} if end else {}
    wrapped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **special
    )
    wrapped.save_pretrained(folder)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save(tmp_path_factory.mktemp("checkpoint"), "gpt2", std=0.1)
    write_tokenizer(folder)
    return folder


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_jsonl(tmp_path_factory.mktemp("data") / "sums.jsonl", sums(200, most=40))


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESEE_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.mark.parametrize("tokens", ["seen", "all"])
def test_tokens_are_those_of_the_checkpoint(tokens: str, checkpoint: Path, file: Path) -> None:
    task = data(file, tokenizer=f"hf:{checkpoint}", tokens=tokens)
    own = AutoTokenizer.from_pretrained(checkpoint)
    known = task.vocab.checkpoint
    assert known is not None
    assert task.vocab.symbols == tuple(own.convert_ids_to_tokens(list(known.ids)))
    assert ("a" in task.vocab) == (tokens == "all")
    prompt, answer = task.read_line('{"prompt": "12+1=", "response": "13"}')
    assert [known.ids[token] for token in prompt] == own("12+1=")["input_ids"]
    assert [known.ids[token] for token in answer] == [*own("13")["input_ids"], own.eos_token_id]
    assert task.write_line(prompt, answer) == '{"prompt": "12+1=", "response": "13"}'
    for row in range(20):
        prompt, answer = task.rows("train")[row]
        assert task.read_line(task.write_line(prompt, answer)) == (prompt, answer)
        assert task.verify(prompt, answer)
        assert task.solve(prompt) == answer
    batch = task.rows("test").batch(range(10))
    assert task.held_out(batch).all()


def test_tokens_are_shown_as_the_text_that_they_stand_for(checkpoint: Path, tmp_path: Path) -> None:
    task = data(write_jsonl(tmp_path / "a.jsonl", [("1+1=", "12 ab")]), tokenizer=f"hf:{checkpoint}")
    answer = task.read_line('{"prompt": "1+1=", "response": "12 ab"}')[1]
    assert task.vocab.decode(answer) == ["12", "\u0120", "a", "b", "</s>"]
    assert write_tokens(task, answer) == ["12", " ", "a", "b", "</s>"]


def test_what_the_tokenizer_puts_first_is_put_first(tmp_path: Path, file: Path) -> None:
    folder = save(tmp_path / "checkpoint", "gpt2")
    write_tokenizer(folder, begin=True)
    task = data(file, tokenizer=f"hf:{folder}")
    prompt, answer = task.read_line('{"prompt": "1+1=", "response": "2"}')
    assert task.vocab.decode(prompt) == ["<s>", "1", "+", "1", "="]
    assert task.vocab.decode(answer) == ["2", "</s>"]
    assert task.write_line(prompt, answer) == '{"prompt": "1+1=", "response": "2"}'


def test_a_run_trains_the_checkpoint_and_leaves_it_with_its_own_tokenizer(
    checkpoint: Path, file: Path, tmp_path: Path
) -> None:
    spec = tiny(task=f"data:{file},tokenizer=hf:{checkpoint}", backbone=f"hf:{checkpoint}", steps=3, batch=8)
    run = train(spec, tmp_path / "runs")
    assert set(run.generate("1+2=")) <= set("0123456789+=")
    folder = export(run, tmp_path / "out")
    tokenizer, before = AutoTokenizer.from_pretrained(folder), AutoTokenizer.from_pretrained(checkpoint)
    assert tokenizer.get_vocab() == before.get_vocab()
    with torch.random.fork_rng(devices=()):
        model = AutoModelForCausalLM.from_pretrained(folder)
    given = tokenizer("1+2=", return_tensors="pt", add_special_tokens=False)["input_ids"]
    tokens, _ = run.task.read_line("1+2=")
    known = run.task.vocab.checkpoint
    assert known is not None
    assert [known.ids[token] for token in tokens] == given[0].tolist()
    net = run.objective.backbone
    with torch.no_grad():
        expected = net.logits(net(net.embed(torch.tensor([tokens]))))
        found = model(given).logits[..., list(known.ids)]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("tokenizer", ["checkpoint", "words", "characters", "bytes"])
def test_the_card_reads_a_prompt_as_prompts_were_trained(
    tokenizer: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the token that the tokenizer puts first, or the symbol that ends a prompt; and what was never seen."""
    spec, backbone = tokenizer, BACKBONE
    if tokenizer == "checkpoint":
        write_tokenizer(save(tmp_path / "begins", "gpt2"), begin=True)
        spec = backbone = f"hf:{tmp_path / 'begins'}"
    run = train(tiny(task=f"data:{file},tokenizer={spec}", backbone=backbone, steps=1, batch=8), tmp_path / "runs")
    monkeypatch.chdir(export(run, tmp_path / "out").parent)
    prompts = [run.task.write_prompt(run.task.sample(1, stream("card")).prompts[0].tolist())]
    prompts += [] if tokenizer == "checkpoint" else ["123456+1 = caf\u00e9", "a\u0301\n\n\u0935\u093f \u00bd"]
    ids = run.objective.backbone.counterpart_ids()
    for prompt in prompts:
        names = run_card(tmp_path / "out", json.dumps(prompt)[1:-1])
        tokens, _ = run.task.read_line(prompt)
        assert names["prompt"].input_ids[0].tolist() == [ids[token] for token in tokens]
        answer = run.objective.generate(torch.tensor([tokens]), run.task.answer_length)[0].tolist()
        ended = answer[: answer.index(run.task.end) + 1] if run.task.end in answer else answer
        assert names["answer"][0].tolist() == [ids[token] for token in ended]
    for text in ["12", *prompts]:
        cut = names["tokenizer"](text, add_special_tokens=False).input_ids
        written = run.task.write_answer([ids.index(token) for token in cut])
        assert names["tokenizer"].decode(cut).replace("<unknown>", "\ufffd") == written.replace("<unknown>", "\ufffd")


@pytest.mark.parametrize("objective", ["next-token", "reversed"])
def test_the_card_writes_what_the_run_writes_however_the_checkpoint_is_set_to_chat(
    objective: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save(tmp_path / "chats", "gpt2", std=0.3)
    write_tokenizer(folder)
    (folder / "generation_config.json").write_text('{"eos_token_id": 0, "repetition_penalty": 9.0, "do_sample": true}')
    spec = tiny(objective, f"data:{file},tokenizer=hf:{folder}", f"hf:{folder}", steps=1, batch=8, lr=1e-6)
    run = train(spec, tmp_path / "runs")
    monkeypatch.chdir(export(run, tmp_path / "out").parent)
    ids = torch.tensor(run.objective.backbone.counterpart_ids())
    for prompt in ("1+2=", "20+7=", "35+12="):
        answer = run_card(tmp_path / "out", prompt)["answer"]
        expected = run.objective.generate(torch.tensor([run.task.read_line(prompt)[0]]), run.task.answer_length)
        whole = expected.shape[1] if run.task.end not in expected or objective == "reversed" else answer.shape[1]
        assert torch.equal(answer, ids[expected[:, :whole]])


def test_what_does_not_fit_is_refused(checkpoint: Path, file: Path, tmp_path: Path) -> None:
    other = save(tmp_path / "other", "gpt2")
    write_tokenizer(other, begin=True)
    task = data(file, tokenizer=f"hf:{checkpoint}")
    with pytest.raises(RequestError, match=r"are those of the tokenizer of .* which is not that of"):
        tiny(task=f"data:{file},tokenizer=hf:{checkpoint}", backbone=f"hf:{other}").build_objective(task)
    with pytest.raises(RequestError, match="the token 'a' does not occur"):
        task.read_line("a")
    endless = save(tmp_path / "endless", "gpt2")
    with pytest.raises(RequestError, match="the checkpoint holds no tokenizer"):
        data(file, tokenizer=f"hf:{endless}")
    write_tokenizer(endless, end=False)
    with pytest.raises(RequestError, match="no end-of-text token"):
        data(file, tokenizer=f"hf:{endless}")
    with pytest.raises(RequestError, match="boundary=symbol is not for a checkpoint"):
        data(file, tokenizer=f"hf:{checkpoint}", boundary="symbol")
    spec = tiny(task=f"data:{file},tokenizer=hf:{checkpoint}", steps=1, batch=8)
    with pytest.raises(RequestError, match="tokens of its own numbering"):
        export(train(spec, tmp_path / "runs"), tmp_path / "out")
    within = write_jsonl(tmp_path / "a.jsonl", [("1", "2"), ("1", "2</s>3")])
    with pytest.raises(RequestError, match="line 2: the response holds the tokenizer's end-of-text token"):
        data(within, tokenizer=f"hf:{checkpoint}")
