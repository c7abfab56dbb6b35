"""What an objective may ask of a sequence model."""

from __future__ import annotations

from abc import ABC, ABCMeta, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, is_grad_enabled, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from foresee.backbones.capabilities import Attend, Cap, measure_once
from foresee.core.bounds import find_fault
from foresee.core.errors import RequestError
from foresee.core.plugins import explained
from foresee.core.registry import Registry
from foresee.core.seeds import global_stream_from
from foresee.core.spec import resolve
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INIT_STD = 0.02


class Layer(nn.Module, ABC):
    """One layer of a backbone and a final norm, apart from any backbone."""

    @abstractmethod
    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        """Trunk states [B, T, D] -> final states [B, T, D] (or [B, K, D] with ``keep``), read causally."""


class _Measured(ABCMeta):
    """Notes the options of a backbone that was just built, and measures what it can do."""

    def __call__(cls, *given: Any, **options: Any) -> Any:
        if (fault := find_fault(cls, options)) is not None:
            named: Any = cls
            raise RequestError(f"{backbones.name_of(named)}: {fault}")
        with ExitStack() as held:  # PyTorch's own initialisation follows the generator too
            for each in given:
                if isinstance(each, torch.Generator):
                    held.enter_context(global_stream_from(each.clone_state()))
            with explained(cls, f"constructing {cls.__name__}"):
                made = super().__call__(*given, **options)
        made.options = options
        if "has" not in vars(made):  # a checkpoint measures itself, before its weights are changed in kind
            with explained(cls, f"measuring {cls.__name__}"):
                made.has = measure_once((cls, *sorted(options.items())), made, made.width, made.longest)
        return made


