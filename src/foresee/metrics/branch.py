"""The one real decision: whether the branch token is known when it must be written."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.metrics.base import Metric, Rows, Subject, metrics, number_problems
from foresee.metrics.intervals import mean, share
from foresee.metrics.passes import score_answers


def select_branch(values: Tensor, batch: Batch) -> Tensor:
    """[B, A] -> [rows that hold a decision]: the entry of each at its branch token."""
    branch = batch.facts["branch"]
    decided = branch >= 0
    return values[decided].gather(1, branch[decided, None]).squeeze(1)


@metrics.register("branch")
class Branch(Metric):
    """``branch``, ``margin`` and ``train_branch``; all absent where the task has no branch token or the objective
    cannot be forced. Rows that hold no decision (the fact ``branch`` is negative) are left out.

    * ``branch``: the branch token has the largest logit given the true prefix.
    * ``margin``: mean of the branch token's logit minus the best other one's, in nats; absent where it is not finite.
    * ``train_branch``: ``branch`` on training examples; absent where there are none to compare with.

    The prefix is what the objective sees before the branch token in its own order. For a ``forward`` objective that is
    the answer's earlier tokens, and the token is a decision. A ``backward`` objective sees the later ones, so its
    branch token is the parent of a known node, a look-up: its ``branch`` shows that the look-up works, not that
    anything was planned.
    """

    summary = "the decision token given the true prefix: on test and training examples, and its margin"

    def measure(self, subject: Subject) -> Rows:
        scores, problems = subject.scores, subject.problems[subject.decided]
        if scores is None or not len(problems):
            return {}
        rows: Rows = {"branch": share(select_branch(scores.right, subject.test), problems)}
        margins = select_branch(scores.margin, subject.test)
        if bool(torch.isfinite(margins).all()):
            rows["margin"] = mean(margins, problems)
        train = subject.train
        if train is not None and len(train) and "branch" in train.facts:
            learned = score_answers(subject.objective, train, subject.chunk)
            decided = train.facts["branch"] >= 0
            if learned is not None and bool(decided.any()):
                problems = number_problems(subject.task, train)[decided]
                rows["train_branch"] = share(select_branch(learned.right, train), problems)
        return rows
