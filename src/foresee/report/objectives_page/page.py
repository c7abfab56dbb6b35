"""docs/objectives.md in words."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path

from foresee.backbones import Cap
from foresee.core.errors import ForeseeError
from foresee.core.spec import options_text
from foresee.objectives.base import Objective, objectives
from foresee.objectives.diagram import Diagram
from foresee.objectives.explanation import Explanation, Family
from foresee.report.objectives_page import measured, refusals
from foresee.report.objectives_page.drawing import describe, draw, legend
from foresee.report.objectives_page.words import table, wrapped

FIRST = ("next-token", "reversed", "teacherless", "multi-token")
COMMAND = "make docs"
PLAIN = {
    Cap.LOOKAHEAD: "reads in both directions when asked to",
    Cap.VISIBILITY: "obeys a mask of who reads whom",
    Cap.POSITIONS: "takes a token's position as it is given",
}
INTRODUCTION = (
    "What is trained, and how the trained network writes its answers. Each objective is one file under "
    "[`src/foresee/objectives/`](../src/foresee/objectives/), runs on any backbone that can do what it needs, and is "
    "named in a spec with the options that are not at their defaults, as in `multi-token:heads=2`. Which of them solve "
    "path-star is [measured](#measured)."
)
HOW_TO_READ = (
    "Every drawing shows the same example: a prompt of three tokens, *p*, and an answer of four, *a*. On path-star the "
    "first answer token is the centre, which the prompt names, and the second the only decision. At the bottom stands "
    "what is fed; the backbone reads it; an arrow leads from a position to what is predicted from its state. Dashed is "
    "what training has and decoding does without. A rounded cell is the state of the token in it. The drawings are "
    "checked: a test compares what each of them shows with what the objective feeds, predicts and drops when it runs."
)
REFUSED = (
    "What a backbone can do is measured when it is built, and a pair that cannot work is refused before any data is "
    "made. Of every objective with every backbone that is trained from scratch, these are refused:"
)
CHECKPOINTS = (
    "Of checkpoints (`hf:`), [`checkpoints.md`](checkpoints.md) lists what was measured for each family. By that list "
    "and what each objective needs, these are refused. `multi-token` and `multi-token-sequential` add layers of the "
    "backbone's own kind, so they are also refused where an architecture cannot be cut to one layer, as Jamba's cannot."
)


def own(name: str) -> tuple[type[Objective], Explanation, Diagram]:
    """The class behind a name, and what it says of itself. What it inherits would be said of another objective."""
    cls = objectives.get(name)
    explanation, diagram = vars(cls).get("explanation"), vars(cls).get("diagram")
    if not isinstance(explanation, Explanation) or not isinstance(diagram, Diagram):
        raise ForeseeError(f"objective {name!r} has no explanation and diagram of its own, which its page needs")
    return cls, explanation, diagram


def page_order() -> list[str]:
    """The package's own objectives by family, the baselines first."""
    names = refusals.own_names(objectives)
    families = list(Family)
    placed = {name: FIRST.index(name) if name in FIRST else len(FIRST) for name in names}
    return sorted(names, key=lambda name: (families.index(own(name)[1].family), placed[name], name))


def pages(root: Path) -> dict[Path, str]:
    """Every generated file below ``root``, the repository's folder, with its content."""
    docs = root / "docs"
    drawings = {docs / "objectives" / f"{name}.svg": draw(name, own(name)[2]) for name in page_order()}
    return {docs / "objectives.md": page(root), docs / "objectives" / "legend.svg": legend(), **drawings}


def page(root: Path) -> str:
    """The whole page."""
    names = page_order()
    parts = [
        "# Objectives",
        f"<!-- Made by `{COMMAND}` from the registered objectives: change those and make it again. -->",
        wrapped(INTRODUCTION),
        contents(names),
        "## How to read the drawings",
        "![How the drawings are read](objectives/legend.svg)",
        wrapped(HOW_TO_READ),
    ]
    for family in Family:
        parts.append(f"## {family.value}")
        parts += [section(name) for name in names if own(name)[1].family is family]
    parts += ["## Pairs that are refused", refused_pairs(names, root / "docs" / "checkpoints.md")]
    parts += ["## Measured", measured.measured_table(root / "results" / measured.STUDY, names)]
    return "\n\n".join(parts) + "\n"


