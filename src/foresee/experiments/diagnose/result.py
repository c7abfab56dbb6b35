"""A diagnosis as a whole, and its JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from foresee.datasets.inspection import DataSummary
from foresee.experiments.compare import steps_to_solve
from foresee.experiments.diagnose.evidence import Evidence
from foresee.experiments.diagnose.examples import Shown
from foresee.experiments.diagnose.interval import ratio, share
from foresee.experiments.diagnose.measured import Family
from foresee.experiments.diagnose.plan import Plan
from foresee.experiments.diagnose.question import Question
from foresee.experiments.diagnose.tables import Row
from foresee.experiments.diagnose.verdict import Verdict
from foresee.metrics.intervals import rate


@dataclass(frozen=True)
class Learned:
    """What one objective came to. Rows are over held-out examples and seeds; ``None`` where it has no such number."""

    objective: str
    kind: str
    exact: Row
    exact_by_seed: list[float]
    nll: Row | None
    """Nats a whole response."""
    decisions: Row | None
    """Accuracy, written freely, on next-token's decision tokens; None where there are none."""
    steps_to_solve: list[int | None]
    seconds: list[float]
    """Of training, by seed."""
    curves: list[list[tuple[int, float]]]
    """``exact`` on the watched examples by step, a list a seed."""
    runs: list[str]


@dataclass(frozen=True)
class Diagnosis:
    """Everything that the page shows."""

    folder: Path
    question: Question
    plan: Plan
    verdict: Verdict
    evidence: list[Evidence]
    learned: list[Learned]
    absorbed: Row | None
    loss_shown: Row | None
    loss_hidden: Row | None
    positions: list[Row]
    from_end: list[Row]
    by_origin: list[Row]
    by_shape: list[Row]
    decision_positions: list[Row]
    accuracy: list[Row]
    """By position: ``forced`` and ``free`` of next-token."""
    examples: list[Shown]
    data: DataSummary | None
    held_out: int
    seconds: float

    def json(self) -> dict[str, Any]:
        """The object that ``--json`` prints and ``diagnosis.json`` holds."""
        return {
            "dir": str(self.folder), "question": self.question.json(), "plan": self.plan.json(),
            "verdict": self.verdict.json(), "evidence": [each.json() for each in self.evidence],
            "objectives": [asdict(each) for each in self.learned], "absorbed": self.absorbed,
            "loss_shown": self.loss_shown, "loss_hidden": self.loss_hidden, "positions": self.positions,
            "from_end": self.from_end, "by_origin": self.by_origin, "by_shape": self.by_shape,
            "decision_positions": self.decision_positions, "accuracy": self.accuracy,
            "examples": [asdict(each) for each in self.examples],
            "data": None if self.data is None else self.data.json(),
            "held_out": self.held_out, "seconds": round(self.seconds, 1),
        }  # fmt: skip


def learned_of(found: Mapping[str, Family], decisions: Tensor) -> list[Learned]:
    """A row for each objective; ``decisions`` [E, A] bool are the decision tokens of most next-token seeds."""
    rows = []
    for name, family in found.items():
        exact = torch.stack([each.exact for each in family.measured]).float()
        free = torch.stack([each.free for each in family.measured]).float()
        ones = torch.ones(exact.shape[1])
        overall = share(exact, ones)
        assert overall is not None
        # Wilson's interval has width at 0 and 1 too.
        alone = rate(round(float(exact.mean(0).sum())), exact.shape[1])
        overall |= {"low": min(overall["low"], alone["low"]), "high": max(overall["high"], alone["high"])}
        rows.append(
            Learned(
                objective=name,
                kind=family.kind,
                exact=overall,
                exact_by_seed=[float(each) for each in exact.mean(1)],
                nll=None if family.kind == "none" else ratio(family.nll, ones),
                decisions=share((free * decisions).sum(2), decisions.float().sum(1)),
                steps_to_solve=[steps_to_solve(run) for run in family.runs],
                seconds=[run.seconds for run in family.runs],
                curves=[[(line["step"], line["eval"]["exact"]) for line in run.metrics] for run in family.runs],
                runs=[run.spec.digest for run in family.runs],
            )
        )
    return rows
