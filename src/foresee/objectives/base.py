"""What is trained, and how the trained thing decodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Batch
from foresee.core.registry import Registry
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.diagram import Diagram
from foresee.objectives.explanation import Explanation


@dataclass(frozen=True)
class LossOut:
    """``total`` [] is what is minimised; ``parts`` add up to it; ``per_token`` [B, T] (detached) holds, at each answer
    column of the batch, the loss of predicting that token, and zero elsewhere."""

    total: Tensor
    parts: Mapping[str, Tensor]
    per_token: Tensor


@dataclass(frozen=True)
class Trace:
    """How one answer of n tokens came about, in the task's own order."""

    log_probs: Tensor
    """[n, V], of each place in the pass that decided it."""
    passes: Tensor
    """[n], the number of that pass, from 1."""


class Objective(nn.Module, ABC):
    """A training loss on a backbone and the decoding that goes with it.

    Constructor parameters by position: the ``Backbone``, the ``Vocabulary`` (its own ``symbols`` already in it) and the
    ``torch.Generator`` for weights of its own; by keyword: the options of its spec.
    """

    summary: ClassVar[str]
    """One line for ``foresee list``."""

    diagram: ClassVar[Diagram | None] = None
    """What is fed, predicted and dropped, as docs/objectives.md draws it. One that is inherited says nothing."""

    explanation: ClassVar[Explanation | None] = None
    """What docs/objectives.md says of it. One that is inherited says nothing."""

    needs: ClassVar[frozenset[Cap]] = frozenset()
    """Capabilities it requires of a backbone."""

    symbols: ClassVar[tuple[str, ...]] = ()
    """Symbols it adds to a task's vocabulary."""

    order: ClassVar[Literal["forward", "backward", "parallel"]] = "forward"
    """The order in which answer tokens are decided. ``forward`` also promises that ``continued`` takes up an answer
    that is begun, which is what measuring the shortcut takes."""

    backbone_alone: ClassVar[bool] = True
    """Whether the scores that decoding goes by are those of the backbone alone, so that an exported backbone is the
    whole model."""

    extra_positions: int = 0
    """How many positions it reads beyond a prompt and its answer."""

    def __init__(self, backbone: Backbone, vocab: Vocabulary) -> None:
        super().__init__()
        self.backbone = backbone
        self.vocab = vocab

    @abstractmethod
    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """Training loss. ``rng`` is the only source of randomness; ``batch.facts`` is never read."""

    @abstractmethod
    def generate(self, prompt: Tensor, n: int) -> Tensor:
        """Greedy answers, [B, P] -> [B, n], always in the task's own order."""

    def sampled(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        """Answers drawn token by token, [B, P] -> [B, n] in the task's own order, each token with the probability that
        decoding gives it at this ``temperature`` (above 0); None where this objective has no such way to draw. ``rng``
        may lie on any device."""
        return None

    def continued(self, prompt: Tensor, begun: Tensor, n: int) -> Tensor:
        """The next ``n`` tokens [B, n] of an answer that begins with ``begun`` [B, A'], after ``prompt`` [B, P]. Only
        for objectives whose order is ``forward``; one that writes something between prompt and answer overrides it."""
        return self.generate(torch.cat((prompt, begun), 1), n)

    @abstractmethod
    def forced(self, batch: Batch) -> Tensor | None:
        """[B, A, V] log-probabilities of each answer token given the true ones that come before it in this objective's
        order, rows in the task's own order; None where this objective cannot be forced. Uniform batches only."""

    def traced(self, prompt: Tensor, n: int) -> Trace | None:
        """How ``generate`` comes to its answer of ``n`` tokens, at least one, to one prompt [1, P], for an objective
        that cannot be forced; None where it can be (``forced`` tells more), or where it does not say."""
        return None


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """[..., V] and [...] -> [...] in float32."""
    flat = functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


objectives: Registry[Objective] = Registry("objective", "foresee.objectives")
