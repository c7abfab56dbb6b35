"""docs/objectives.md: that it is what the registry gives now, and that what it says of pairs and runs is so."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import pytest

from foresee.backbones import backbones
from foresee.core.errors import RequestError
from foresee.core.spec import options_of
from foresee.objectives import objectives
from foresee.training.settings import Settings
from generate import objectives_page
from generate.drawing import parse_drawing
from generate.objectives_page import own_names, read_docstrings

ROOT = Path(__file__).resolve().parent.parent
NAMES = own_names(objectives)
TASK = "path-star:degree=2,length=5,nodes=50,goals=one"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pages() -> dict[Path, str]:
    return objectives_page.build_pages(ROOT)


def test_committed_files_are_what_the_registry_gives(pages: dict[Path, str]) -> None:
    stale = [path.name for path, text in pages.items() if not path.exists() or path.read_text("utf-8") != text]
    assert not stale, f"run make docs: {stale}"
    assert set((ROOT / "docs" / "objectives").iterdir()) == {path for path in pages if path.suffix == ".svg"}
    for line in ("short  a1", "@place  0 1 2"):
        with pytest.raises(ValueError, match="must have one word for each of the 2 inputs"):
            parse_drawing(f"fed  p1 a1\n{line}")


def test_every_objective_is_on_the_page_and_every_option_has_a_meaning(pages: dict[Path, str]) -> None:
    page = pages[ROOT / "docs" / "objectives.md"]
    found = re.findall(r"^### (.+)$", page, flags=re.MULTILINE)
    assert sorted(found) == NAMES
    assert found[:4] == ["next-token", "reversed", "multi-token", "teacherless"]
    for name in NAMES:
        assert page.count(f"](objectives/{name}.svg)") == 1
        said, options = read_docstrings(name), objectives_page.read_options(name)
        assert [key for key, _, _ in options] == list(options_of(objectives.get(name)))
        assert all(said[label] for label in ("Title", "Idea", "Loss", "Decoding", "Dropped"))
        assert re.search(r"\d{4}", said["Source"])
        assert said["Family"] in objectives_page.FAMILIES
    lines = page.splitlines()
    assert not [line for line in lines if len(line) > 120 and not line.startswith(("|", "![", "<!--"))]
    assert not re.search(r"research/|``[^`]", page.replace("```", ""))


def test_writing_takes_old_drawings_away(tmp_path: Path) -> None:
    """That the same is written each time, the committed files show."""
    with pytest.raises(RequestError, match="has no folder docs; run this in the root of the repository"):
        objectives_page.write_pages(tmp_path)
    drawings = tmp_path / "docs" / "objectives"
    drawings.mkdir(parents=True)
    shutil.copy(ROOT / "docs" / "checkpoints.md", tmp_path / "docs")
    (drawings / "gone.svg").write_text("<svg/>", encoding="utf-8")
    objectives_page.write_pages(tmp_path)
    assert {path.name for path in drawings.iterdir()} == {"legend.svg", *(f"{name}.svg" for name in NAMES)}


@pytest.mark.parametrize("name", [*NAMES, "legend"])
def test_a_drawing_stays_within_its_edges_and_needs_nothing_else(name: str, pages: dict[Path, str]) -> None:
    drawn = pages[ROOT / "docs" / "objectives" / f"{name}.svg"]
    root = ElementTree.fromstring(drawn)
    assert not re.search(r"href|url\(|<script|<style|currentColor", drawn)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    assert width <= 1120
    for box in root.iter(f"{SVG}rect"):
        x, y, wide, high = (float(box.attrib[key]) for key in ("x", "y", "width", "height"))
        assert x >= 0 and y >= 0 and x + wide <= width and y + high <= height  # noqa: PT018  # one box, one fact
    for text in root.iter(f"{SVG}text"):
        words, size = "".join(text.itertext()), float(text.attrib["font-size"])
        if text.attrib["text-anchor"] == "start":
            assert float(text.attrib["x"]) + 0.6 * size * len(words) < width, words


# Pairs.


def test_refusals_are_those_of_a_run() -> None:
    built = objectives_page.build_backbones()
    assert {"mamba", "mamba2", *(f"transformer:positions={kind}" for kind in ("learned", "rotary", "none"))} <= set(
        built
    )
    assert set(own_names(backbones)) - {"hf"} == {short.partition(":")[0] for short in built}
    assert not objectives_page.find_refusals("next-token", built)
    for name in ("masked-diffusion", "registers", "any-order"):
        for short, sentence in objectives_page.find_refusals(name, built).items():
            small = f"{short}{',' if ':' in short else ':'}{objectives_page.SMALL[short.partition(':')[0]]}"
            spec = Settings.of(TASK, name, small)
            with pytest.raises(RequestError) as refused:
                spec.build_objective(spec.build_task())
            same = str(refused.value).replace(repr(spec.backbone), repr(short))
            assert same.replace(repr(spec.objective), repr(name)) == sentence


def test_the_table_of_checkpoints_is_read(tmp_path: Path) -> None:
    refused = objectives_page.refused_checkpoints(NAMES, ROOT / "docs" / "checkpoints.md")
    assert "next-token" not in refused
    assert ("GPT-Neo" in refused["masked-diffusion"], "GPT-Neo" in refused["registers"]) == (True, False)
    assert "Mamba-2" in refused["registers"]
    assert not {"GPT-2", "GPT-NeoX (Pythia)"} & {family for families in refused.values() for family in families}
    (tmp_path / "checkpoints.md").write_text("nothing\n", encoding="utf-8")
    with pytest.raises(RequestError, match="has no table with the columns LOOKAHEAD, VISIBILITY, POSITIONS"):
        objectives_page.refused_checkpoints(NAMES, tmp_path / "checkpoints.md")
