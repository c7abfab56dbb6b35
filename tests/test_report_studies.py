"""Studies on the page and the tables for papers: published beside measured, and no text of theirs is markup."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import get_args

import pytest
from fabricated_runs import fabricate_run

from foresee.core.errors import RequestError
from foresee.experiments.studies.base import Agreement
from foresee.experiments.studies.result import CellResult, SeedResult, StudyResult
from foresee.metrics.intervals import rate
from foresee.metrics.significance import at_least, correct_claims, equivalence
from foresee.report import write_report
from foresee.report.study_section import KINDS, MEANINGS, SIGNS
from foresee.report.tables import Table, latex, markdown


def seed(run: Path, value: float, verdict: str = "clever-hans", number: int = 0) -> SeedResult:
    row = rate(round(value * 5000), 5000)
    return SeedResult(
        seed=number, run=run.name, dir=str(run), value=row["value"], low=row["low"], high=row["high"], n=5000,
        exact=value, solved=value >= 0.95, verdict=verdict, inconclusive=False, because="", steps=600,
        solved_at=450 if value >= 0.95 else None, seconds=60.0,
    )  # fmt: skip


def cell(label: str, agreement: Agreement, seeds: tuple[SeedResult, ...], published: float | None = 0.5) -> CellResult:
    known = published is not None
    return CellResult(
        graph="G(2, 5)", label=label, row="exact", chance=0.5, task="t", objective=label, backbone="b",
        published=published, published_low=published, published_high=published,
        published_text=f"{published:.2f}" if known else "unknown", published_side=None,
        source="a source & <more>", tag="RI" if known else "unknown", rule="a rule", agreement=agreement,
        inconclusive=False, seeds_wanted=2, seeds=seeds, controls=(), note="a note",
    )  # fmt: skip


@pytest.fixture
def study(tmp_path: Path) -> StudyResult:
    wrong = fabricate_run(tmp_path / "runs")
    right = fabricate_run(tmp_path / "runs", "reversed", "solves")
    cells = (
        cell("next-token", "agrees", (seed(wrong, 0.5),)),
        cell("reversed", "differs", (seed(right, 0.996, "solved"),)),
        cell("<b>mine</b>", "unknown", (), None),
        cell("other", "not run", ()),
    )
    claims = correct_claims([("one is at chance", equivalence(2500, 5000, 0.5, 0.05)),
                        ("one is above", at_least(2500, 5000, 0.95))])  # fmt: skip
    return StudyResult(
        name="a-study", summary="", question="Does it?", scale="laptop", cost="an hour", hardware="two cores",
        cells=cells, claims=tuple(claims), untested=("nothing of the kind",), runs_wanted=8, runs_finished=2,
        seconds=120.0, reproduce="foresee study a-study --scale laptop", warnings=("x is <damaged>",),
    )  # fmt: skip


def test_a_study_is_shown_with_its_runs(study: StudyResult, tmp_path: Path) -> None:
    html = write_report([], tmp_path / "page.html", studies=[study]).read_text(encoding="utf-8")
    section = html.split('<section id="studies">')[1].split("</section>")[0]
    rows = section.split("<tbody>")[1].split("</tbody>")[0].split("<tr>")[1:]
    marks = ["✓ agrees", "✗ differs", "? unknown", "– not run"]
    assert [mark in row for row, mark in zip(rows, marks, strict=True)] == [True] * 4
    assert 'href="#made-1"' in rows[0]
    assert 'href="#made-2"' in rows[1]
    assert "0.500 <span" in rows[0]
    assert "1 to run" in rows[0]
    assert "&lt;b&gt;mine&lt;/b&gt;" in rows[2]
    assert "agrees 1, differs 1, unknown 1, not run 1. 2 of 8 runs are finished." in section
    for said in ("a source &amp; &lt;more&gt;", "x is &lt;damaged&gt;", "nothing of the kind", "one is at chance",
                 "foresee study a-study --scale laptop"):  # fmt: skip
        assert said in section
    assert section.count("✓ yes") == 1  # of the two claims
    assert 'id="table"' in html


def test_a_study_of_which_nothing_is_finished_has_a_page(study: StudyResult, tmp_path: Path) -> None:
    from dataclasses import replace

    empty = replace(study, cells=study.cells[2:], claims=(), runs_finished=0)
    html = write_report([], tmp_path / "page.html", studies=[empty]).read_text(encoding="utf-8")
    assert '<section id="studies">' in html
    assert '<section id="table">' not in html


def test_a_damaged_run_among_others_is_left_out_and_said(tmp_path: Path) -> None:
    good, bad = fabricate_run(tmp_path / "a"), fabricate_run(tmp_path / "b", seed=1)
    (bad / "rows.jsonl").write_text('{"row": "exa', encoding="utf-8")
    told: list[str] = []
    html = write_report([bad, good], tmp_path / "page.html", warn=told.append).read_text(encoding="utf-8")
    (sentence,) = told
    assert sentence.startswith("left out: ")
    assert sentence.endswith("rows.jsonl: line 1: not JSON: Unterminated string starting at")
    assert "1 damaged run is left out." in html
    assert "line 1: not JSON" in html
    with pytest.raises(RequestError, match="no such run directory"):
        write_report([good, tmp_path / "nowhere"], tmp_path / "page.html")


def test_tables_are_escaped() -> None:
    table = Table(
        "t", "100 % of {it}", ("a_b", "c|d"), (("x & y", "[0.1, 0.2] <i>"), ("$1", "line\nbreak")), ("do it",)
    )
    written = markdown(table)
    lines = written.splitlines()
    assert lines[2] == r"| a\_b | c\|d |"
    assert lines[4] == r"| x & y | [0.1, 0.2] \<i\> |"
    assert lines[5] == "| $1 | line break |"
    assert written.endswith("How to reproduce:\n\n    do it\n")
    drawn = latex(table)
    assert r"\caption{100 \% of \{it\}}" in drawn
    assert r"a\_b & c\textbar{}d \\" in drawn
    assert r"x \& y & {[}0.1, 0.2{]} \textless{}i\textgreater{} \\" in drawn
    assert r"\$1 & line break \\" in drawn
    assert drawn.startswith("% How to reproduce:\n%   do it\n\\begin{table}")


def test_tables_of_runs_and_studies_hold_their_numbers(study: StudyResult, tmp_path: Path) -> None:
    write_report([], tmp_path / "page.html", studies=[study], tables=tmp_path / "tables")
    runs = (tmp_path / "tables" / "runs.md").read_text(encoding="utf-8")
    rows = list(csv.reader(io.StringIO(runs.replace(" | ", "\t")), delimiter="\t"))
    assert rows[4][0] == "| next-token"
    assert rows[4][3] == "0.498 [0.491, 0.505]"
    assert "foresee train path-star" in runs
    cells = (tmp_path / "tables" / "study_a_study_laptop.tex").read_text(encoding="utf-8")
    assert r"next-token & exact & 0.5 & 0.50 & RI & 0.500 {[}0.486, 0.514{]} & 0 of 1 & agrees \\" in cells
    assert (tmp_path / "tables" / "claims_a_study_laptop.md").exists()


@pytest.mark.parametrize("agreement", get_args(Agreement))
def test_every_kind_of_agreement_is_shown_and_explained(agreement: Agreement) -> None:
    assert agreement in SIGNS
    assert agreement in KINDS
    assert len(MEANINGS[agreement]) > 10
