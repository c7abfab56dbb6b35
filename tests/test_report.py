"""The report: what is on the page, and that nothing in a run can make the page do anything."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fabricated_runs import BACKBONE, PROMPTS, TASK, add_anatomy, add_position_loss, fabricate_run

from foresee.core.errors import RequestError
from foresee.metrics.verdict import plain_words
from foresee.report import write_picture, write_report
from foresee.report.choose import choose
from foresee.report.groups import arrange
from foresee.report.load import Example, read_run
from foresee.report.star import follow, read_star
from foresee.report.style import marks
from foresee.report.words import command, lead

SECTIONS = ("happened", "table", "curves", "survival", "positions", "example", "costs", "meaning", "reproduce")
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
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
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
    return re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], Path]:
    """Next-token and reversed on one task, teacherless on another, and the page about them."""
    root = tmp_path_factory.mktemp("demo")
    runs = [
        fabricate_run(root / "runs", "next-token", "follows"),
        fabricate_run(root / "runs", "reversed", "solves"),
        fabricate_run(
            root / "runs", "teacherless:hybrid=0.0", "solves", task="path-star:degree=2,length=4,nodes=50,goals=all",
            length=4, forced=False,
            examples=[("1,2|3,4|2,5|6,3|1,6|5,7/1,7=", "1,2,5,7", "1,2,5,7")],
        ),
    ]  # fmt: skip
    notes = {runs[2].name: "from committed rows"}
    return runs, write_report(runs, root / "page.html", notes=notes, figures=root / "figures", tables=root / "tables")


def test_the_page_has_its_sections_in_order(demo: tuple[list[Path], Path]) -> None:
    page = Page(demo[1].read_text(encoding="utf-8"))
    assert tuple(page.sections) == SECTIONS
    assert page.tags.count("h1") == 1
    headings = (
        "The runs",
        "Learning curves",
        "Steps to solve",
        "Accuracy by position",
        "The anatomy",
        "Costs",
        "What it",
    )
    places = [page.text.rindex(each) for each in headings]
    assert places == sorted(places)


def test_the_page_says_what_happened(demo: tuple[list[Path], Path]) -> None:
    runs, out = demo
    text = Page(out.read_text(encoding="utf-8")).text
    assert "On path-star G(2, 5), 50 node labels: reversed solved it; next-token did not. A solver" in text
    settings = arrange([read_run(path) for path in runs], {})
    for group in (group for setting in settings for group in setting.groups):
        verdict = group.runs[0].verdict
        assert verdict is not None
        assert verdict.inconclusive is False
        assert plain_words(verdict) in text
        assert f"because {verdict.because}" in text
    assert [group.runs[0].verdict and group.runs[0].verdict.name for each in settings for group in each.groups] == [
        "clever-hans", "solved", "solved",
    ]  # fmt: skip
    assert text.count("from committed rows") == 2
    assert "not within 600" in text
    assert "2,200" in text
    assert "634,752" in text  # counted by building the model
    assert PROMPTS[0][0] in text
    assert "Took a wrong arm, then followed it edge by edge to its end" in text


def test_the_page_is_closed_to_the_world(demo: tuple[list[Path], Path]) -> None:
    html = demo[1].read_text(encoding="utf-8")
    page = Page(html)
    assert not {"iframe", "object", "embed", "link", "base", "form", "img", "image"} & set(page.tags)
    assert page.tags.count("script") == 1
    script = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', html)
    closed = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; script-src"
    assert policy == [f"{closed} 'sha256-{digest}'"]
    assert html.index("Content-Security-Policy") < html.index("<style")
    assert not re.search(r"https?:|//www|@import|url\((?!#)", html)
    for name, value in page.attributes:
        assert not name.startswith("on"), name
        assert name not in {"src", "srcset", "action", "formaction"}
        if name == "href":
            assert value.startswith("#")


def test_every_id_is_unique_and_every_reference_has_its_target(demo: tuple[list[Path], Path]) -> None:
    html = demo[1].read_text(encoding="utf-8")
    ids = [value for name, value in Page(html).attributes if name == "id"]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]+)"', html)) | set(re.findall(r"url\(#([^)]+)\)", html))
    assert used
    assert used <= set(ids)


def test_drawings_are_sound(demo: tuple[list[Path], Path]) -> None:
    svgs = inline_svgs(demo[1].read_text(encoding="utf-8"))
    described = [root for root in map(ElementTree.fromstring, svgs) if root.get("aria-label")]
    # Three curves of one setting, two of the other (nothing is forced there), a survival curve of both; of each group a
    # key, a chart by position and its graphs.
    kinds = Counter(root.attrib["class"] for root in described)
    assert kinds == {"plot": 3 + 2 + 2 + 3, "sample": 3, "star": 2 * 3 + 1}
    assert all("viewBox" in root.attrib and "width" not in root.attrib for root in described)


def test_figures_and_tables_are_written_where_asked(demo: tuple[list[Path], Path]) -> None:
    folder = demo[1].parent / "figures"
    names = {path.stem for path in folder.iterdir()}
    assert names == {
        "learning_curves_1", "learning_curves_2", "survival_1", "survival_2", "accuracy_by_position_1",
        "accuracy_by_position_2", "example_1_1", "example_1_2", "example_2_1",
    }  # fmt: skip
    for name in names:
        assert ElementTree.fromstring((folder / f"{name}.svg").read_bytes()).tag.endswith("svg")
        assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    tables = {path.name for path in (demo[1].parent / "tables").iterdir()}
    assert tables == {
        f"{kind}_{place}.{end}" for kind in ("runs", "costs") for place in (1, 2) for end in ("md", "tex")
    }


def test_the_same_runs_give_the_same_bytes(demo: tuple[list[Path], Path], tmp_path: Path) -> None:
    runs, page = demo
    again = write_report(
        runs, tmp_path / "page.html", notes={runs[2].name: "from committed rows"}, figures=tmp_path / "figures",
        tables=tmp_path / "tables",
    )  # fmt: skip
    assert again.read_bytes() == page.read_bytes()
    for name in ("figures", "tables"):
        first, second = (sorted((out.parent / name).iterdir()) for out in (page, again))
        assert [path.name for path in first] == [path.name for path in second]
        for one, two in zip(first, second, strict=True):
            assert one.read_bytes() == two.read_bytes(), one.name


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
    out = write_report(
        [one, two],
        tmp_path / "page.html",
        title=NASTY,
        notes={one.name: NASTY},
        figures=tmp_path / "figures",
        tables=tmp_path / "tables",
    )
    html = out.read_text(encoding="utf-8")
    page = Page(html)
    known = "html head meta title style body main nav a h1 h2 h3 h4 h5 section article p span ul ol li div br wbr em b "
    known += (
        "code pre table thead tbody tr th td figure figcaption details summary dl dt dd script label select option "
    )
    known += "input button svg g path defs circle text title use"
    assert set(page.tags) <= set(known.split())
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "alert(1)" in page.text  # still there to be read
    assert "\x00" not in html
    assert "<!--" not in html
    for svg in inline_svgs(html):
        ElementTree.fromstring(svg)
    for drawn in (tmp_path / "figures").glob("*.svg"):
        ElementTree.fromstring(drawn.read_bytes())


def test_one_run_alone_is_inconclusive(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path, "next-token")
    page = Page(write_report([run], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert tuple(page.sections) == SECTIONS
    assert "clever-hans (inconclusive)" in page.text
    assert sorted(path.name for path in tmp_path.iterdir()) == [run.name, "page.html"]


def test_many_seeds_are_listed_one_by_one(tmp_path: Path) -> None:
    name = "multi-token:heads=4"
    runs = [fabricate_run(tmp_path, name, "solves" if seed else "follows", seed=seed) for seed in (2, 0, 1)]
    runs += [fabricate_run(tmp_path, "reversed", "solves", seed=seed) for seed in range(3)]
    settings = arrange([read_run(path) for path in runs], {})
    assert [len(group.runs) for group in settings[0].groups] == [3, 3]
    assert [run.record.seed for run in settings[0].groups[0].runs] == [0, 1, 2]
    text = Page(write_report(runs, tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "multi-token (2 of 3 seeds) and reversed (3 of 3 seeds) solved it" in text
    assert "clever-hans × 1" in text
    assert "solved × 2" in text
    assert "2 of 3" in text
    assert "[0.21, 0.94]" in text  # Wilson, 2 of 3


def test_an_unfinished_run_is_shown_as_far_as_it_is(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path, "next-token", finished=False)
    with (run / "metrics.jsonl").open("a", encoding="utf-8") as metrics:
        metrics.write('{"step": 350, "exam')  # killed in the middle of a line
    (run / "timing.jsonl").unlink()
    page = Page(write_report([run], tmp_path / "page.html").read_text(encoding="utf-8"))
    assert tuple(page.sections) == SECTIONS
    assert "This run is unfinished: 300 of 600 steps done" in page.text
    assert "No run has kept test examples yet" in page.text


def test_a_run_that_was_only_begun_is_shown(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path, "next-token", finished=False)
    for name in ("metrics.jsonl", "timing.jsonl", "env.json"):
        (run / name).unlink()
    text = Page(write_report([run], tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "0 of 600 steps done" in text
    assert "versions that were not recorded" in text


def test_an_objective_that_cannot_be_forced_has_no_forced_values(tmp_path: Path) -> None:
    record = read_run(fabricate_run(tmp_path, "teacherless", "babbles", forced=False))
    assert record.value("branch") is None
    assert record.values("forced") == ()
    last = record.evaluations[-1]
    assert last.rate("forced") is None
    assert last.rate("branch") == last.positions["free"][1]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.jsonl", '{"row": "exact", "value": 0.5}\n{"row": "bra', r"rows\.jsonl: line 2: not JSON"),
        ("rows.jsonl", '{"row": "exact", "value": "<b>"}\n', r"rows\.jsonl: line 1: row 'exact' needs a number"),
        ("metrics.jsonl", '{"step": 1}\n[]\n', r"metrics\.jsonl: line 2: must hold one JSON object"),
        ("metrics.jsonl", '{"step": 1, "eval": {"free": ["x"]}}\n', r"metrics\.jsonl: line 1: eval 'free'"),
        ("timing.jsonl", '{"step": "1"}\n', r"timing\.jsonl: line 1: 'step' must be a whole number"),
        ("examples.jsonl", '{"prompt": "a"}\n', r"examples\.jsonl: line 1: an example needs"),
        ("spec.json", '{"task": "x",\n', r"spec\.json: line 2: not JSON"),
        ("spec.json", "{}", r"spec\.json: 'task' must be a spec string"),
        ("env.json", "[]", r"env\.json: must hold one JSON object"),
    ],
)
def test_damage_is_named_with_file_and_line(tmp_path: Path, name: str, content: str, said: str) -> None:
    run = fabricate_run(tmp_path / "runs")
    (run / name).write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=said):
        write_report([run], tmp_path / "page.html")
    assert not (tmp_path / "page.html").exists()


def test_what_cannot_be_reported_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="at least one run directory"):
        write_report([], tmp_path / "page.html")
    with pytest.raises(RequestError, match="no such run directory"):
        write_report([tmp_path / "nowhere"], tmp_path / "page.html")
    with pytest.raises(RequestError, match=r"must end in \.svg, \.png or \.pdf"):
        write_picture([fabricate_run(tmp_path)], tmp_path / "picture.gif")


def test_a_control_vouches_for_its_own_settings_alone(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path, "next-token", seed=1)
    controls: dict[str, tuple[bool, dict[str, Any]]] = {
        "the same settings": (True, {"seed": 1}),
        "fewer steps": (True, {"seed": 1, "steps": 400}),
        "more steps": (False, {"seed": 1, "steps": 900}),
        "another seed": (False, {"seed": 0}),
        "another learning rate": (False, {"seed": 1, "lr": 0.01}),
        "another backbone": (False, {"seed": 1, "backbone": "transformer:layers=9"}),
    }
    for name, (vouches, settings) in controls.items():
        control = fabricate_run(tmp_path / name, "reversed", "solves", **settings)
        verdict = arrange([read_run(run), read_run(control)], {})[0].groups[0].runs[0].verdict
        assert verdict is not None
        assert verdict.inconclusive is not vouches, name


def test_the_drawn_example_shows_what_each_run_mostly_does(tmp_path: Path) -> None:
    lucky, unlucky = PROMPTS[0], PROMPTS[2]
    wrong = fabricate_run(tmp_path, "next-token", examples=[(*lucky[:2], lucky[1]), unlucky[:3]])
    right = fabricate_run(tmp_path, "reversed", "solves")
    shown = choose(arrange([read_run(wrong), read_run(right)], {})[0].groups)
    assert [each.example.prompt for each in shown] == [unlucky[0]] * 2
    assert [each.walk and each.walk.right for each in shown] == [False, True]


STAR = read_star(PROMPTS[0][0])


@pytest.mark.parametrize(
    ("wrote", "valid", "said"),
    [
        ("32,34,6,16,12", (True,) * 4, "right: took the goal's arm and walked it to the goal"),
        ("32,3,19,47,28", (True,) * 4, "took a wrong arm, then followed it edge by edge to its end"),
        ("32,3,19", (True,) * 2, "took a wrong arm, then followed it but not to its end"),
        ("32,34,6,28,41", (True, True, False, False),
         "took the goal's arm, then made 2 jumps where the graph has no edge"),
        ("32,3,6,16,12", (True, False, True, True), "took a wrong arm, then made 1 jump where the graph has no edge"),
        ("32,19,47,28,12", (False, True, True, False),
         "wrote 19 at the branch, which is not next to the centre, then made 1 jump where the graph has no edge"),
        ("32,7", (False,), "wrote 7 at the branch, which is not in the graph"),
        ("3,19,47,28,12", (True, True, True, False), "wrong from its first symbol: 3 is not the centre"),
        ("32", (), "stopped at the centre"),
        ("", (), "wrote nothing"),
    ],
)  # fmt: skip
def test_what_was_written_is_told_rightly(wrote: str, valid: tuple[bool, ...], said: str) -> None:
    assert STAR is not None
    walk = follow(STAR, Example(PROMPTS[0][0], PROMPTS[0][1], wrote))
    assert (walk.valid, walk.said) == (valid, said)
    assert walk.right is (wrote == PROMPTS[0][1])


def test_a_star_is_read_from_its_text() -> None:
    assert STAR is not None
    assert (STAR.start, STAR.goal, STAR.goal_arm) == ("32", "12", 1)
    assert STAR.arms == (("3", "19", "47", "28"), ("34", "6", "16", "12"))
    assert STAR.path == ("32", "34", "6", "16", "12")


@pytest.mark.parametrize(
    "prompt",
    [
        "5,7/5,1|5,6|1,3|6,8|8,7|3,2=",  # the query first
        "5,1|1,3|3,2|5,6|6,8|8,7/5,7=",  # arm after arm
        "5,1|5,6|1,3|6,8|8,7|3,2/5,7=",  # arms interleaved
    ],
)
def test_a_star_is_read_in_every_form_of_its_prompt(prompt: str) -> None:
    star = read_star(prompt)
    assert star is not None
    assert (star.start, star.goal, star.goal_arm) == ("5", "7", 1)
    assert star.arms == (("1", "3", "2"), ("6", "8", "7"))


@pytest.mark.parametrize("form", ["5,7/5,7=", "5,1|5,6|1,3|1,4|6,8|6,7/5,7="])
def test_one_edge_is_a_star_in_both_forms_and_a_tree_is_none(form: str) -> None:
    star = read_star(form)
    assert (star is None) == ("|" in form)
    assert star is None or star.path == ("5", "7")


@pytest.mark.parametrize(
    "prompt",
    ["", "1+1=", "1,2|2,3/1,9=", "1,2|2,1/1,2=", "1,2|2,3|2,4/1,3=", "1,2|5,6/1,2=", "1,2,3/1,3=", "1,2|1,2/1,2="],
)
def test_what_is_no_star_is_not_drawn(prompt: str) -> None:
    assert read_star(prompt) is None


def test_an_objective_keeps_its_colour() -> None:
    few, many = marks(["next-token", "reversed"]), marks(["a", "b", "next-token", "reversed", "teacherless:hybrid=0.5"])
    assert few["next-token"] == many["next-token"]
    assert few["reversed"] == many["reversed"]
    assert marks(["teacherless"])["teacherless"] == many["teacherless:hybrid=0.5"]
    assert len({mark.colour for mark in many.values()}) == 5


def test_the_command_line_makes_the_run_again(tmp_path: Path) -> None:
    from foresee.cli.app import program

    spec = dict(read_run(fabricate_run(tmp_path, "next-token", until_solved=True)).spec)
    words = shlex.split(command(spec))
    assert words[:3] == ["foresee", "train", TASK]
    given = dict(zip(words[3:-1:2], words[4::2], strict=True))
    assert given["--backbone"] == BACKBONE
    assert given["--data"] == "200000"
    assert words[-1] == "--until-solved"
    train = program.get_command(None, "train")
    known = {flag for option in train.params for flag in option.opts}
    assert set(given) | {"--until-solved"} <= known
    settings = {key for key in spec if key not in ("task", "data_digest", "plugins")}
    assert {flag.removeprefix("--").replace("-", "_") for flag in [*given, words[-1]]} == settings


@pytest.mark.parametrize(("ending", "start"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_the_picture_is_drawn(demo: tuple[list[Path], Path], tmp_path: Path, ending: str, start: bytes) -> None:
    out = write_picture(demo[0], tmp_path / f"picture.{ending}")
    assert out.read_bytes().startswith(start)
    assert write_picture(demo[0], tmp_path / f"again.{ending}").read_bytes() == out.read_bytes()


def test_a_picture_of_unfinished_runs_is_drawn(tmp_path: Path) -> None:
    out = write_picture([fabricate_run(tmp_path, finished=False)], tmp_path / "picture.svg")
    ElementTree.fromstring(out.read_bytes())


def test_runs_of_one_objective_with_other_settings_are_told_apart(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path, "next-token", steps=steps) for steps in (400, 600)]
    groups = arrange([read_run(path) for path in runs], {})[0].groups
    assert [group.label for group in groups] == ["next-token (steps=400)", "next-token (steps=600)"]
    drawn = marks([group.name for group in groups])
    assert len({mark.colour for mark in drawn.values()}) == 2
    assert marks(["next-token"])["next-token"] in drawn.values()
    assert lead(TASK, arrange([read_run(path) for path in runs], {})).endswith(
        "next-token (steps=400) and next-token (steps=600) did not solve it."
    )


def test_backbones_are_named_shortly_where_a_task_has_several(tmp_path: Path) -> None:
    long = "transformer:layers=8,width=128,heads=4,context=256,positions=learned,norm=layer"
    runs = [fabricate_run(tmp_path, backbone=each) for each in (long, BACKBONE, "not-loaded:size=3")]
    text = Page(write_report(runs, tmp_path / "page.html").read_text(encoding="utf-8")).text
    assert "next-token on gpt-nano:layers=8" in text or "next-token on transformer:layers=8" in text
    assert "next-token on not-loaded:size=3" in text
    assert "G(2, 5), 50 node labels · gpt-nano" in text
