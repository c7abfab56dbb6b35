"""The commands that would settle an inconclusive verdict."""

from __future__ import annotations

import re
from typing import Any

from foresee.metrics.control import Circumstances, find_remedies
from foresee.training.settings import Settings


def settling_commands(spec: Settings, known: Circumstances) -> list[str]:
    """Commands, one after the other, that would make a failure under these circumstances conclusive: of the positive
    control, and of the run itself where both need more than they had."""
    remedies = find_remedies(known, spec.steps)
    changes: dict[str, Any] = {name: value for name, value in remedies.items() if name == "steps"}
    if "layers" in remedies:
        changes["backbone"] = re.sub(r"([:,]layers=)[0-9]+", rf"\g<1>{remedies['layers']}", spec.backbone)
    settled = spec.replace(**changes)
    runs = dict.fromkeys([settled.control(), *([settled] if changes else [])])
    return [each.command for each in runs]
