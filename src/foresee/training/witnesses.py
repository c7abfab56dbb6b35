"""What other runs say of a run: whether its control solved, whether its network can represent the decision, and which
of them would settle what is in doubt."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from foresee.core.errors import RequestError
from foresee.core.spec import resolve
from foresee.metrics.control import Circumstances, find_remedies
from foresee.metrics.verdict import SOLVED
from foresee.objectives.base import objectives
from foresee.tasks.base import control_task
from foresee.training.records import read_rows, read_spec, value_of
from foresee.training.settings import CONTROL, Settings

FREE = ("task", "objective", "plugins", "device", "steps", "test", "eval_every", "until_solved", "parent",
        "parent_steps")  # fmt: skip
"""Settings in which a control may differ from the run it vouches for: the objective is its own, plug-in or not, and
what learns on one device does on another."""

DRAWN = {"seed", "device", "precision", "steps", "test", "eval_every", "until_solved"}
"""Settings in which two draws of one training may differ; on other devices sums differ in their last bits."""

Witness = tuple[Settings, float]
"""A finished run, and its ``exact``."""


def control_solved(spec: Settings, witnesses: Sequence[Witness]) -> bool | None:
    """Whether reversed training on the same task, backbone, seed and settings solved, in no more steps; None where no
    such run is among ``witnesses``."""
    exact = [exact for other, exact in witnesses if is_control_of(other, spec)]
    return max(exact) >= SOLVED if exact else None


def is_represented(spec: Settings, witnesses: Sequence[Witness]) -> bool:
    """Whether an objective that has to look ahead solved this task on this backbone."""
    same = [other for other, exact in witnesses if exact >= SOLVED and other.task == spec.task]
    return any(other.backbone == spec.backbone and looks_ahead(other) for other in same)


def solved_elsewhere(spec: Settings, witnesses: Sequence[Witness]) -> bool:
    """Whether the same training solved in another draw: under another seed or on another device, in no more steps."""
    own, shorter = spec.model_dump(exclude=DRAWN), spec.schedule == "constant"
    return any(
        other.digest != spec.digest
        and other.model_dump(exclude=DRAWN) == own
        and (other.steps == spec.steps or (shorter and other.steps < spec.steps))
        for other, exact in witnesses
        if exact >= SOLVED
    )


def is_control_of(control: Settings, spec: Settings) -> bool:
    """Whether runs of ``control`` vouch for runs of ``spec``."""
    if control.objective.partition(":")[0] != CONTROL or control.steps > spec.steps or control.seed != spec.seed:
        return False
    if control.task != control_task(spec.task):
        return False
    return control.model_dump(exclude=set(FREE)) == spec.model_dump(exclude=set(FREE))


def looks_ahead(spec: Settings) -> bool:
    """``Objective.looks_ahead``; a plug-in that is not loaded vouches for nothing."""
    if spec.objective.partition(":")[0] not in objectives.names():
        return False
    chosen = resolve(objectives, spec.objective)
    return chosen.cls.looks_ahead(chosen.options)


def find_witnesses(folder: Path, spec: Settings | None = None) -> tuple[Witness, ...]:
    """The finished runs whose folders lie directly in ``folder``: those on one run's task, or its control's, and its
    backbone, or all that can be read. Raises ``RequestError`` where the control of that one run is damaged."""
    found: list[Witness] = []
    own = () if spec is None else (spec.task, control_task(spec.task))
    for path in folder.glob("*/spec.json"):
        try:
            text = path.read_text("utf-8")
            near = spec is None or json.dumps(spec.backbone) in text
            other = read_spec(path.parent) if near and (path.parent / "rows.jsonl").exists() else None
        except (RequestError, OSError, ValueError):
            continue
        if other is None or (spec is not None and (other.task not in own or other.backbone != spec.backbone)):
            continue
        try:
            found.append((other, value_of(read_rows(path.parent))))
        except RequestError:
            if spec is not None and is_control_of(other, spec):
                raise
    return tuple(found)


def settling_commands(spec: Settings, known: Circumstances, runs: Path) -> list[str]:
    """Commands, one after the other, that would make a failure under these circumstances conclusive: of the positive
    control, and of the run itself where both need more than they had; none where that is not what is missing. They
    train into ``runs``, where the run lies."""
    settled = remedy(spec, remedies := find_remedies(known, spec.steps))
    needed = [settled.control(), settled] if remedies else [] if known.control_solved else [settled.control()]
    return [shlex.join([*shlex.split(each.command), *runs_option(runs)]) for each in dict.fromkeys(needed)]


def runs_option(runs: Path) -> list[str]:
    """The words of a command line that look for runs there and train into it; none where it is the default."""
    return [] if runs.resolve() == Path("runs").resolve() else ["--runs", str(runs)]


def remedy(spec: Settings, remedies: Mapping[str, int]) -> Settings:
    """The run with what ``find_remedies`` says that it needs; layers where its backbone's spec names them, and then
    trained from the start, whatever weights it went on from."""
    changes: dict[str, Any] = {"steps": remedies["steps"]} if "steps" in remedies else {}
    if "layers" in remedies:
        changes |= {"parent": "", "parent_steps": 0}
        changes["backbone"] = re.sub(r"([:,]layers=)[0-9]+", rf"\g<1>{remedies['layers']}", spec.backbone)
    return spec.replace(**changes)
