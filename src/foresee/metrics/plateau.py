"""How far the forced loss is from that of a perfect shortcut with a blind decision."""

from __future__ import annotations

import math

from foresee.metrics.base import Metric, Row, Rows, Subject, metrics


@metrics.register("plateau")
class Plateau(Metric):
    """``plateau``: forced loss per answer token in nats beside the task's reference, ``ln(d)/l`` on path-star.

    Training that has learned the shortcut and nothing else rests at the reference. The row has no
    ``reference`` where the task defines none; it is absent where the objective cannot be forced or its loss is not
    finite.
    """

    summary = "forced loss beside the loss of a perfect shortcut with a blind decision"

    def measure(self, subject: Subject) -> Rows:
        if subject.scores is None:
            return {}
        value = subject.scores.mean_loss()
        if not math.isfinite(value):
            return {}
        row: Row = {"value": value, "n": len(subject.test)}
        if subject.task.plateau is not None:
            row["reference"] = subject.task.plateau
        return {"plateau": row}
