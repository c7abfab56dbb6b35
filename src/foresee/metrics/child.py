"""Whether what is written freely is a walk on the graph at all."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.core.batch import NOTHING
from foresee.metrics.base import Metric, Rows, Subject, metrics
from foresee.metrics.intervals import share


def are_edges(path: Tensor, arms: Tensor) -> Tensor:
    """[B, A] nodes and [B, d, l] arms -> [B, A - 1] bool: which steps follow an edge, away from the centre."""
    parents, children = arms[:, :, :-1].flatten(1), arms[:, :, 1:].flatten(1)
    leaves = path[:, :-1, None] == parents[:, None]
    reaches = path[:, 1:, None] == children[:, None]
    return (leaves & reaches).any(-1)


@metrics.register("child")
class Child(Metric):
    """``child``: the share of free-running transitions, over all rows and steps, that are edges of the graph.

    A transition leads from one written token to the next; into a task's ``end`` symbol there is none. Absent where the
    task gives no arms or nothing written has two tokens. Transitions of one problem are a cluster.
    """

    summary = "free-running steps that follow an edge of the graph"

    def measure(self, subject: Subject) -> Rows:
        arms, predictions = subject.test.facts.get("arms"), subject.predictions
        if arms is None:
            return {}
        made = predictions[:, 1:] != NOTHING
        if subject.task.end is not None:
            made &= predictions[:, 1:] != subject.task.end
        if not made.any():
            return {}
        pieces = [slice(at, at + subject.chunk) for at in range(0, len(arms), subject.chunk)]
        edges = torch.cat([are_edges(predictions[piece], arms[piece]) for piece in pieces])
        return {"child": share(edges[made], subject.problems[:, None].expand_as(made)[made])}
