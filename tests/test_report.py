"""The page of a report: what is on it, that nothing in a run can make it do anything, and the files beside it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
from fabricated_runs import BACKBONE, PROMPTS, add_anatomy, add_position_loss, fabricate_run

from foresee.core.errors import RequestError
from foresee.experiments.studies.base import Agreement
from foresee.experiments.studies.result import CellResult, SeedResult, StudyResult
from foresee.metrics.intervals import rate
from foresee.metrics.significance import at_least, correct_claims, equivalence
from foresee.metrics.verdict import plain_words
from foresee.report import report, write_picture
from foresee.report.groups import arrange
from foresee.training.run import read_run

SECTIONS = (
    "task", "table", "happened", "words", "curves", "positions", "example", "costs", "meaning", "reproduce",
)  # fmt: skip
"""Of a page of runs, one seed each: nothing is said of how many steps a share of the seeds takes."""
VOID = {"meta", "br", "wbr", "input"}


class Page(HTMLParser):
    """Tags, attributes, ids and text of a page; raises where an element is closed that is not open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.sections: list[str] = []
        self.texts: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag == "section":
            self.sections.append(dict(attrs)["id"] or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.texts.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))


def inline_svgs(html: str) -> list[str]:
    return re.findall(r"<svg.*?</svg>", html.split("<script>")[0], flags=re.DOTALL)


def charts_of(html: str) -> dict[str, Any]:
    """What the page's scripts draw."""
    found = html.split('<script type="application/json" id="charts">')[1].split("</script>")[0]
    charts: dict[str, Any] = json.loads(found)
    return charts


