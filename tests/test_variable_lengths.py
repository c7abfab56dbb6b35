"""Whole runs on tasks whose prompts or answers differ in length: trained, measured, resumed, shown and exported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_diagnostics_lengths import Counting, Counts
from tiny import tiny

from foresee.core.errors import ForeseeWarning
from foresee.experiments.bench import TrainingStep, bench, tokens_read
from foresee.report import report
from foresee.tasks.example_files import write_examples
from foresee.training.data import WINDOW, draw
from foresee.training.evaluate import evaluate
from foresee.training.export import export
from foresee.training.loop import train
from foresee.training.run import Run
from foresee.training.settings import Settings

MIXED = "path-star:degree=2,length=4,nodes=20,goals=one,sizes=mixed"
STOPS = "path-star:degree=2,length=4,nodes=20,generalised=path,goals=all"


@pytest.fixture(scope="module", params=[MIXED, STOPS])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(task=request.param, steps=12), tmp_path_factory.mktemp("runs"))


def test_it_is_measured_again_with_the_same_result(run: Run, tmp_path: Path) -> None:
    again = evaluate(run)
    assert {name: again[name] for name in again if name != "follow"} == {
        name: row for name, row in run.rows.items() if name in again and name != "follow"
    }
    write_examples(run.task, draw(run.task, run.spec.task, "test", 60, 9), tmp_path / "more.txt")
    more = evaluate(run, tmp_path / "more.txt")["free"]
    assert isinstance(more, list)
    assert more[0]["n"] == 60 > more[-1]["n"] > 0


def test_a_page_and_a_card_are_written(run: Run, tmp_path: Path) -> None:
    assert report(run, out=tmp_path / "report.html").stat().st_size > 1000
    card = (export(run, tmp_path / "mine") / "README.md").read_text()
    prompt = card.split('prompt = tokenizer("')[1].split('"')[0]
    tokens, _ = run.task.read_line(prompt)
    assert f"max_new_tokens={run.task.answer_length_of(tokens)}," in card


def test_a_task_whose_answers_close_with_an_end_symbol_stops_there(monkeypatch: pytest.MonkeyPatch) -> None:
    model: Any = Counts()
    model.weight = torch.nn.Parameter(torch.zeros(1))  # a model lies on a device
    monkeypatch.setattr(Run, "objective", model)
    monkeypatch.setattr(Run, "task", Counting())
    run = Run(Path("none"), tiny())
    assert run.generate("3") == "3,2,1,0,."
    monkeypatch.setattr(Counting, "answer_length_of", lambda _self, prompt: prompt[0] + 2)
    model.order = "parallel"
    with pytest.warns(ForeseeWarning, match="does not write from left to right"):
        assert run.generate("3") == "3,2,1,0,."
    assert model.asked == [(1, 6), (1, 5)]


def test_a_bench_counts_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = "transformer:layers=1,width=32,heads=2"
    monkeypatch.setattr("foresee.experiments.bench.DRAWN", 512)
    spec = Settings.of(MIXED, "next-token", backbone, data="fixed:512", batch=8, device="cpu", precision="float32")
    training = TrainingStep(spec)
    window = [training.data.batch_at(step, 8) for step in range(WINDOW)]
    held = [int((batch.prompt_len + batch.answer_len).sum()) - 8 for batch in window]
    assert [tokens_read(batch) for batch in window] == held
    assert training.tokens() == round(sum(held) / WINDOW)
    measured = bench(task=MIXED, backbone=backbone, batch=8, device="cpu", rounds=1, burst=0.0)
    assert measured["training"]["tokens_a_step"] == training.tokens()
    assert measured["decoding"]["cached"]["value"] > 0
