"""The page of ``foresee diagnose``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foresee.core import files
from foresee.core.spec import brief
from foresee.experiments.diagnose import decisions
from foresee.experiments.diagnose.plan import FORWARD
from foresee.experiments.diagnose.result import Diagnosis
from foresee.experiments.diagnose.verdict import COMPOUNDING, COSTLY, NONE_NEEDED, OPEN, TOO_SMALL
from foresee.metrics.verdict import SOLVED
from foresee.objectives.base import objectives
from foresee.report.rendering import count_of, render_page
from foresee.report.style import assign_marks
from foresee.tasks.base import tasks
from foresee.training.settings import CONTROL

TITLE = "Will teacher forcing cheat on this data?"

PLAIN = {
    OPEN: "Next-token training would cheat on this data: it learns to read each token off those shown before it, and "
    "leaves a decision that can be learned unlearned.",
    COMPOUNDING: "Next-token training learns every step, but each is a little unsure, and written freely the errors "
    "add up.",
    TOO_SMALL: "This budget is too small to tell: what is left to learn has not been learned by anything yet, or is "
    "being learned still.",
    COSTLY: "Next-token training learns this data, but needs more samples than an order that works things out first.",
    NONE_NEEDED: "Next-token training is not cheating on this data: what can be learned here, it learns.",
}
TONES = {OPEN: "bad", COMPOUNDING: "open", TOO_SMALL: "open", COSTLY: "good", NONE_NEEDED: "good"}


def write_page(found: Diagnosis, out: Path) -> Path:
    """Writes the page and returns ``out``."""
    files.write_text(out, page(found))
    return out


def page(found: Diagnosis) -> str:
    """The whole page."""
    labels = {each.objective: brief(objectives, each.objective) for each in found.learned}
    curves = [
        (labels[each.objective], seed, step, "exact", value)
        for each in found.learned for seed, curve in enumerate(each.curves) for step, value in curve
    ]  # fmt: skip
    accuracy = [
        ("next-token", 0, kind, row["position"] + 1, row[key]["value"], *_ends(row[key]))
        for row in found.accuracy for kind, key in (("forced", "forced"), ("free-running", "free"))
    ]  # fmt: skip
    held_out = count_of(found.held_out, "held-out row")
    if found.problems != found.held_out:
        held_out += f" of {count_of(found.problems, 'problem')}"
    return render_page(
        "diagnosis.html.j2", TITLE, found=found, held_out=held_out,
        decides=bool(found.decision_positions) or found.verdict.name == OPEN, labels=labels,
        tone=TONES[found.verdict.name], plain=PLAIN[found.verdict.name], marks=assign_marks(list(labels)),
        places=[int(each["position"]) + 1 for each in found.decision_positions], rule=decisions, solved=SOLVED,
        OPEN=OPEN, about=brief(tasks, found.question.task), command=_command(found),
        control=next(each for each in found.learned if each.objective == CONTROL),
        forward=next(each for each in found.learned if each.objective == FORWARD),
        curves=pd.DataFrame(curves, columns=["objective", "seed", "step", "measure", "value"]),
        accuracy=pd.DataFrame(accuracy, columns=["objective", "seed", "kind", "position", "value", "low", "high"]),
        losses=_losses(found.positions, "position"), from_end=_losses(found.from_end, "from_end"),
        by_label={labels[name]: mark for name, mark in assign_marks(list(labels)).items()},
    )  # fmt: skip


def _losses(rows: Sequence[Mapping[str, Any]], key: str) -> pd.DataFrame:
    found = [
        (kind, row[key] + 1, *(round(each, 5) for each in (row[kind]["value"], *_ends(row[kind]))))
        for row in rows for kind in ("shown", "hidden")
    ]  # fmt: skip
    return pd.DataFrame(found, columns=["kind", "position", "value", "low", "high"])


def _ends(row: Mapping[str, Any]) -> tuple[float, float]:
    """The ends of its interval; its value where one problem gave it none."""
    return row.get("low", row["value"]), row.get("high", row["value"])


def _command(found: Diagnosis) -> str:
    """A command line that asks the same question of the same task spec."""
    asked = found.question
    words = ["foresee", "diagnose", asked.task, "--backbone", asked.backbone]
    words += ["--objectives", ",".join(asked.objectives[3:])] if len(asked.objectives) > 3 else []
    words += ["--seeds", str(asked.seeds), "--batch", str(asked.batch), "--lr", f"{asked.lr:g}"]
    return shlex.join([*words, "--steps", str(found.plan.steps)])
