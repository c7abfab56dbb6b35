"""Calling a model of the transformers library: what it is given, what it refuses, and what lies between its layers."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from foresee.backbones.base import Attend, Cap
from foresee.backbones.hf_loading import quiet
from foresee.backbones.hf_masks import capabilities_used, mask_and_positions
from foresee.core.errors import RequestError

REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError, NotImplementedError)
"""What the library's models raise on what they cannot do."""

WINDOWS = ("sliding_window", "attention_window_size", "attention_chunk_size", "window_size")
"""What configurations call the number of tokens that local attention reads."""


class Reader:
    """Reads with ``body``, a model without embedding table and head; ``whose`` names it in messages."""

    def __init__(self, body: Any, whose: str) -> None:
        self.body, self.whose = body, whose
        self._taken = inspect.signature(body.forward).parameters.keys()
        self._windows = [
            size for name in WINDOWS if isinstance(size := getattr(body.config, name, None), int) and size > 0
        ]
        self._recomputing = False

    @property
    def dtype(self) -> torch.dtype:
        """That of the weights."""
        dtype: torch.dtype = self.body.dtype
        return dtype

    def __call__(self, x: Tensor, **inputs: Tensor) -> Tensor:
        """[B, T, D] -> [B, T, D] after the final norm, causally unless a mask among ``inputs`` says otherwise. Takes
        and gives the dtype of x, whatever that of the weights."""
        hidden: Tensor = self.body(inputs_embeds=x.to(self.dtype), use_cache=False, return_dict=True, **inputs)[0]
        return hidden.to(x.dtype)

    def masked(self, x: Tensor, attend: Attend, positions: Tensor | None, has: frozenset[Cap]) -> Tensor:
        """As a call, under a mask and given positions. Raises ``RequestError`` on what the model would not take, or
        would take and ignore: a capability that is not among ``has``, or a mask wider than its local attention."""
        for cap in sorted(capabilities_used(attend, positions) - has, key=lambda cap: cap.name):
            raise RequestError(f"hf: {self.whose} was measured not to have {cap.name} ({cap.value})")
        if not {"attention_mask", "position_ids"} <= self._taken:
            raise RequestError(f"hf: {self.whose} takes no attention_mask with position_ids")
        length = x.shape[1]
        if any(length > size for size in self._windows):
            raise RequestError(
                f"hf: {self.whose} attends within {min(self._windows)} tokens, which a mask for {length} would undo"
            )
        try:
            return self(x, **mask_and_positions(x, attend, positions, self.dtype))
        except torch.OutOfMemoryError:
            raise
        except REFUSALS as error:
            raise RequestError(f"hf: {self.whose} cannot read this mask or these positions: {error}") from error

    def recompute(self, wanted: bool) -> None:
        """From now on each layer's inner activations are computed anew in the backward pass, or kept. Raises
        ``RequestError`` where the model has no such mode."""
        if wanted == self._recomputing:
            return
        if not wanted:
            self.body.activation_checkpointing_disable()
        elif not self.body.supports_gradient_checkpointing:
            raise RequestError(f"hf: {self.whose} cannot recompute activations; train without it")
        else:
            with quiet():
                self.body.activation_checkpointing_enable({"use_reentrant": False, "preserve_rng_state": False})
        self._recomputing = wanted

    def trace(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [L + 1, B, T, D]: the input of every layer, then the final normed output.

        From the layers themselves: families differ in what their ``hidden_states`` begin and end with.
        """
        states: list[Tensor] = []
        with _inputs_noted(self.layers(), states):
            last = self(x)
        return torch.stack([*(state.to(x.dtype) for state in states), last])

    def with_trunk(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, T, D] -> (the last layer's input [B, T, D], the final normed output [B, T, D])."""
        states: list[Tensor] = []
        with _inputs_noted(self.layers()[-1:], states):
            last = self(x)
        return states[0].to(x.dtype), last

    def layers(self) -> nn.ModuleList:
        """The model's layers. Raises ``RequestError`` where they are not found."""
        count = self.body.config.num_hidden_layers
        for module in self.body.modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
        raise RequestError(f"hf: the {count} layers of {self.whose} were not found in its model")


@contextmanager
def _inputs_noted(layers: Iterable[nn.Module], states: list[Tensor]) -> Iterator[None]:
    def note(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        states.append(given[0] if given else named["hidden_states"])

    hooks = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
