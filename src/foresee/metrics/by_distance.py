"""Accuracy by planning distance: how it falls with how far ahead a decision lies."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.metrics.accuracy import right_answers
from foresee.metrics.base import Metric, Row, Rows, Subject, metrics
from foresee.metrics.branch import select_branch
from foresee.metrics.intervals import share


def share_by_distance(flags: Tensor, distance: Tensor, problems: Tensor) -> list[Row]:
    """[B] bool, distances and problems -> a rate for each distance that occurs, ascending, the distance beside it."""
    here = [(each, distance == each) for each in torch.unique(distance).tolist()]
    return [{"distance": each, **share(flags[rows], problems[rows])} for each, rows in here]


@metrics.register("by-distance")
class ByDistance(Metric):
    """``exact_by_distance`` and ``branch_by_distance``: ``exact`` and ``branch`` on the examples of each ``distance``.

    A list holds one rate a distance that occurs, in ascending order; its key ``distance`` says which. Both are absent
    where the task gives no fact ``distance`` [B], and ``branch_by_distance`` where ``branch`` is; rows that hold no
    decision are left out of it. After the curves over
    planning distance of Ye et al. (2024, MGDM).
    """

    summary = "whole answers and the decision, apart for each planning distance"

    def measure(self, subject: Subject) -> Rows:
        distance = subject.test.facts.get("distance")
        if distance is None:
            return {}
        right = right_answers(subject.task, subject.test, subject.predictions)
        rows: Rows = {"exact_by_distance": share_by_distance(right, distance, subject.problems)}
        if subject.scores is not None and "branch" in subject.test.facts:
            chosen, decided = select_branch(subject.scores.right, subject.test), subject.decided
            rows["branch_by_distance"] = share_by_distance(chosen, distance[decided], subject.problems[decided])
        return rows
