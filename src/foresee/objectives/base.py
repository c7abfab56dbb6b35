"""What is trained, and how the trained thing decodes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from foresee.backbones import Backbone, Cap
from foresee.backbones.base import draw_weights as draw_weights
from foresee.core.batch import Batch
from foresee.core.bounds import Bounds as Bounds
from foresee.core.errors import RequestError
from foresee.core.registry import Registry
from foresee.core.vocabulary import Vocabulary


@dataclass(frozen=True)
class LossOut:
    """``total`` [] is what is minimised; ``parts`` add up to it; ``per_token`` [B, T] (detached) holds, at each answer
    column of the batch, the loss of predicting that token, and zero elsewhere. ``means`` [K] add up to a part that is
    a sum of means over unlike numbers of terms."""

    total: Tensor
    parts: Mapping[str, Tensor]
    per_token: Tensor
    means: Mapping[str, Tensor] = field(default_factory=dict)

    def plus(self, parts: Mapping[str, Tensor], means: Mapping[str, Tensor] | None = None) -> LossOut:
        """Adds further parts to the total."""
        total = torch.stack([self.total, *parts.values()]).sum()
        return LossOut(total, {**self.parts, **parts}, self.per_token, means or {})


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

    docs/objectives.md is made of each module's docstring (the idea, then ``Source:``, ``Loss:`` and so on, and the
    ``Drawing:`` of what is fed, predicted and dropped) and of the ``Options:`` in the class's.
    """

    summary: ClassVar[str]
    """One line for ``foresee list``."""

    needs: ClassVar[frozenset[Cap]] = frozenset()
    """Capabilities it requires of a backbone."""

    symbols: ClassVar[tuple[str, ...]] = ()
    """Symbols it adds to a task's vocabulary."""

    order: Literal["forward", "backward", "parallel"] = "forward"
    """The order in which answer tokens are decided. ``forward`` also promises that ``continue_answer`` works, which is
    what measuring the shortcut takes."""

    @classmethod
    def looks_ahead(cls, options: Mapping[str, Any]) -> bool:
        """Whether, with these options of its spec, a decision is taken in one pass and before anything that follows it
        is written, so that a task that it solves shows what the network can represent. Not so where answers are
        written from the end, the surest token first, or after a plan."""
        return cls.order == "forward"

    needs_length: bool = False
    """Whether what it writes depends on how much is to be written, as where the last place is filled in first or every
    place reads every other."""

    backbone_alone: ClassVar[bool] = True
    """Whether the scores that decoding goes by are those of the backbone alone, so that an exported backbone is the
    whole model."""

    usage: str = """\
# Token by token, from left to right.
answer = model.generate(**prompt, max_new_tokens={length}, do_sample=False{end})[:, prompt.input_ids.shape[1] :]"""
    """How the exported ``model`` writes an ``answer`` [1, length] to ``prompt``: Python for its card, where ``tokens``
    are those of the vocabulary and names in braces are filled in. Empty where the model alone cannot."""

    batchable: bool = False
    """Whether ``torch.func.vmap`` can compute the loss of several networks at once: it reads no values of tensors, and
    draws from ``rng`` alone, by functions that take it as ``generator``."""

    recordable: bool = False
    """Whether its loss is the same computation at every step, so that a GPU may record it once: it reads no values of
    tensors, keeps nothing from one step to the next, and draws random numbers from ``rng`` alone, on its device."""

    extra_positions: int = 0
    """How many positions it reads beyond a prompt and its answer."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        needs: Any = cls.needs
        if not isinstance(needs, frozenset | set) or not all(isinstance(each, Cap) for each in needs):
            raise RequestError(f"{cls.__name__}: needs must be a set of Cap members (Cap.LOOKAHEAD), not {needs!r}")
        cls.recordable = vars(cls).get("recordable", False)  # not inherited: it may compute otherwise

    def __init__(self, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.vocab = vocab

    def begin_step(self, step: int, steps: int) -> None:
        """Called before training step ``step`` of ``steps``, from 0: for what changes as training goes on, such as the
        curriculum of multi-token. A run that continues a finished one begins anew, as its learning rate does. What is
        kept of it must follow from these two numbers, so that a run can resume."""

    @abstractmethod
    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """Training loss. ``rng`` is the only source of randomness; ``batch.facts`` is never read."""

    def count_terms(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        """Over how many terms [] each part of ``loss`` averages, for parts that do not average over answer tokens; [K],
        each of its ``means``.

        Draws from ``rng`` what ``loss`` draws. A batch that is read in several goes is weighted by these numbers.
        """
        return {}

    @abstractmethod
    def generate(self, prompt: Tensor, n: int) -> Tensor:
        """Greedy answers, [B, P] -> [B, n], always in the task's own order."""

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        """Answers drawn token by token, [B, P] -> [B, n] in the task's own order, each token with the probability that
        decoding gives it at this ``temperature`` (above 0); None where this objective has no such way to draw. ``rng``
        may lie on any device."""
        return None

    def continue_answer(self, prompt: Tensor, begun: Tensor, n: int) -> Tensor:
        """The next ``n`` tokens [B, n] of an answer that begins with ``begun`` [B, A'], after ``prompt`` [B, P]. Only
        for objectives whose order is ``forward``; one that puts inputs between prompt and answer overrides it."""
        return self.generate(torch.cat((prompt, begun), 1), n)

    @abstractmethod
    def forced(self, batch: Batch) -> Tensor | None:
        """[B, A, V] log-probabilities of each answer token given the true ones that come before it in this objective's
        order, rows in the task's own order; None where this objective cannot be forced. Uniform batches only."""

    def trace(self, prompt: Tensor, n: int) -> Trace | None:
        """How ``generate`` comes to its answer of ``n`` tokens, at least one, to one prompt [1, P], for an objective
        that cannot be forced; None where it can be (``forced`` tells more), or where it does not say."""
        return None


objectives: Registry[Objective] = Registry("objective", "foresee.objectives", Objective)
