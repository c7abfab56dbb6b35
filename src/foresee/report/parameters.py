"""How large a run's model is, without reading it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foresee.core.errors import RequestError
from foresee.core.spec import parse

_LONGEST_HEADER = 50_000_000


def parameters_of(environment: Mapping[str, Any], model: Path) -> int | None:
    """How many numbers were trained: what the run recorded, or those of the saved model by the shapes in its header (no
    weight is read). None where neither is there. Raises ``RequestError`` where the header is damaged."""
    recorded = environment.get("parameters")
    if isinstance(recorded, int) and not isinstance(recorded, bool):
        return recorded
    try:
        with model.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length)) if length <= _LONGEST_HEADER else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RequestError(f"{model}: its header cannot be read: {error}") from None
    if not isinstance(header, dict):
        raise RequestError(f"{model}: its header cannot be read")
    shapes = [each.get("shape") for name, each in header.items() if name != "__metadata__" and isinstance(each, dict)]
    if not all(isinstance(shape, list) and all(isinstance(size, int) for size in shape) for shape in shapes):
        raise RequestError(f"{model}: its header holds no shapes")
    return sum(math.prod(shape) for shape in shapes if shape is not None)


MOST_BUILT = 30
"""Models of a page that are built to be counted."""
SMALL = 3_000_000
"""Numbers, about, up to which a model is built to be counted: that takes a tenth of a second."""


class Counter:
    """Counts models that their run's folder does not tell the size of, as committed runs without weights, by building
    small ones; each is built once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], int | None] = {}

    def count(self, task: str, objective: str, backbone: str) -> int | None:
        """None where the model is a checkpoint, large, or of a plug-in that is not loaded, or too many were built."""
        key = (task, objective, backbone)
        if key not in self._known:
            built = len(self._known) < MOST_BUILT and _is_small(backbone)
            self._known[key] = _built(*key) if built else None
        return self._known[key]


def _is_small(backbone: str) -> bool:
    """By the numbers of a Transformer, of which other backbones from scratch have about as many."""
    try:
        name, options = parse(backbone)
        return name != "hf" and 12 * int(options["layers"]) * int(options["width"]) ** 2 <= SMALL
    except (RequestError, KeyError, ValueError):
        return False


def _built(task: str, objective: str, backbone: str) -> int | None:
    from foresee.training.settings import Settings

    try:
        spec = Settings.of(task, objective, backbone)
        model = spec.build_objective(spec.build_task())
    except RequestError:
        return None
    return sum(each.numel() for each in model.parameters() if each.requires_grad)
