"""``foresee study`` on a tiny study: it trains what is missing once, and prints the same table without training."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_checkpoints
from program import Program
from rich.console import Console
from tiny import EASY, SOLVING, tiny

import foresee
from foresee.experiments.studies import Cell, Scale, Study, studies
from foresee.experiments.studies.base import percent, unknown
from foresee.experiments.studies.result import CellResult, SeedResult
from foresee.experiments.studies.run import plan, read
from foresee.experiments.studies.show import show_study

Outcome = tuple[int, str, str]


class Easy(Study):
    """One solvable graph, one seed."""

    summary = "a study of a test"
    question = "Is a copy learned?"

    def cells(self, scale: Scale) -> list[Cell]:
        runs = (tiny(task=EASY, **SOLVING, until_solved=True),)
        return [
            Cell(graph="G(2, 2)", label="next-token", runs=runs, published=percent(100, "a table", "P"), minutes=0.1),
            Cell(graph="G(2, 2)", label="branch", row="branch", runs=runs, published=unknown("a table"), minutes=0.1),
        ]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, program: Program) -> Callable[..., Outcome]:
    """The command, with the study registered."""
    studies.discover()
    monkeypatch.setitem(studies._classes, "easy", Easy)
    monkeypatch.setitem(studies.later, "easy", frozenset())
    return lambda *argv: program("study", *argv)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Finished runs of the study, trained by it."""
    root = tmp_path_factory.mktemp("trained") / "runs"
    studies.discover()
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(studies._classes, "easy", Easy)
        patched.setitem(studies.later, "easy", frozenset())
        assert foresee.study("easy", runs=root, results=[], engine="in-process", train=True, progress=False).complete
    return root


