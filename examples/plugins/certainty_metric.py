"""A metric in one file: how certain a trained model is of each answer token, right or wrong.

    foresee train path-star:degree=2,length=5,nodes=50 --steps 200 --plugin examples/plugins/certainty_metric.py

A model that has learned the shortcut alone is certain of every token but the decision, where it wavers between the
arms: ``entropy`` is near ln(2) there and near 0 elsewhere.
"""

from __future__ import annotations

from typing import ClassVar

import torch

from foresee.metrics import Metric, Rows, Subject, mean, metrics


@metrics.register("certainty")
class Certainty(Metric):
    """``entropy``: the mean entropy, in nats, of the distribution of each answer token given the true ones before it.

    A list row, one entry an answer position; absent where the objective cannot be forced or answers differ in length.
    """

    summary: ClassVar[str] = "entropy of each answer token's distribution, the truth before it revealed"

    def measure(self, subject: Subject) -> Rows:
        """One row a position, of all test examples."""
        if not subject.test.layout.uniform:
            return {}
        pieces = [-(log_probs.exp() * log_probs).sum(-1) for _, log_probs in subject.distributions()]  # [B, A] each
        if not pieces:
            return {}
        entropy = torch.cat(pieces)
        return {"entropy": [mean(of_place, subject.problems) for of_place in entropy.unbind(1)]}