def text_of(*runs: Path, out: Path) -> str:
    """What can be read on the page about runs."""
    return Page(report(*runs, out=out / "page.html").read_text(encoding="utf-8")).text


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Next-token and reversed on one task, teacherless on another, and the page about them."""
    root, four = tmp_path_factory.mktemp("demo"), "path-star:degree=2,length=4,nodes=50,goals=all"
    examples = [("1,2|3,4|2,5|6,3|1,6|5,7/1,7=", "1,2,5,7", "1,2,5,7")]
    runs = [fabricate_run(root / "runs", "next-token", "follows"), fabricate_run(root / "runs", "reversed", "solves")]
    runs.append(
        fabricate_run(root / "runs", "teacherless:hybrid=0.0", "solves", task=four, length=4, forced=False,
                      examples=examples)
    )  # fmt: skip
    add_anatomy(runs[0])
    return runs, report(*runs, out=root / "page.html", figures=root / "figures", tables=root / "tables")


def test_the_page_says_what_happened(demo: tuple[list[Path], Path]) -> None:
    runs, out = demo
    page = Page(out.read_text(encoding="utf-8"))
    assert tuple(page.sections) == SECTIONS
    assert page.tags.count("h1") == 1
    text = page.text
    assert "On path-star G(2, 5), 50 node labels, goals=one: reversed solved it; next-token did not. A solver" in text
    for group in (group for section in arrange([read_run(path) for path in runs]) for group in section.groups):
        verdict = group.verdict(group.runs[0])
        assert verdict is not None
        assert verdict.name == ("clever-hans" if group.label == "next-token" else "solved")
        assert verdict.inconclusive is False
        assert plain_words(verdict) in text
        assert f"because {verdict.because}" in text
    assert "not within 600" in text
    assert "2,200" in text
    assert PROMPTS[0][0] in text
    assert "Took a wrong arm, then followed it edge by edge to its end" in text


def test_the_page_is_closed_to_the_world(demo: tuple[list[Path], Path]) -> None:
    html = demo[1].read_text(encoding="utf-8")
    page = Page(html)
    assert not {"iframe", "object", "embed", "link", "base", "form", "img", "image"} & set(page.tags)
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert page.tags.count("script") == len(scripts) + 1 == 3
    digests = (base64.b64encode(hashlib.sha256(each.encode()).digest()).decode() for each in scripts)
    known = " ".join(f"'sha256-{digest}'" for digest in digests)
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    closed = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src"
    assert policy.replace("&#39;", "'") == f"{closed} {known}"
    assert html.index("Content-Security-Policy") < html.index("<style")
    assert not re.search(r"https?:|//www|@import|url\((?!#)", html.replace(scripts[0], ""))
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for name, value in page.attributes:
        assert not name.startswith("on"), name
        assert name not in {"src", "srcset", "action", "formaction"}
        if name == "href":
            assert value.removeprefix("#") in ids


def test_drawings_are_described(demo: tuple[list[Path], Path]) -> None:
    html = demo[1].read_text(encoding="utf-8")
    svgs = list(map(ElementTree.fromstring, inline_svgs(html)))
    # A key of each group; a graph of each task, and of each run on each example.
    assert Counter(svg.attrib["class"].split()[0] for svg in svgs) == {"sample": 3, "star": 2 + 7, "shared": 3 + 1}
    assert all(svg.get("aria-label") or svg.get("aria-hidden") for svg in svgs)
    charts = re.findall(r'<div class="chart" data-chart="(\d+)" role="img" aria-label="[^"]{20,}">', html)
    # Three curves of one section, two of the other (nothing is forced there), costs of both, positions of each group,
    # attention on each of three examples.
    assert list(map(int, charts)) == list(range(3 + 2 + 2 + 3 + 3))
    found = charts_of(html)
    assert len(found["charts"]) == len(charts)
    assert max(each["spec"] for each in found["charts"]) < len(charts) - 2  # attention has one spec for all


def test_figures_and_tables_are_written_where_asked(demo: tuple[list[Path], Path]) -> None:
    folder = demo[1].parent / "figures"
    names = {path.stem for path in folder.iterdir()}
    kinds = ("learning_curves", "survival", "accuracy_by_position", "costs")
    examples = {"example_1_1", "example_1_2", "example_2_1", "attention_1_1"}
    assert names == {f"{kind}_{place}" for kind in kinds for place in (1, 2)} | examples
    for name in names:
        assert ElementTree.fromstring((folder / f"{name}.svg").read_bytes()).tag.endswith("svg")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    tables = {path.name for path in (demo[1].parent / "tables").iterdir()}
    assert tables == {
        f"{kind}_{place}.{end}"
        for kind in ("runs", "measurements", "costs", "survival") for place in (1, 2) for end in ("md", "tex")
    }  # fmt: skip
    runs = (demo[1].parent / "tables" / "runs_1.md").read_text(encoding="utf-8")
    assert "| next-token | 0 | 0 of 1 [0.00, 0.79] | 0.498 [0.491, 0.505] |" in runs
    assert "\n    foresee train path-star" in runs


def test_the_same_runs_give_the_same_bytes(demo: tuple[list[Path], Path], tmp_path: Path) -> None:
    again = report(*demo[0], out=tmp_path / "page.html", figures=tmp_path / "figures", tables=tmp_path / "tables")

    def files(page: Path) -> dict[str, bytes]:
        found = (page, *(page.parent / "figures").iterdir(), *(page.parent / "tables").iterdir())
        return {path.name: path.read_bytes() for path in found if path.suffix != ".pdf"}

    assert files(again) == files(demo[1])


NASTY = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>&amp;<!-- ]]> $x^2$ \x00\x1b javascript:x 日本"


def test_text_from_runs_is_never_markup(tmp_path: Path) -> None:
    star = "32,<i>|<i>,<b>|32,4|4,$x$/32,<b>="
    one = fabricate_run(
        tmp_path, NASTY, task=f"nasty:{NASTY}", backbone=NASTY, data=f"file:{NASTY}",
        examples=[(NASTY, NASTY, f"{NASTY},{NASTY}"), (star, "32,<i>,<b>", f"32,{NASTY},4")],
    )  # fmt: skip
    two = fabricate_run(tmp_path, "reversed", examples=[(star, "32,<i>,<b>", "32,<svg/onload=alert(1)>,--><x>")])
    (one / "env.json").write_text(json.dumps({NASTY: {NASTY: [NASTY]}}), encoding="utf-8")
    add_anatomy(one)
    add_position_loss(one)
    html = report(
        one, two, out=tmp_path / "page.html", title=NASTY, figures=tmp_path / "figures", tables=tmp_path / "tables"
    ).read_text(encoding="utf-8")
    page = Page(html)
    known = "html head meta title style body main nav a h1 h2 h3 h4 h5 section article p span ul ol li div br wbr em b "
    known += "code pre table thead tbody tr th td figure figcaption details summary dl dt dd script noscript label "
    known += "select option input button svg g path defs circle text use"
    assert set(page.tags) <= set(known.split())
    assert page.tags.count("script") == 3
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "alert(1)" in page.text  # still there to be read
    assert "\x00" not in html
    assert "<!--" not in html
    labels = [column["values"] for chart in charts_of(html)["charts"] for name, column in chart["data"]["d0"].items()
              if name == "objective"]  # fmt: skip
    label = re.sub(r"[\x00\x1b]", "\N{REPLACEMENT CHARACTER}", NASTY.partition(":")[0])
    assert any(label in values for values in labels)
    figures = [path.read_text("utf-8") for path in (tmp_path / "figures").glob("*.svg")]
    for drawn in [*inline_svgs(html), *figures]:
        ElementTree.fromstring(drawn)


def test_one_run_alone_is_inconclusive_and_many_seeds_are_listed_one_by_one(tmp_path: Path) -> None:
    assert "clever-hans (inconclusive)" in text_of(fabricate_run(tmp_path / "alone", "next-token"), out=tmp_path)
    name = "multi-token:heads=4"
    runs = [fabricate_run(tmp_path, name, "solves" if seed else "follows", seed=seed) for seed in (2, 0, 1)]
    runs += [fabricate_run(tmp_path, "reversed", "solves", seed=seed) for seed in range(3)]
    text = text_of(*runs, out=tmp_path)
    for said in ("multi-token (2 of 3 seeds) and reversed (3 of 3 seeds) solved it",
                 "clever-hans (inconclusive) × 1", "solved × 2", "2 of 3 [0.21, 0.94]"):  # fmt: skip
        assert said in text


def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path, "next-token", finished=False)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.write('{"step": 350, "exam')  # killed in the middle of a line
    (run / "timing.jsonl").unlink()
    text = text_of(run, out=tmp_path)
    assert tuple(Page((tmp_path / "page.html").read_text(encoding="utf-8")).sections) == SECTIONS
    assert "This run is unfinished: 300 of 600 steps done" in text
    assert "No run has kept test examples yet" in text
    for name in ("metrics.jsonl", "env.json"):
        (run / name).unlink()
    text = text_of(run, out=tmp_path)
    assert "0 of 600 steps done" in text
    assert "Versions that were not recorded" in text
    ElementTree.fromstring(write_picture([run], tmp_path / "picture.svg").read_bytes())


def test_what_cannot_be_reported_is_refused_and_damage_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no folder of runs"):
        report(tmp_path / "nowhere", out=tmp_path / "page.html")
    good, bad = fabricate_run(tmp_path / "a"), fabricate_run(tmp_path / "b", seed=1)
    with pytest.raises(RequestError, match=r"must end in \.svg, \.png or \.pdf"):
        write_picture([good], tmp_path / "picture.gif")
    with pytest.raises(RequestError, match=r"ends in \.html"):
        report(good, out=tmp_path / "page.pdf")
    (bad / "rows.jsonl").write_text('{"row": "exa', encoding="utf-8")
    with pytest.raises(RequestError, match=r"rows\.jsonl"):
        report(bad, out=tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()
    (good / "model.safetensors").write_bytes(b"no header")  # which a page does without
    told: list[str] = []
    html = report(bad, good, out=tmp_path / "page.html", warn=told.append).read_text(encoding="utf-8")
    (sentence,) = told
    assert sentence.startswith("left out: ")
    assert "1 damaged run is left out." in html
    assert html.count("rows.jsonl") > 1


def test_backbones_are_named_shortly_where_a_task_has_several(tmp_path: Path) -> None:
    long = "transformer:layers=8,width=128,heads=4,context=256,positions=learned,norm=layer"
    text = text_of(
        *(fabricate_run(tmp_path, backbone=each) for each in (long, BACKBONE, "not-loaded:size=3")), out=tmp_path
    )
    for said in ("next-token on transformer 8×128, 4 heads", "next-token on not-loaded:size=3",
                 "50 node labels, goals=one · transformer 4×128, 4 heads", "next-token (0 of 3 runs)"):  # fmt: skip
        assert said in text


def test_the_picture_is_drawn(demo: tuple[list[Path], Path], tmp_path: Path) -> None:
    for ending, start in (("svg", b"<svg"), ("png", b"\x89PNG"), ("pdf", b"%PDF")):
        assert write_picture(demo[0], tmp_path / f"picture.{ending}").read_bytes().lstrip().startswith(start)


# Studies -----------------------------------------------------------------------------------------------------------


def seed(run: Path, value: float, verdict: str = "clever-hans") -> SeedResult:
    row, solved = rate(round(value * 5000), 5000), value >= 0.95
    return SeedResult(
        seed=0, run=run.name, dir=str(run), value=row["value"], low=row["low"], high=row["high"], n=5000,
        effective=5000, exact=value, exact_effective=5000, solved=solved, verdict=verdict, inconclusive=False,
        doubts=(), because="", steps=600, solved_at=450 if solved else None, seconds=60.0,
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
        cell("next-token", "reproduced", (seed(wrong, 0.5),)),
        cell("reversed", "not reproduced", (seed(right, 0.996, "solved"),)),
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
    html = report(study, out=tmp_path / "page.html", tables=tmp_path / "tables").read_text("utf-8")
    section = html.split('<section id="studies">')[1].split("</section>")[0]
    rows = re.split(r"<tr[ >]", section.split("<tbody>")[1].split("</tbody>")[0])[1:]
    marks = ["✓ reproduced", "✗ not reproduced", "? unknown", "– not run"]
    assert [mark in row for row, mark in zip(rows, marks, strict=True)] == [True] * 4
    assert ['href="#made-1"' in rows[0], 'href="#made-2"' in rows[1]] == [True] * 2
    assert "0.500 <span" in rows[0]
    assert "1 to run" in rows[0]
    assert "&lt;b&gt;mine&lt;/b&gt;" in rows[2]
    text = re.sub(r"\s+", " ", section)
    assert "reproduced 1, not reproduced 1, unknown 1, not run 1. 2 of 8 runs are finished." in text
    for said in ("a source &amp; &lt;more&gt;", "x is &lt;damaged&gt;", "nothing of the kind", "one is at chance",
                 "foresee study a-study --scale laptop"):  # fmt: skip
        assert said in text
    assert section.count("✓ yes") == 1  # of the two claims
    assert '<section id="table">' in html
    cells = (tmp_path / "tables" / "study_a_study_laptop.tex").read_text(encoding="utf-8")
    assert (
        r"next-token & exact, chance 0.5 & 0.50 (RI) & 0.500 {[}0.486, 0.514{]}; 1 to run & reproduced & 0 of 1 &"
        in cells
    )
    assert (tmp_path / "tables" / "claims_a_study_laptop.md").exists()


@pytest.mark.parametrize("agreement", get_args(Agreement))
def test_every_kind_of_agreement_is_shown_without_any_run(
    agreement: Agreement, study: StudyResult, tmp_path: Path
) -> None:
    empty = replace(study, cells=(cell("a", agreement, ()),), claims=(), runs_finished=0)
    html = report(empty, out=tmp_path / "page.html").read_text(encoding="utf-8")
    assert '<section id="table">' not in html
    assert re.search(rf'<span class="badge \w+">\S {agreement}</span> [a-z ]{{10,}}', html)
