"""The lure: whether the first step heeds the edges that decide, a probe of a trained model without retraining.

After the Lure-Star edits of stevenybuilder/nextlat_forgetting; the score is our own.
"""

from __future__ import annotations

import torch

from foresee.core.batch import Batch
from foresee.metrics.base import Metric, Rows, Subject, metrics
from foresee.metrics.intervals import share
from foresee.metrics.passes import predict_answers

MOST = 2000
"""Test examples that are edited."""


@metrics.register("lure")
class LureProbe(Metric):
    """``heeds``: the share of examples where the decision follows an edit that changes which way is right and ignores
    a matched one that does not (``Task.lure``). A guess that the edits do not sway does so once in ``d * d``, at most.

    Absent where the task has no such edits; up to 2,000 test examples are edited.
    """

    summary = "the decision follows an edit that matters and ignores a matched one that does not"

    def measure(self, subject: Subject) -> Rows:
        rows = subject.decided[:MOST]
        lure = subject.task.lure(subject.test.rows(rows), subject.stream("lure")) if len(rows) else None
        if lure is None:
            return {}
        place = subject.test.facts["branch"][rows][:, None]

        def decided(batch: Batch) -> torch.Tensor:
            predictions = predict_answers(subject.objective, batch, subject.chunk, subject.task)
            return (predictions.gather(1, place) == batch.answers.gather(1, place))[:, 0]

        return {"heeds": share(decided(lure.critical) & decided(lure.safe), subject.problems[rows])}
