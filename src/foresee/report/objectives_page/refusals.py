"""Which pairs of an objective and a backbone are refused: asked of the program, not written down."""

from __future__ import annotations

import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresee.backbones import Backbone, Cap, backbones
from foresee.backbones.base import refuse_missing
from foresee.core.errors import RequestError
from foresee.core.registry import Registry
from foresee.core.seeds import torch_stream
from foresee.core.spec import options_of, resolve
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import objectives

PRETRAINED = "hf"
SMALL = {
    "transformer": "layers=1,width=32,heads=2",
    "mamba": "layers=1,width=32",
    "mamba2": "layers=1,width=32,head_width=16",
}
"""Capabilities and layers do not depend on size, so each is asked at a size that is built in no time."""

VOCAB = Vocabulary(tuple("0123456789|=/"))


@dataclass(frozen=True)
class Refusal:
    """A pair that is refused, and the program's sentence."""

    objective: str
    backbone: str
    sentence: str


def from_scratch() -> dict[str, Backbone]:
    """Every backbone of the package that is trained from scratch, the Transformer with each kind of positions."""
    built = {}
    for name in own_names(backbones):
        if name == PRETRAINED:
            continue
        declared = options_of(backbones.get(name))
        kinds = typing.get_args(declared["positions"].annotation) if "positions" in declared else ()
        for given in [f"positions={kind}" for kind in kinds] or [""]:
            options = ",".join(filter(None, (given, SMALL.get(name))))
            spec = resolve(backbones, f"{name}:{options}" if options else name)
            built[f"{name}:{given}" if given else name] = spec.build(VOCAB, torch_stream("objectives page"))
    return built


def own_names(registry: Registry[Any]) -> list[str]:
    """The names that this package itself registers, and no plug-in."""
    home = f"foresee.{registry.kind}s."
    return [name for name in registry.names() if registry.get(name).__module__.startswith(home)]


def refusals(names: list[str], built: dict[str, Backbone]) -> list[Refusal]:
    """The refused pairs among all of them."""
    found = []
    for name in names:
        for short, backbone in built.items():
            sentence = refused(name, short, backbone)
            if sentence is not None:
                found.append(Refusal(name, short, sentence))
    return found


def refused(name: str, short: str, backbone: Backbone) -> str | None:
    """Why the objective is refused on the backbone, or None where it is not."""
    objective = resolve(objectives, name)
    try:
        refuse_missing(objective.cls.needs, name, backbone, short)
        objective.build(backbone, VOCAB.extended(objective.cls.symbols), torch_stream("objectives page"))
    except RequestError as error:
        return str(error)
    return None


@dataclass(frozen=True)
class Families:
    """Model families of the ``transformers`` library that were measured alike."""

    names: tuple[str, ...]
    has: frozenset[Cap]


def measured_families(checkpoints: Path) -> list[Families]:
    """The table of capabilities in docs/checkpoints.md. Raises ``RequestError`` where it is not found."""
    caps = [cap.name for cap in Cap]
    lines = checkpoints.read_text(encoding="utf-8").splitlines()
    head = next((at for at, line in enumerate(lines) if all(f"| {cap} " in line for cap in caps)), None)
    if head is None:
        raise RequestError(f"{checkpoints} has no table with the columns {', '.join(caps)}")
    columns = [cell.strip() for cell in lines[head].strip("|").split("|")]
    found = []
    for line in lines[head + 2 :]:
        if not line.startswith("|"):
            break
        cells = dict(zip(columns, (cell.strip() for cell in line.strip("|").split("|")), strict=True))
        names = re.findall(r"[\w-]+(?: \([^)]*\))?", cells["family"])
        found.append(Families(tuple(names), frozenset(cap for cap in Cap if cells[cap.name] == "yes")))
    return found