def contents(names: list[str]) -> str:
    """One line an objective."""
    rows = [(f"[`{name}`](#{name})", own(name)[0].summary, own(name)[1].dropped) for name in names]
    return table(("objective", "what", "dropped at decoding"), rows)


def section(name: str) -> str:
    """One objective."""
    cls, explanation, diagram = own(name)
    drawn = f" Drawn for `{name}:{diagram.options}`." if diagram.options else ""
    seen = describe(diagram).replace("<", "&lt;")
    bullets = {"At decoding.": explanation.decoding, "Needs.": needs(name), "Source.": explanation.source}
    parts = [
        f"### {name}",
        f"![{name}: {seen}](objectives/{name}.svg)",
        wrapped(explanation.idea + drawn),
        "\n".join(wrapped(f"**{head}** {said}", "* ") for head, said in bullets.items()),
    ]
    if explanation.options:
        parts.append(options(cls, explanation))
    if said := deviations(cls):
        summary = "<summary>Where this differs from the source</summary>"
        parts.append(f"<details>{summary}\n\n{wrapped(said)}\n\n</details>")
    return "\n\n".join(parts)


def needs(name: str) -> str:
    """What it requires of a backbone, in plain words."""
    cls = objectives.get(name)
    if not cls.needs:
        return "Any backbone."
    wanted = [f"{PLAIN[cap]} ({cap.name})" for cap in Cap if cap in cls.needs]
    return f"A backbone that {' and '.join(wanted)}."


def options(cls: type[Objective], explanation: Explanation) -> str:
    """The options with their defaults and meaning."""
    rows = [(f"`{key}`", f"`{value}`", explanation.options[key]) for key, value in options_text(cls).items()]
    return table(("option", "default", "what"), rows)


def deviations(cls: type[Objective]) -> str:
    """What the module's docstring says of them, in Markdown."""
    text = inspect.getdoc(sys.modules[cls.__module__]) or ""
    found = re.search(r"\bDeviations?[.:]\s+(.*?)(?:\n\n|\Z)", text, flags=re.DOTALL)
    if found is None:
        return ""
    said = re.sub(r"\s+", " ", found.group(1)).strip()
    said = re.sub(r" \([^()]*research/objectives\.md[^()]*\)", "", said).replace("``", "`")
    said = re.sub(r"(?<!`)(<[\w/]+>)(?!`)", r"`\1`", said)
    return said[0].upper() + said[1:]


def refused_pairs(names: list[str], checkpoints: Path) -> str:
    """What is refused, as a table and in the program's words."""
    built = refusals.from_scratch()
    found = refusals.refusals(names, built)
    refused = {(each.objective, each.backbone) for each in found}
    rows = [
        (f"[`{name}`](#{name})", *("refused" if (name, short) in refused else "works" for short in built))
        for name in names
        if any(objective == name for objective, _ in refused)
    ]
    parts = [
        wrapped(REFUSED),
        table(("objective", *(f"`{short}`" for short in built)), rows),
        f"The other {len(names) - len(rows)} run on all of them. What the program says, for each pair:",
        "```text\n" + "\n\n".join(wrapped(each.sentence) for each in found) + "\n```",
        wrapped(CHECKPOINTS),
        table(("objective", "refused on"), refused_checkpoints(names, checkpoints)),
    ]
    return "\n\n".join(parts)


def refused_checkpoints(names: list[str], checkpoints: Path) -> list[tuple[str, str]]:
    """Each objective that some checkpoint refuses, and which."""
    rows = []
    families = refusals.measured_families(checkpoints)
    for name in names:
        lacking = [
            family for group in families if not objectives.get(name).needs <= group.has for family in group.names
        ]
        if lacking:
            rows.append((f"[`{name}`](#{name})", ", ".join(lacking)))
    return rows
