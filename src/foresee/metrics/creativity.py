"""Whether what is invented is right, new, and not the same thing over and over."""

from __future__ import annotations

import numpy
import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.metrics.base import Metric, Rows, Subject, metrics
from foresee.metrics.intervals import rate
from foresee.tasks.conditioning import Conditioned

GENERATIONS, TEMPERATURE = 1024, 1.0
"""The paper's (3,000 on sibling discovery)."""


@metrics.register("creativity")
class Creativity(Metric):
    """Algorithmic creativity (Nagarajan et al. 2025, "Roll the dice", arXiv 2504.15266) on open-ended tasks.

    Of T generated answers, ``creativity`` is the share that is right, not among the training examples, and left when
    duplicates are dropped: |{different answers that are right and new}| / T. ``diversity`` is the same without the
    training examples. Beside them stand the factors, each as a share of what the one before it left, so that their
    product is ``creativity``: ``valid`` (right), ``novel`` (not trained on), ``distinct`` (different). One that is a
    share of nothing is absent.

    Answers are told apart by the task's ``identity``, the canonical form, both against training examples and against
    each other; the paper's released evaluator tells duplicates apart by raw text on three of its four tasks, which
    makes creativity larger.

    With seed-conditioning the first T test prompts, whose seeds are fresh, are answered greedily. Without it all
    prompts are one, and T answers are drawn at ``TEMPERATURE`` from the whole vocabulary (the paper's GPT-2 runs keep
    the 50 likeliest symbols); the rows are absent where the objective has no way to draw. T is ``GENERATIONS``, or the
    number of test examples where that is smaller. Creativity falls as T grows: compare it at one T only, and on equal
    training examples. Intervals take answers as independent, which different ones are not.
    """

    summary = "open-ended tasks: answers that are right, not trained on, and different from each other"

    def measure(self, subject: Subject) -> Rows:
        # A file may hold lines of two kinds, such as facts of a graph, which ask for nothing that is invented.
        if not subject.task.open_ended or not subject.test.layout.uniform:
            return {}
        batch = subject.test.rows(slice(0, GENERATIONS))
        predictions = self._invent(subject, batch)
        if predictions is None:
            return {}
        pairs = zip(batch.prompts.tolist(), predictions.tolist(), strict=True)
        valid = torch.tensor([subject.task.verify(prompt, answer) for prompt, answer in pairs])
        total, right = len(batch), int(valid.sum())
        rows: Rows = {"valid": rate(right, total)}
        kept = Batch.of(torch.cat([batch.prompts, predictions], 1).cpu()[valid], batch.layout.first, batch.layout.width)
        found = subject.task.identity(kept)
        rows["diversity"] = rate(len(numpy.unique(found)), total)
        if subject.trained is None:
            return rows
        new = found[~numpy.isin(found, subject.trained())]
        different = len(numpy.unique(new))
        if right:
            rows["novel"] = rate(len(new), right)
        if len(new):
            rows["distinct"] = rate(different, len(new))
        rows["creativity"] = rate(different, total)
        return rows

    def _invent(self, subject: Subject, batch: Batch) -> Tensor | None:
        """[T, A] answers to the prompts of a batch, or None where the objective cannot draw any."""
        if isinstance(subject.task, Conditioned):
            return subject.predictions[: len(batch)]
        pieces: list[Tensor] = []
        stream = subject.stream("creativity")
        for piece in subject.chunks(batch):
            with torch.inference_mode():
                drawn = subject.objective.sample(piece.prompts, piece.layout.width, TEMPERATURE, stream)
            if drawn is None:
                return None
            pieces.append(drawn)
        return torch.cat(pieces)