def test_nothing_is_trained_unasked(run: Callable[..., Outcome], trained: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    status, shown, _ = run("easy", "--runs", str(runs))
    assert status == 0
    for said in ("not run", "0 of 2 runs finished",
                 "--train trains the 2 that are missing: less than a minute of one core at most"):  # fmt: skip
        assert said in shown
    status, out, err = run("easy", "--dry-run", "--runs", str(runs))
    assert (status, err) == (0, "")
    assert "2 of 2 runs are missing: less than a minute of one core at most" in out
    assert "reversed" in out
    listed = json.loads(run("easy", "--dry-run", "--json", "--runs", str(runs))[1])
    assert (listed["runs_missing"], listed["minutes"]) == (2, pytest.approx(0.2))
    assert [each["objective"] for each in listed["missing"]] == ["reversed", "next-token"]
    assert not runs.exists()
    assert "0 of 2 runs are missing" in run("easy", "--dry-run", "--runs", str(trained))[1]


def test_what_is_missing_is_trained_with_the_control(run: Callable[..., Outcome], tmp_path: Path) -> None:
    status, out, err = run("easy", "--runs", str(tmp_path / "runs"), "--train")
    assert status == 0, err
    assert "reversed" in err
    assert "next-token" in err
    assert len(list((tmp_path / "runs").iterdir())) == 2
    for shown in (
        "easy, laptop scale: Is a copy learned?", "1.000 (P)", "unknown", "reproduced", "solved", "1 of 1 seeds",
        "control on G(2, 2) (reversed): 1 of 1 seeds solved", "published: a table",
        "cost: 2 runs, controls included, less than a minute of one core at most",
        "2 of 2 runs finished", "again: foresee study easy --scale laptop --train",
        "exact is above 0.95 under the one seed",
    ):  # fmt: skip
        assert shown in out


def test_finished_runs_are_not_trained_again(
    run: Callable[..., Outcome], trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr("foresee.experiments.studies.run.run_all", refuse)
    status, out, err = run("easy", "--runs", str(trained), "--train")
    assert (status, err) == (0, "")
    # The same from committed rows: no weights, two folders down.
    for each in trained.iterdir():
        kept = tmp_path / "results" / "easy" / each.name
        kept.mkdir(parents=True)
        for name in ("spec.json", "rows.jsonl", "metrics.jsonl", "timing.jsonl"):
            shutil.copy(each / name, kept / name)

    def without_folders(shown: str) -> list[str]:
        return [line for line in shown.splitlines() if not line.startswith(("looked in", "again"))]

    again = run("easy", "--runs", str(tmp_path / "none"), "--results", str(tmp_path / "results"))
    assert (again[0], without_folders(again[1])) == (0, without_folders(out))
    assert f"looked in: {tmp_path / 'results'}" in again[1]
    monkeypatch.chdir(tmp_path)
    assert without_folders(run("easy")[1]) == without_folders(out)  # ./results is looked through by itself
    assert not (tmp_path / "none").exists()


def test_json_is_one_object_and_a_page_is_written(run: Callable[..., Outcome], trained: Path, tmp_path: Path) -> None:
    status, out, err = run("easy", "--runs", str(trained), "--json", "--report", str(tmp_path / "page.html"))
    assert (status, err, out.count("\n")) == (0, "", 1)
    assert (tmp_path / "page.html").read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    result = json.loads(out)
    assert {"study", "scale", "cells", "claims", "cost", "hardware", "reproduce", "complete"} <= result.keys()
    exact, branch = result["cells"]
    assert (exact["tag"], exact["agreement"]) == ("P", "reproduced")
    assert exact["published"] == pytest.approx(0.9975, abs=0.01)
    assert (branch["published"], branch["published_text"], branch["agreement"]) == (None, "unknown", "unknown")
    assert set(exact["seeds"][0]) >= {"seed", "run", "dir", "value", "low", "high", "n", "verdict", "solved_at"}
    assert exact["survival"]["n"] == 1
    assert set(result["claims"][0]) == {
        "sentence", "test", "statistic", "p", "corrected", "n", "unit", "least", "shown",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["nothing"], "unknown study 'nothing'"),
        (["easy", "--scale", "desk"], "scale 'desk' must be one of laptop, paper"),
        (["easy", "--engine", "cloud", "--runs", "none"], "'cloud' is not one of 'local', 'batched', 'ray', 'slurm'"),
        (["easy", "--results", "nowhere"], "--results nowhere: no such folder"),
        (["easy", "--dry-run", "--report", "page.html"], "--dry-run writes no page"),
        (["pitfalls-pretrained:checkpoint=/nowhere"], "no such folder"),
    ],
)
@pytest.mark.usefixtures("run")
def test_wrong_requests_are_one_sentence(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in program.refusal("study", *argv)
    assert not list(tmp_path.iterdir())


def finished(cell: CellResult) -> CellResult:
    """The cell as if three seeds had been run, with the longest words that a table may have to hold."""
    one = SeedResult(
        seed=0, run="", dir="", value=0.5, low=0.4321, high=0.5678, n=5000, effective=5000, exact=0.5,
        exact_effective=5000, solved=False, verdict="clever-hans", inconclusive=True, doubts=(), because="",
        steps=10_000, solved_at=None, seconds=1.0,
    )  # fmt: skip
    seeds = (one, replace(one, seed=1, verdict="memorised", look_ups_at=9_900), replace(one, seed=2))
    return replace(cell, seeds=seeds, agreement="budget too short", inconclusive=True)


@pytest.mark.parametrize("width", [80, 140])
@pytest.mark.parametrize("name", ["pitfalls-next-token", "top-table", "graph-size", "objective-options", "structure",
                                  "in-weights", "pitfalls-pretrained"])  # fmt: skip
def test_a_table_is_whole_on_a_narrow_terminal(name: str, width: int, tmp_path: Path) -> None:
    """Headings break at spaces alone, and outcomes, intervals and graphs not at all."""
    if name == "pitfalls-pretrained":
        name += f":checkpoint={tiny_checkpoints.save(tmp_path, n_positions=512, vocab_size=128)}"
    made = read(plan(name, "laptop", Path("runs"), []))
    console = Console(width=width, color_system=None)
    with console.capture() as shown:
        cells = (*map(finished, made.cells[:-1]), made.cells[-1])  # the last one not run, so that not all have one n
        show_study(replace(made, cells=cells, look_ups=True), console)
    lines = shown.get().splitlines()
    rule = next(at for at, line in enumerate(lines) if line.startswith("───"))
    assert len(lines[rule]) <= width
    above = {word.strip(",") for word in " ".join(lines[:rule]).split()}
    assert {"graph", "published", "measured", "solved", "look-ups", "by", "outcome"} <= above
    table = "\n".join(lines)
    for value in ("budget too short?", "clever-hans?", "memorised?", "[0.432, 0.568]", "9,900", "10,000", "n 5,000"):
        assert value in table
    words = {word for cell in made.cells for word in re.findall(r"[\w=.-]+", f"{cell.label} {cell.published_text}")}
    assert words <= {*re.findall(r"[\w=.-]+", table)}


def test_all_studies_at_once(program: Program, tmp_path: Path) -> None:
    _, out, _ = program("study", "all", "--results", str(tmp_path))
    for words in ("defaults", "objectives", "belief-state", "0/10", "not run", "runs finished"):
        assert words in out
    listed = program.json("study", "all", "--results", str(tmp_path))
    assert {each["study"] for each in listed["studies"]} >= {"objectives", "first-token", "structure"}
