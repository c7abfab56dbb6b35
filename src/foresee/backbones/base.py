"""What an objective may ask of a sequence model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from foresee.core.errors import RequestError
from foresee.core.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from foresee.core.vocabulary import Vocabulary

Attend = Literal["causal", "full"] | Tensor


class Cap(Enum):
    """A capability of a backbone, measured when it is built (``measure.py``), never declared."""

    LOOKAHEAD = "attend='full' lets a position read what comes after it"
    VISIBILITY = "a bool mask [B, T, T] decides which positions each position reads"
    POSITIONS = "positions may be given, so that a token's place is not its index"


class Layer(nn.Module, ABC):
    """One layer of a backbone and a final norm, apart from any backbone."""

    @abstractmethod
    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        """Trunk states [B, T, D] -> final states [B, T, D] (or [B, K, D] with ``keep``), read causally."""


class Backbone(nn.Module, ABC):
    """A sequence model between embeddings and final hidden states.

    Constructor parameters by position: the ``Vocabulary`` whose tokens it reads and scores (most need only its size; a
    pretrained model finds its own rows for the symbols) and the ``torch.Generator`` that draws the initial weights; by
    keyword: the options of its spec.

    ``keep`` in ``forward`` and elsewhere is a contiguous range of positions whose final states are wanted: the last
    layer computes queries, projections and its MLP for those alone.
    """

    summary: ClassVar[str]
    """One line for ``foresee list``."""

    width: int
    vocab_size: int
    has: frozenset[Cap]

    recompute: bool = False
    """Where true, training computes each layer's inner activations anew in the backward pass instead of keeping them
    (``recompute.py``): a third more work, and memory for one layer's activations instead of all."""

    @abstractmethod
    def embed(self, tokens: Tensor) -> Tensor:
        """[B, T] -> [B, T, D]: token embeddings alone; positions are added by ``forward``."""

    @abstractmethod
    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D] (or [B, K, D] with ``keep``), after the final norm.

        ``attend`` is "causal", "full", or bool [B, T, T] where ``attend[b, i, j]`` says that position i reads position
        j. ``positions`` is [T] or [B, T] int64, by default 0..T-1. Raises ``RequestError`` on a capability it lacks or
        on more positions than it has.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""

    @abstractmethod
    def start(self, x: Tensor, room: int = 16) -> tuple[Tensor, Any]:
        """Reads a prefix causally, for decoding: [B, T, D] -> (final state of the last position [B, D], state).

        ``room`` is how many steps are expected: a hint for how much memory to set aside, not a limit.
        """

    @abstractmethod
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Reads one more token: [B, D] and a state -> (its final state [B, D], new state). The given state is spent."""

    @abstractmethod
    def fork(self, state: Any, n: int) -> Any:
        """A state for ``n`` continuations of every row, row-major: [B, ...] -> [B * n, ...]."""

    @abstractmethod
    def trace(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [L + 1, B, T, D]: the input of every layer, positions included, then the final normed output."""

    def attention(self, x: Tensor) -> Tensor | None:
        """[B, T, D] -> [L, B, H, T, T]: how much each position reads of each, by layer and head, reading causally; rows
        add up to 1. None where the backbone has no attention, or does not show it."""
        return None

    @abstractmethod
    def twin(self, generator: torch.Generator) -> Backbone:
        """A backbone of the same shape with fresh weights and no token table of its own (``embed`` and ``logits`` raise
        on it), for objectives that need a second encoder."""

    def with_trunk(self, x: Tensor, *, keep: slice | None = None) -> tuple[Tensor, Tensor]:
        """Reads x [B, T, D] causally and gives (the trunk's states [B, T, D], the final states as ``forward`` does).

        The trunk is everything below the last layer: what further heads of the same depth stand on
        (research/objectives.md section 4).
        """
        states = self.trace(x)
        return states[-2], states[-1] if keep is None else states[-1, :, keep]

    def last_layer(self, generator: torch.Generator) -> Layer:
        """A fresh layer of this kind with a final norm of its own, to stand beside the last one on the trunk's states.

        Raises ``RequestError`` where this backbone has none to give.
        """
        raise RequestError(f"backbone {backbones.name_of(type(self))!r} has no single layer to build a head from")

    def shards(self) -> list[nn.Module]:
        """The modules whose parameters several processes hold in shards and gather one module at a time, inner ones
        first; each is run by calling it. None unless overridden: every process then holds the whole model."""
        return []

    @abstractmethod
    def flops_per_token(self) -> int:
        """Parameters that take part in a matrix product for each token, head included: a training step on n tokens
        costs about ``6 * flops_per_token() * n`` floating-point operations."""

    @property
    def longest(self) -> int | None:
        """How many positions it can read, or None where there is no bound."""
        return None

    def counterpart(self) -> PreTrainedModel:
        """The model of the ``transformers`` library that computes the same, with these weights, on the CPU.

        Raises ``RequestError`` where there is none: only a backbone that has one overrides this.
        """
        raise RequestError(f"backbone {backbones.name_of(type(self))!r} has no counterpart in the transformers library")

    def counterpart_ids(self) -> tuple[int, ...]:
        """The counterpart's token for each symbol of the vocabulary."""
        return tuple(range(self.vocab_size))

    def counterpart_tokenizer(self, vocab: Vocabulary) -> PreTrainedTokenizerBase:
        """The tokenizer that reads the task's text form into the counterpart's tokens."""
        # Not at the top: reading the library takes a second, and only an export needs it.
        from foresee.backbones.counterparts.words import word_tokenizer

        return word_tokenizer(vocab)

    @staticmethod
    def content_digest(options: Mapping[str, Any]) -> str:
        """16 hexadecimal characters of the files that its options name, so that a run of another content is another
        run; empty where it reads none."""
        return ""


backbones: Registry[Backbone] = Registry("backbone", "foresee.backbones")
