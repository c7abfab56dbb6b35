"""The page docs/objectives.md and its drawings, made of what the registered objectives say and do.

``make docs`` in the repository's root writes them. Words and drawings come from the docstrings of the objectives'
modules and classes, refusals from the program.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from foresee.backbones import Backbone, Cap, backbones
from foresee.backbones.base import refuse_missing
from foresee.core import files
from foresee.core.errors import RequestError
from foresee.core.registry import Registry
from foresee.core.seeds import torch_stream
from foresee.core.spec import options_of, options_text, resolve
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import objectives
from generate.drawing import draw, parse_drawing, render

FAMILIES = (
    "The failure and the control", "Several tokens in advance", "A summary of the future",
    "Other orders and masked inputs",
)  # fmt: skip
FIRST = ("next-token", "teacherless", "multi-token")
LABELS = "Family|Source|Loss|Decoding|Dropped|Deviations|Drawing"
SMALL = {"transformer": "layers=1,width=32,heads=2", "mamba": "layers=1,width=32",
         "mamba2": "layers=1,width=32,head_width=16"}  # fmt: skip
"""Capabilities and layers do not depend on size, so each backbone is asked at a size that is built in no time."""
VOCAB = Vocabulary(tuple("0123456789|=/"))


def write_pages(root: Path = Path()) -> None:
    """Writes every generated file below ``root``, and takes away drawings of objectives that are gone."""
    if not (root / "docs").is_dir():
        raise RequestError(f"{root} has no folder docs; run this in the root of the repository")
    pages = build_pages(root)
    for path, text in pages.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write_text(path, text)
    for path in set((root / "docs" / "objectives").glob("*.svg")) - pages.keys():
        path.unlink()


def build_pages(root: Path) -> dict[Path, str]:
    """Every generated file below ``root``, the repository's folder, with its content."""
    said = {name: read_docstrings(name) for name in own_names(objectives)}
    names = sorted(said, key=lambda name: (FAMILIES.index(said[name]["Family"]), name not in FIRST, name))
    drawings = {name: parse_drawing(said[name]["Drawing"]) for name in names}
    built = build_backbones()
    page = render(
        "page.md.j2",
        families={title: [name for name in names if said[name]["Family"] == title] for title in FAMILIES},
        said=said,
        classes={name: objectives.get(name) for name in names},
        options={name: read_options(name) for name in names},
        caps=list(Cap),
        backbones=list(built),
        refusals={name: refused for name in names if (refused := find_refusals(name, built))},
        checkpoints=refused_checkpoints(names, root / "docs" / "checkpoints.md"),
    )
    page = re.sub(r"^(?![|!<#`]).{121,}$", lambda line: wrap(line.group()), page, flags=re.MULTILINE)
    folder = root / "docs" / "objectives"
    svgs = {folder / f"{name}.svg": draw(name, streams) for name, streams in drawings.items()}
    return {root / "docs" / "objectives.md": page, folder / "legend.svg": render("legend.svg.j2"), **svgs}


def own_names(registry: Registry[typing.Any]) -> list[str]:
    """The names that this package itself registers, and no plug-in."""
    home = f"foresee.{registry.kind}s."
    return [name for name in registry.names() if registry.get(name).__module__.startswith(home)]


def read_docstrings(name: str) -> dict[str, str]:
    """What an objective's module says, by label: ``Idea``, those of ``LABELS``, and the ``Options`` it is drawn for."""
    text = inspect.getdoc(sys.modules[objectives.get(name).__module__]) or ""
    title, _, text = text.partition("\n\n")
    idea, *labelled = re.split(rf"^({LABELS})(?:, (\S+))?:\s", text, flags=re.MULTILINE)
    words = {label: body.strip() for label, body in zip(labelled[::3], labelled[2::3], strict=True)}
    drawing = words.pop("Drawing")
    said = {label: write_markdown(body) for label, body in {"Title": title, "Idea": idea, **words}.items()}
    for label in ("Family", "Loss", "Decoding", "Deviations"):
        said[label] = re.sub(r"^[a-z]+\b", lambda word: word.group().capitalize(), said.get(label, ""))
    said |= {"Family": said["Family"].rstrip("."), "Dropped": said["Dropped"].rstrip(".")}
    return said | {"Drawing": drawing, "Options": next(filter(None, labelled[-2::3]), "")}


def read_options(name: str) -> list[tuple[str, str, str]]:
    """Each option with its default and its meaning, which the class's docstring gives."""
    cls = objectives.get(name)
    meanings = dict(re.findall(r"^    (\w+): (.+)$", inspect.getdoc(cls) or "", flags=re.MULTILINE))
    return [(key, value, meanings[key]) for key, value in options_text(cls).items()]


def write_markdown(text: str) -> str:
    """A paragraph of a docstring as Markdown, on one line."""
    text = re.sub(r"\s+", " ", text).strip().replace("``", "`")
    return re.sub(r"arXiv (\d{4}\.\d{5})", r"[arXiv \1](https://arxiv.org/abs/\1)", text)


def wrap(line: str) -> str:
    """A paragraph, or one item of a list, in lines of at most 120 characters; links and words stay whole."""
    indent = "  " if line.startswith("* ") else ""
    # Neither code nor a sign that would begin a list may stand first on a line.
    kept = re.sub(r"`[^`]*`| (?=[-+*] )", lambda found: found.group().replace(" ", "\0"), line[2:])
    wrapper = textwrap.TextWrapper(120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return wrapper.fill(line[:2] + kept).replace("\0", " ")


def build_backbones() -> dict[str, Backbone]:
    """Every backbone of the package that is trained from scratch, the Transformer with each kind of positions."""
    built = {}
    for name in set(own_names(backbones)) - {"hf"}:
        declared = options_of(backbones.get(name))
        kinds = typing.get_args(declared["positions"].annotation) if "positions" in declared else ()
        for given in [f"positions={kind}" for kind in kinds] or [""]:
            options = ",".join(filter(None, (given, SMALL.get(name))))
            spec = resolve(backbones, f"{name}:{options}" if options else name)
            built[f"{name}:{given}" if given else name] = spec.build(VOCAB, torch_stream("objectives page"))
    return dict(sorted(built.items()))


def find_refusals(name: str, built: Mapping[str, Backbone]) -> dict[str, str]:
    """The backbones on which an objective is refused, and the program's sentence for each."""
    objective, found = resolve(objectives, name), {}
    for short, backbone in built.items():
        try:
            refuse_missing(objective.cls.needs, name, backbone, short)
            objective.build(backbone, VOCAB.extended(objective.cls.symbols), torch_stream("objectives page"))
        except RequestError as error:
            found[short] = str(error)
    return found


def refused_checkpoints(names: Sequence[str], page: Path) -> dict[str, list[str]]:
    """The families of checkpoints that lack what an objective needs, by the table in docs/checkpoints.md.

    Raises ``RequestError`` where there is no such table.
    """
    caps = [cap.name for cap in Cap]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.read_text(encoding="utf-8").splitlines()]
    start = next((at for at, cells in enumerate(rows) if set(caps) <= set(cells)), None)
    if start is None:
        raise RequestError(f"{page} has no table with the columns {', '.join(caps)}")
    found: dict[str, list[str]] = {name: [] for name in names}
    for cells in rows[start + 2 :]:
        if not cells:
            break
        row = dict(zip(rows[start], cells, strict=True))
        for name in names:
            if any(row[cap.name] != "yes" for cap in objectives.get(name).needs):
                found[name] += re.findall(r"[\w-]+(?: \([^)]*\))?", row["family"])
    return {name: families for name, families in found.items() if families}
