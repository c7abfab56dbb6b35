"""Calling a model of the transformers library: what it is given, what it refuses, and one layer of it by itself."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

from foresee.backbones.base import Layer
from foresee.backbones.capabilities import Attend, Cap
from foresee.backbones.hf.loading import STATE_MATRIX, fresh_model, without_dropout
from foresee.core.checkpoint_files import quiet, refusing
from foresee.core.errors import ForeseeError, RequestError

REFUSALS = (TypeError, ValueError, RuntimeError, IndexError, KeyError, AttributeError, NotImplementedError)
"""What the library's models raise on what they cannot do."""

WINDOWS = ("sliding_window", "attention_window_size", "attention_chunk_size", "window_size")
"""What configurations call the number of tokens that local attention reads."""

PER_LAYER = ("layer_types", "layers_block_type", "block_types", "mlp_layer_types")
"""What configurations call their list of the layers' kinds."""

MASKED = torch.finfo(torch.bfloat16).min
"""Added to the score of a key that must not be read. The library's own choice is the lowest finite number too, since
minus infinity over a whole row gives NaN; this one is finite in bfloat16 as well as in float32."""


def mask_and_positions(x: Tensor, attend: Attend, positions: Tensor | None, dtype: torch.dtype) -> dict[str, Tensor]:
    """An additive mask [B, 1, T, T] of ``dtype`` and positions [B, T] for inputs x [B, T, D].

    Always both: positions without a mask of four axes may be read as documents packed into one row, and a bool mask
    hides nothing under the library's eager attention.
    """
    rows, length, _ = x.shape
    if isinstance(attend, Tensor):
        visible = attend
    else:
        visible = torch.ones(1, length, length, dtype=torch.bool, device=x.device)
        visible = visible if attend == "full" else visible.tril()
    mask = torch.zeros(visible.shape, dtype=dtype, device=x.device).masked_fill_(~visible, MASKED)
    places = torch.arange(length, device=x.device) if positions is None else positions
    return {
        "attention_mask": mask[:, None].expand(rows, 1, length, length),
        "position_ids": places.expand(rows, length),
    }


class Reader:
    """Reads with ``body``, a model without embedding table and head; ``whose`` names it in messages."""

    def __init__(self, body: Any, whose: str) -> None:
        self.body, self.whose = body, whose
        self._taken = inspect.signature(body.forward).parameters.keys()
        sizes = (getattr(body.config, name, None) for name in WINDOWS)
        self.window = min((size for size in sizes if isinstance(size, int) and size > 0), default=None)
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

    def read_masked(self, x: Tensor, attend: Attend, positions: Tensor | None, has: frozenset[Cap]) -> Tensor:
        """As a call, under a mask and given positions. Raises ``RequestError`` on what the model would not take, or
        would take and ignore: a capability that is not among ``has``, or a mask wider than its local attention."""
        asked = {
            Cap.LOOKAHEAD: isinstance(attend, str) and attend == "full",
            Cap.POSITIONS: positions is not None,
            Cap.VISIBILITY: isinstance(attend, Tensor),
        }
        for cap, wanted in asked.items():
            if wanted and cap not in has:
                raise RequestError(f"hf: {self.whose} was measured not to have {cap.name} ({cap.value})")
        if not {"attention_mask", "position_ids"} <= self._taken:
            raise RequestError(f"hf: {self.whose} takes no attention_mask with position_ids")
        if self.window is not None and x.shape[1] > self.window:
            raise RequestError(
                f"hf: {self.whose} attends within {self.window} tokens, which a mask for {x.shape[1]} would undo"
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

    def layers(self) -> nn.ModuleList:
        """The model's layers. Raises ``RequestError`` where they are not found."""
        count = self.body.config.num_hidden_layers
        for module in self.body.modules():
            if isinstance(module, nn.ModuleList) and len(module) == count:
                return module
        raise RequestError(f"hf: the {count} layers of {self.whose} were not found in its model")


def undecayed_names(body: nn.Module) -> frozenset[str]:
    """The names in ``body`` of state-space mixers' decay rates, which are no matrix product's weight."""
    return frozenset(name for name, _ in body.named_parameters() if name.endswith(STATE_MATRIX))


class HuggingFaceLayer(Layer):
    """A model of one layer of the checkpoint's architecture, weights drawn as the architecture draws them.

    It reads trunk states, which hold the positions already, so tables of positions are zero and stay so; rotary
    embeddings act within attention and are left as they are.
    """

    def __init__(self, config: Any, attention: str | None, generator: torch.Generator, path: str, whose: str) -> None:
        """Raises ``RequestError`` where the architecture cannot be built with one layer, or where that layer reads
        ahead."""
        super().__init__()
        with refusing(f"{whose} has no single layer to build a head from", RequestError, ForeseeError, *REFUSALS):
            model = fresh_model(_of_one_layer(config), attention, generator, path)
            self.body: Any = model.base_model
            self.body.set_input_embeddings(None)
            for module in self.body.modules():
                if isinstance(module, nn.Embedding):
                    nn.init.zeros_(module.weight)
                    module.weight.requires_grad_(False)
            self._reader = Reader(self.body, whose)
            self._refuse_unfit(whose)
        self.undecayed = frozenset(f"body.{name}" for name in undecayed_names(self.body))

    def _refuse_unfit(self, whose: str) -> None:
        width = self.body.config.hidden_size
        x = torch.linspace(-1, 1, 4 * width).view(1, 4, width)
        with torch.no_grad():
            read, cut = self._reader(x), self._reader(x[:, :3])
        if not torch.isfinite(read).all() or not torch.allclose(read[:, :3], cut, atol=1e-4):
            raise RequestError(f"one layer of {whose} is not causal alone")
        if len(self._reader.layers()) != 1:
            raise RequestError(f"{whose} cannot be cut to one layer")

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        """[B, T, D] -> [B, T, D] (or [B, K, D])."""
        states = self._reader(z)
        return states if keep is None else states[:, keep]


def _of_one_layer(config: Any) -> Any:
    """A copy with one layer, of the kind of the last one. Raises ``RequestError`` where kinds follow from a rule that
    a model of one layer would apply otherwise."""
    one = without_dropout(config)
    for name in PER_LAYER:
        kinds = getattr(one, name, None)
        if not isinstance(kinds, list) or not kinds:
            continue
        if name in vars(one):
            setattr(one, name, kinds[-1:])
        elif len(set(kinds)) > 1:
            raise RequestError(f"its layers are of several kinds ({', '.join(sorted(map(str, set(kinds))))})")
    one.num_hidden_layers = 1
    return one
