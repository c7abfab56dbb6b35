"""docs/objectives.md: that it is what the registry gives now, and that what it says of pairs and runs is so."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from fabricated_runs import Behaviour, fabricate_run

from foresee.backbones import backbones
from foresee.core.errors import RequestError
from foresee.core.spec import options_of, resolve
from foresee.objectives import objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.report.objectives_page import measured, refusals
from foresee.report.objectives_page.__main__ import main
from foresee.report.objectives_page.drawing import draw, legend
from foresee.report.objectives_page.page import deviations, own, page_order, pages
from foresee.report.objectives_page.refusals import SMALL
from foresee.report.objectives_page.words import wrapped
from foresee.training.run import read_spec
from foresee.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
NAMES = page_order()
TASK = "path-star:degree=2,length=5,nodes=50"


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    return pages(ROOT)


# The committed files.


def test_committed_files_are_what_the_registry_gives(made: dict[Path, str]) -> None:
    stale = [
        str(path.relative_to(ROOT))
        for path, text in made.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    assert not stale, f"run make docs: {stale}"
    assert set((ROOT / "docs" / "objectives").iterdir()) == {path for path in made if path.suffix == ".svg"}


def test_every_objective_of_the_package_is_on_the_page(made: dict[Path, str]) -> None:
    page = made[ROOT / "docs" / "objectives.md"]
    assert sorted(re.findall(r"^### (.+)$", page, flags=re.MULTILINE)) == sorted(NAMES)
    own_modules = {path.stem for path in (ROOT / "src" / "foresee" / "objectives").glob("*.py")}
    assert {objectives.get(name).__module__.rpartition(".")[2] for name in NAMES} <= own_modules
    assert NAMES[:3] == ["next-token", "reversed", "teacherless"]
    for name in NAMES:
        assert page.count(f"](objectives/{name}.svg)") == 1


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_meaning(name: str) -> None:
    cls, explanation, diagram = own(name)
    assert list(explanation.options) == list(options_of(cls))
    resolve(objectives, f"{name}:{diagram.options}" if diagram.options else name)


def test_lines_are_short_but_for_tables_and_pictures(made: dict[Path, str]) -> None:
    lines = made[ROOT / "docs" / "objectives.md"].splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith(("|", "!["))]
    assert not [line for line in lines if "research/" in line]


def test_writing_again_changes_nothing_and_takes_old_drawings_away(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    shutil.copy(ROOT / "docs" / "checkpoints.md", tmp_path / "docs")
    gone = tmp_path / "docs" / "objectives" / "gone.svg"
    gone.parent.mkdir()
    gone.write_text("<svg/>", encoding="utf-8")
    main(tmp_path)
    first = {path.name: path.read_bytes() for path in gone.parent.iterdir()}
    assert set(first) == {"legend.svg", *(f"{name}.svg" for name in NAMES)}
    assert "Not measured yet" in (tmp_path / "docs" / "objectives.md").read_text(encoding="utf-8")
    main(tmp_path)
    assert {path.name: path.read_bytes() for path in gone.parent.iterdir()} == first


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no folder docs; run this in the root of the repository"):
        main(tmp_path)


# Drawings.

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", [*NAMES, "legend"])
def test_a_drawing_stays_within_its_edges_and_needs_nothing_else(name: str) -> None:
    drawn = legend() if name == "legend" else draw(name, own(name)[2])
    root = ElementTree.fromstring(drawn)
    assert not re.search(r"href|url\(|<script|<style|currentColor", drawn)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width <= 1120
    card = root.find(f"{SVG}rect")
    assert card is not None
    assert card.attrib["fill"] == "#ffffff"
    for box in root.iter(f"{SVG}rect"):
        x, y, wide, high = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + wide <= width and y + high <= height  # noqa: PT018  # one box, one fact
    for text in root.iter(f"{SVG}text"):
        said = "".join(text.itertext())
        size = float(text.attrib["font-size"])
        if text.attrib["text-anchor"] == "start":
            assert float(text.attrib["x"]) + 0.6 * size * len(said) < width, said


def test_a_drawing_shows_every_input_and_prediction() -> None:
    stream = Stream("p1 ~r", (Lane("one", "part", "a1 ."), Lane("two", "part", "a2>* {a3}", dropped=True)))
    root = ElementTree.fromstring(draw("made-up", Diagram((stream,))))
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert {"p1", "r", "a1", "a2", "rest", "a3", "one", "two", "only in training", "fed"} <= set(texts)
    title, description = root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")
    assert title == "made-up: what is fed, predicted and dropped"
    assert description == (
        "Fed to backbone: p1 r. Predicted, one: a1 above p1. "
        "Predicted, two (only in training): a2 the rest above p1, a3 above r."
    )


# Words.


def test_deviations_come_from_the_docstring() -> None:
    assert deviations(objectives.get("next-token")) == ""
    assert deviations(objectives.get("teacherless")).startswith("They mix whole batches")
    assert deviations(objectives.get("token-masking")).startswith('The paper\'s text was not at hand: "uniform rate"')
    with_docstring = {name for name in NAMES if deviations(objectives.get(name))}
    assert set(NAMES) - with_docstring == {"next-token", "reversed"}


def test_lists_are_indented_and_words_stay_whole() -> None:
    lines = wrapped("word-with-hyphens " * 10, "* ").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("  word-with-hyphens")


# Pairs.


def test_refusals_are_those_of_a_run() -> None:
    names = ["next-token", "masked-diffusion", "registers", "any-order"]
    found = refusals.refusals(names, refusals.from_scratch())
    assert {each.objective for each in found} == set(names[1:])
    for each in found:
        assert repr(each.backbone) in each.sentence
        small = f"{each.backbone}{',' if ':' in each.backbone else ':'}{SMALL[each.backbone.partition(':')[0]]}"
        spec = Settings.of(TASK, each.objective, small)
        with pytest.raises(RequestError) as refused:
            spec.build_objective(spec.build_task())
        said = str(refused.value).replace(repr(spec.backbone), repr(each.backbone))
        assert said.replace(repr(spec.objective), repr(each.objective)) == each.sentence


def test_every_backbone_from_scratch_is_asked() -> None:
    built = refusals.from_scratch()
    assert {short.partition(":")[0] for short in built} >= {"transformer", "mamba", "mamba2"}
    assert {short for short in built if short.startswith("transformer")} == {
        f"transformer:positions={kind}" for kind in ("learned", "rotary", "none")
    }
    assert set(refusals.own_names(backbones)) - {refusals.PRETRAINED} == {short.partition(":")[0] for short in built}


def test_the_table_of_checkpoints_is_read(tmp_path: Path) -> None:
    families = refusals.measured_families(ROOT / "docs" / "checkpoints.md")
    has = {name: group.has for group in families for name in group.names}
    assert {cap.name for cap in has["GPT-2"]} == {"LOOKAHEAD", "VISIBILITY", "POSITIONS"}
    assert {cap.name for cap in has["GPT-NeoX (Pythia)"]} == {"LOOKAHEAD", "VISIBILITY", "POSITIONS"}
    assert {cap.name for cap in has["GPT-Neo"]} == {"VISIBILITY", "POSITIONS"}
    assert has["Mamba-2"] == frozenset()
    empty = tmp_path / "checkpoints.md"
    empty.write_text("nothing\n", encoding="utf-8")
    with pytest.raises(RequestError, match="has no table with the columns LOOKAHEAD, VISIBILITY, POSITIONS"):
        refusals.measured_families(empty)


# The measured table.


def study(root: Path) -> Path:
    """Made-up runs of three objectives, each under its right name."""
    folder = root / "results" / measured.STUDY
    for seed in range(2):
        add_run(folder, "next-token", "follows", seed)
        add_run(folder, "reversed", "solves", seed)
    add_run(folder, "teacherless:hybrid=0.0", "babbles", 0, forced=False)
    return folder


def add_run(folder: Path, objective: str, behaviour: Behaviour, seed: int, **settings: Any) -> Path:
    backbone = "transformer:layers=1,width=32,heads=2,context=64,positions=learned,norm=layer,mlp=gelu,hidden=none"
    settings |= {"backbone": f"{backbone},bias=true,tied=true", "steps": 400}
    run = fabricate_run(folder, objective, behaviour, seed=seed, **settings)
    named = folder / read_spec(run.rename(folder / "unnamed")).digest
    return (folder / "unnamed").rename(named)


def test_no_runs_are_said_to_be_none(tmp_path: Path) -> None:
    said = "Not measured yet: there are no finished runs under `results/laptop-objectives`."
    assert measured.measured_table(tmp_path / "absent", NAMES) == said
    assert measured.measured_table(tmp_path, NAMES) == said


def test_the_table_says_what_the_runs_say(tmp_path: Path) -> None:
    folder = study(tmp_path)
    add_run(folder, "registers:max_offset=4,weight=0.5", "follows", 0, finished=False)
    (folder / "README.md").write_text("a note\n", encoding="utf-8")
    table = measured.measured_table(folder, NAMES)
    rows = {line.split("|")[1].strip(" `"): [cell.strip() for cell in line.split("|")[2:-1]]
            for line in table.splitlines() if line.startswith("| `")}  # fmt: skip
    runs = {each.group.objective: each for each in measured.read_study(folder)}
    assert list(rows) == ["next-token", "reversed", "teacherless"]
    assert rows["next-token"][0] == "0 of 2"
    assert rows["next-token"][1] == ", ".join(f"{value:.3f}" for value in runs["next-token"].group.exact)
    assert rows["next-token"][2:4] == ["not within 400", "1.00"]
    assert rows["next-token"][5] == "`clever-hans`"
    assert rows["reversed"][0] == "2 of 2"
    assert rows["reversed"][2] == ", ".join(map(str, dict.fromkeys(runs["reversed"].group.steps_to_solve)))
    assert rows["reversed"][5] == "`solved`"
    assert rows["teacherless"][3] == f"{2200 / 2205:.2f}"
    assert int(rows["teacherless"][4].replace(",", "")) == runs["teacherless:hybrid=0.0"].parameters
    assert "seeds 0, 1." in table
    assert "not counted: 1." in table
    assert "No finished runs yet: `multi-token`" in table


def test_runs_of_another_budget_are_refused(tmp_path: Path) -> None:
    folder = study(tmp_path)
    add_run(folder, "token-order:window=none,weight=1.0", "follows", 0, lr=0.01)
    with pytest.raises(RequestError, match="differ in more than objective and seed"):
        measured.measured_table(folder, NAMES)


def test_a_damaged_run_is_named(tmp_path: Path) -> None:
    folder = study(tmp_path)
    (run, *_) = sorted(folder.iterdir())
    (run / "timing.jsonl").write_text(json.dumps({"step": 1, "seconds": 2.0}) + "\n", encoding="utf-8")
    with pytest.raises(RequestError, match=r"timing\.jsonl is damaged"):
        measured.measured_table(folder, NAMES)