class Backbone(nn.Module, metaclass=_Measured):
    """A sequence model between embeddings and final hidden states.

    To train and decode it needs ``width``, ``vocab_size`` and the five abstract methods, and nothing else: the other
    methods have a default that works, or refuse in one sentence. Constructor parameters by position: the ``Vocabulary``
    whose tokens it reads and scores (most need only its size; a twin's is empty) and the ``torch.Generator`` that draws
    the initial weights; by keyword: the options of its spec.

    ``keep`` is a contiguous range of positions whose final states are wanted: a last layer need compute no others.
    """

    summary: ClassVar[str]
    """One line for ``foresee list``."""

    batchable: ClassVar[bool] = False
    """Whether ``torch.func.vmap`` can compute several networks at once."""
    recordable: ClassVar[bool] = False
    """Whether a GPU may record what it computes once (``Objective.recordable``)."""

    width: int
    vocab_size: int
    options: Mapping[str, Any]
    """The keywords it was constructed with."""
    has: frozenset[Cap]
    """What it can do, measured as soon as it is constructed."""

    undecayed: frozenset[str] = frozenset()
    """Names of parameters of its own with two or more axes that weight decay must spare because they are no weight of a
    matrix product: a token table, say. ``nn.Embedding`` needs no mention. Any module may have this attribute."""

    recompute: bool = False
    """Where true, training computes each layer's inner activations anew in the backward pass instead of keeping them: a
    third more work, and memory for one layer's activations instead of all. A backbone may ignore it."""

    @abstractmethod
    def embed(self, tokens: Tensor) -> Tensor:
        """[B, T] -> [B, T, D]: token embeddings alone; positions are added by ``forward``."""

    @abstractmethod
    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        """[B, T, D] -> [B, T, D] (or [B, K, D] with ``keep``), after the final norm.

        ``attend`` is "causal", "full", or bool [B, T, T] where ``attend[b, i, j]`` says that position i reads position
        j. ``positions`` is [T] or [B, T] int64, by default 0..T-1; that given ones lie within ``longest`` is the
        caller's part. Raises ``RequestError`` on a capability it lacks or on more positions than it has.
        """

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]."""

    @abstractmethod
    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, Any]:
        """Reads a prefix causally, for decoding: [B, T, D] -> (final state of the last position [B, D], state).

        ``steps`` is how many are expected to follow: a hint for how much memory to set aside, not a limit.
        """

    @abstractmethod
    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Reads one more token: [B, D] and a state -> (its final state [B, D], new state). The given state is spent."""

    # What has a default -----------------------------------------------------------------------------------------------

    @property
    def longest(self) -> int | None:
        """How many positions it can read, or None where there is no bound."""
        return None

    @property
    def widest_mask(self) -> int | None:
        """How many positions it can read under a mask at most, or None where there is no such bound."""
        return None

    def attention(self, x: Tensor) -> Tensor | None:
        """[B, T, D] -> [L, B, H, T, T]: how much each position reads of each, by layer and head, reading causally; rows
        add up to 1. None where the backbone has no attention, or does not show it."""
        return None

    def twin(self, generator: torch.Generator) -> Self:
        """A backbone of the same shape with fresh weights and no tokens, for objectives that need a second encoder."""
        return type(self)(Vocabulary(()), generator, **self.options)

    def flops_per_token(self) -> int:
        """Parameters that take part in a matrix product for each token, head included: a training step on n tokens
        costs about ``6 * flops_per_token() * n`` floating-point operations."""
        weights = matrix_weights(self)
        tied = not any(weight.shape == (self.vocab_size, self.width) for weight in weights)
        return sum(weight.numel() for weight in weights) + tied * self.vocab_size * self.width

    def shards(self) -> list[nn.Module]:
        """The modules whose parameters several processes hold in shards and gather one module at a time, inner ones
        first; each is run by calling it. With none, every process holds the whole model."""
        return []

    @staticmethod
    def content_digest(options: Mapping[str, Any]) -> str:
        """16 hexadecimal characters of the files that its options name, so that a run of another content is another
        run; empty where it reads none."""
        return ""

    @staticmethod
    def remark(options: Mapping[str, Any]) -> str:
        """A sentence on what its options stand for that whoever trains or uses it should know; empty for none."""
        return ""

    # What builds on its layers ----------------------------------------------------------------------------------------

    def layer_list(self) -> list[nn.Module]:
        """Its layers, first to last, each of which ``forward`` calls with the states [B, T, D] that it reads. Raises
        ``RequestError`` unless overridden."""
        raise self._refusal("does not list its layers")

    @property
    def layer_count(self) -> int | None:
        """How many layers it has; None where it does not list them."""
        try:
            return len(self.layer_list())
        except RequestError:
            return None

    def trace(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [L + 1, B, T, D]: the input of every layer, positions included, then the final normed output."""
        with _inputs_noted(self.layer_list()) as inputs:
            final = self(x)
        return torch.stack([*(each.to(x.dtype) for each in inputs), final])

    def with_trunk(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        """Reads x [B, T, D] as ``forward`` does and gives (the trunk's states [B, T, D], the final states). The trunk
        is everything below the last layer: what further heads of the same depth stand on."""
        with _inputs_noted(self.layer_list()[-1:]) as inputs:
            final = self(x, attend=attend, positions=positions)
        return inputs[0].to(x.dtype), final if keep is None else final[:, keep]

    def last_layer(self, generator: torch.Generator) -> Layer:
        """A fresh layer of this kind with a final norm of its own, to stand beside the last one on the trunk's states.
        Raises ``RequestError`` where this backbone has none to give."""
        raise self._refusal("has no single layer to build a head from")

    # For export -------------------------------------------------------------------------------------------------------

    def counterpart(self) -> PreTrainedModel:
        """The model of the ``transformers`` library that computes the same, with these weights, on the CPU. Raises
        ``RequestError`` where there is none."""
        raise self._refusal("has no counterpart in the transformers library")

    def counterpart_ids(self) -> tuple[int, ...]:
        """The counterpart's token for each symbol of the vocabulary."""
        return tuple(range(self.vocab_size))

    def label_words(self) -> tuple[str, ...]:
        """The word that is read in place of each of the first symbols; none but with a checkpoint's words."""
        return ()

    def _refusal(self, what: str) -> RequestError:
        return RequestError(f"backbone {backbones.name_of(type(self))!r} {what}")


class TableBackbone(Backbone):
    """Embeds by ``token_table`` and scores by ``head``, or by the table where the two are tied (``head`` is None). A
    twin has neither."""

    token_table: nn.Parameter | None
    head: nn.Parameter | None
    undecayed = frozenset({"token_table", "position_table"})

    def embed(self, tokens: Tensor) -> Tensor:
        """[B, T] -> [B, T, D]. Raises ``RuntimeError`` on a twin."""
        if self.token_table is None:
            raise RuntimeError("this backbone is a twin: it has no token table; embed with the one it was made from")
        return functional.embedding(tokens, self.token_table)

    def logits(self, hidden: Tensor) -> Tensor:
        """[..., D] -> [..., V]. Raises ``RuntimeError`` on a twin."""
        return functional.linear(hidden, self.head_rows())

    def head_rows(self) -> nn.Parameter:
        """[V, D]: what scores the symbols. Raises ``RuntimeError`` on a twin."""
        rows = self.token_table if self.head is None else self.head
        if rows is None:
            raise RuntimeError("this backbone is a twin: it has no output head; use the one it was made from")
        return rows

    def run_layer(self, layer: Callable[..., Tensor], *inputs: object) -> Tensor:
        """``layer(*inputs)``; under ``recompute``, where gradients are wanted, only ``inputs`` are kept for them. A
        layer must draw no random numbers."""
        if not (self.recompute and is_grad_enabled()):
            return layer(*inputs)
        out: Tensor = checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
        return out


def draw_weights(generator: torch.Generator, *shape: int) -> nn.Parameter:
    """New weights from N(0, 0.02), as tables, heads and positions of GPT-2 and of Mamba's code have them."""
    return nn.Parameter(torch.empty(*shape).normal_(0.0, INIT_STD, generator=generator))


@contextmanager
def _inputs_noted(layers: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    inputs: list[Tensor] = []

    def note(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        inputs.append(given[0] if given else named["hidden_states"])

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()


def matrix_weights(model: nn.Module) -> list[nn.Parameter]:
    """The weights of a model's matrix products, which weight decay acts on: parameters of two or more axes that are
    neither an ``nn.Embedding``'s nor named in ``undecayed`` by the module that holds them."""
    spared: set[str] = set()
    for name, module in model.named_modules():
        own = getattr(module, "undecayed", ("weight",) if isinstance(module, nn.Embedding) else ())
        spared.update(f"{name}.{each}".removeprefix(".") for each in own)
    return [value for name, value in model.named_parameters() if value.dim() >= 2 and name not in spared]


def refuse_missing(needs: frozenset[Cap], objective: str, backbone: Backbone, name: str) -> None:
    """Raises ``RequestError`` where ``backbone`` lacks something the objective requires."""
    for cap in sorted(needs - backbone.has, key=lambda cap: cap.name):
        raise RequestError(
            f"objective {objective!r} needs {cap.name} ({cap.value}), which backbone {name!r} was measured not to "
            "have; a transformer with learned or rotary positions has it"
        )


backbones: Registry[Backbone] = Registry("backbone", "foresee.backbones", Backbone)


def describe_backbone(spec: str) -> str:
    """The remark on a backbone's spec, as ``Backbone.remark`` has it."""
    resolved = resolve(backbones, spec)
    return resolved.cls.remark(resolved.options)
