"""A trained run leaves as a checkpoint that the transformers library loads, with equal logits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from support import scramble
from tiny import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

from foresee.core import files
from foresee.core.errors import ForeseeError, ForeseeWarning, RequestError
from foresee.core.seeds import stream
from foresee.objectives import objectives
from foresee.training.export import export
from foresee.training.loop import train
from foresee.training.run import Run

BACKBONES = (
    "transformer:layers=1,width=16,heads=2",
    "transformer:layers=1,width=16,heads=2,positions=rotary",
    "transformer:layers=1,width=16,heads=2,positions=rotary,norm=rms,mlp=swiglu,bias=false",
    "mamba:layers=1,width=16,state=4",
    "mamba2:layers=1,width=32,head_width=16,state=8",
)


EXPORTED = [
    *(name for name in objectives.names() if objectives.get(name).backbone_alone), "masked-diffusion:steps=2"
]  # fmt: skip


def run_card(folder: Path, prompt: str = "your prompt") -> dict[str, Any]:
    """Executes the Python on a card, with a prompt in the place of the card's, and gives what it defines."""
    code = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(compile(code.replace("your prompt", prompt), "model card", "exec"), names)  # noqa: S102  # our own card's
    return names


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(steps=2), tmp_path_factory.mktemp("runs"))


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_folder_loads_and_computes_the_same(backbone: str, tmp_path: Path) -> None:
    trained = train(tiny("teacherless", backbone=backbone, steps=2), tmp_path / "runs")
    folder = export(trained, tmp_path / "made" / "checkpoint")
    with torch.random.fork_rng(devices=()):  # some of the library's models draw weights before they read them
        model = AutoModelForCausalLM.from_pretrained(folder)
    prompt = trained.task.sample(1, stream("export")).prompts
    text = trained.task.write_line(prompt[0].tolist(), [])
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer(text).input_ids == prompt[0].tolist()
    net = trained.objective.backbone
    with torch.no_grad():
        expected = net.logits(net(net.embed(prompt)))
        torch.testing.assert_close(model(prompt).logits, expected, atol=1e-5, rtol=1e-4)


def test_the_card_says_what_it_is(run: Run, tmp_path: Path) -> None:
    folder = export(run, tmp_path / "checkpoint")
    card = (folder / "README.md").read_text()
    for part in (run.spec.task, run.verdict.name, "| exact |", "foresee train", "GPT2LMHeadModel", "`fixed:"):
        assert part in card, part
    facts: dict[str, Any] = json.loads((folder / "foresee.json").read_text())
    assert facts["spec"]["objective"] == "next-token"
    assert facts["vocabulary"] == list(run.objective.vocab)
    assert facts["tokens"] == list(range(len(run.objective.vocab)))
    assert facts["rows"] == run.rows
    assert str(tmp_path) not in card + json.dumps(facts)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("objective", EXPORTED)
def test_the_code_on_the_card_writes_what_the_run_writes(
    objective: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with weights under which another way to decode writes something else."""
    trained = train(tiny(objective, steps=4, lr=0.03, warmup=1, test=20), tmp_path / "runs")
    longer = train(tiny(objective, "path-star:degree=2,length=7,nodes=14", steps=1, test=20), tmp_path / "runs")
    for std, run in ((0.0, trained), (0.2, longer), (0.4, longer), (0.8, longer)):
        if std:
            scramble(run.objective, std)
        monkeypatch.chdir(export(run, tmp_path / f"{std}" / "checkpoint").parent)
        names = run_card(tmp_path / f"{std}" / "checkpoint")
        with torch.inference_mode():
            expected = run.objective.generate(names["prompt"].input_ids, run.task.answer_length)
        assert torch.equal(names["answer"], expected)
        printed = capsys.readouterr().out.strip()
        assert std or printed == run.task.write_answer(expected[0].tolist())


def test_a_card_says_where_the_model_alone_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train(tiny("future-insertion:plan=true", steps=1), tmp_path / "runs")
    monkeypatch.chdir(export(run, tmp_path / "checkpoint").parent)
    assert "answer" not in run_card(tmp_path / "checkpoint")
    assert "`foresee.load` does" in (tmp_path / "checkpoint" / "README.md").read_text()


def test_what_is_written_backwards_does_not_end_at_its_first_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "rows.jsonl"
    rows = ({"prompt": f"{n % 7} {n % 5} ?", "response": " ".join(["x", "y"][: 1 + n % 2])} for n in range(60))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = train(tiny("reversed", task=f"data:{data}", steps=1, test=5), tmp_path / "runs")
    monkeypatch.chdir(export(run, tmp_path / "checkpoint").parent)
    names = run_card(tmp_path / "checkpoint")
    with torch.inference_mode():
        expected = run.objective.generate(names["prompt"].input_ids, run.task.answer_length)
    assert torch.equal(names["answer"], expected)
    tokenizer = names["tokenizer"]
    assert tokenizer.decode(tokenizer("3 4 ?").input_ids).startswith("3 4 ?")
    card = (tmp_path / "checkpoint" / "README.md").read_text()
    assert "eos_token_id" not in card
    assert "a shorter answer may come out wrong" in card
    with pytest.warns(ForeseeWarning, match="here it writes 4 tokens, the most there are"):
        run.generate("3 4 ?")
    assert names["model"].generation_config.eos_token_id is None


def test_an_empty_folder_is_used_and_one_that_holds_something_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert (export(run, tmp_path / "empty") / "config.json").exists()
    with pytest.raises(RequestError, match="exists and is not an empty folder"):
        export(run, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_failed_export_leaves_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "write_json", Mock(side_effect=OSError(28, "No space left on device")))
    with pytest.raises(ForeseeError, match="the disk is full"):
        export(run, tmp_path / "checkpoint")
    assert list(tmp_path.iterdir()) == []


def test_what_has_no_counterpart_or_decodes_by_more_than_the_backbone_is_refused(tmp_path: Path) -> None:
    odd = tiny(backbone="transformer:layers=1,width=16,heads=2,positions=none", steps=1)
    for spec, why in (
        (odd, "only GPT-2's parts together"),
        (tiny("joint-multi-token", steps=1), "decodes with weights of its own beside the backbone's"),
    ):
        with pytest.raises(RequestError, match=why):
            export(train(spec, tmp_path / "runs"), tmp_path / "checkpoint")
        assert not (tmp_path / "checkpoint").exists()
