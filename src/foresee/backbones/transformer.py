"""A decoder-only Transformer from scratch: GPT-2 by default, Llama's parts by option.

Pre-norm blocks, ``x += attention(norm(x)); x += mlp(norm(x))``, a final norm, and an output head tied to the token
table. Weights are drawn from N(0, 0.02), those that write to the residual stream from N(0, 0.02 / sqrt(2 layers)), as
in GPT-2 (the paper's code intends this, but looks for a parameter name that does not exist). No dropout anywhere: it
hurts exact look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.attention import causal_attention, causal_probabilities
from foresee.backbones.base import TableBackbone, backbones, draw_weights, matrix_weights
from foresee.backbones.block import Block, Mlp, Norm, TransformerLayer, build_norm, rotary_turns
from foresee.backbones.capabilities import Attend
from foresee.core.bounds import Bounds
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Positions = Literal["learned", "rotary", "none"]


@dataclass
class DecodingState:
    """Keys and values of every layer, [B, H, capacity, d]; the first ``length`` are filled and the rest are zero.

    Attention reads whole buffers under a mask: cutting them to ``length`` would make a CPU's matrix product copy them.
    """

    keys: list[Tensor]
    values: list[Tensor]
    length: int

    def make_space(self, most: int) -> None:
        """Where the buffers are full, moves them to ones half as long again, up to ``most`` positions."""
        if self.length == self.keys[0].shape[2]:
            capacity = min(most, self.length + max(16, self.length // 2))
            self.keys = [_with_capacity(keys, capacity) for keys in self.keys]
            self.values = [_with_capacity(values, capacity) for values in self.values]


def _with_capacity(filled: Tensor, capacity: int) -> Tensor:
    """[B, H, T, d] copied into the start of a contiguous buffer [B, H, capacity, d]."""
    rows, heads, length, size = filled.shape
    buffer = filled.new_empty(rows, heads, capacity, size)
    buffer[:, :, :length] = filled
    buffer[:, :, length:] = 0  # never read but under a mask, where 0 * NaN would still be NaN
    return buffer


@backbones.register("transformer")
class Transformer(TableBackbone):
    """Options: ``layers``, ``width``, ``heads``; ``context``, the longest sequence; ``positions`` learned (GPT-2),
    rotary (Llama) or none; ``norm`` layer or rms; ``mlp`` gelu (exact), gelu-tanh (GPT-2's approximation, four times as
    slow on a CPU and no different in kind) or swiglu; ``hidden``, the MLP's width (4 x width, or 8/3 x width for
    swiglu); ``bias`` in linear layers; ``tied``, one table for embedding and head."""

    summary = "decoder-only Transformer from scratch (GPT-2 style; rotary, RMSNorm and SwiGLU by option)"
    batchable = True
    recordable = True

    def __init__(
        self,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        layers: Annotated[int, Bounds(1)],
        width: Annotated[int, Bounds(1)],
        heads: Annotated[int, Bounds(1)],
        context: Annotated[int, Bounds(1)] = 256,
        positions: Positions = "learned",
        norm: Norm = "layer",
        mlp: Mlp = "gelu",
        hidden: Annotated[int | None, Bounds(1)] = None,
        bias: bool = True,
        tied: bool = True,
    ) -> None:
        super().__init__()
        if width % heads or (positions == "rotary" and (width // heads) % 2):
            raise RequestError(
                f"transformer: width={width} must be a multiple of heads={heads}, with an even quotient for rotary "
                "positions"
            )
        self.vocab_size, self.width, self.heads, self.layers = len(vocab), width, heads, layers
        self.context, self.positions, self.norm, self.mlp, self.bias = context, positions, norm, mlp, bias
        self.hidden = hidden or (4 * width if mlp != "swiglu" else 8 * width // 3)
        # GPT-2 numbers its positions by a table; rotary and none need nothing learned.
        self.token_table = draw_weights(generator, len(vocab), width) if vocab else None
        self.position_table = draw_weights(generator, context, width) if positions == "learned" else None
        self.blocks = nn.ModuleList(self._block(generator) for _ in range(layers))
        self.final_norm = build_norm(norm, width)
        self.head = draw_weights(generator, len(vocab), width) if vocab and not tied else None

    def _block(self, generator: torch.Generator) -> Block:
        return Block(self.width, self.heads, self.hidden, self.norm, self.mlp, self.bias, self.layers, generator)

    @property
    def longest(self) -> int:
        return self.context

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        return self.with_trunk(x, attend=attend, positions=positions, keep=keep)[1]

    def with_trunk(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        x, turns = self._place(x, positions)
        for block in self.blocks[:-1]:
            x = self.run_layer(block, x, attend, turns, None)
        return x, self.final_norm(self.run_layer(self.blocks[-1], x, attend, turns, keep))

    def last_layer(self, generator: torch.Generator) -> TransformerLayer:
        norm = build_norm(self.norm, self.width)
        return TransformerLayer(self._block(generator), norm, rotary=self.positions == "rotary")

    def layer_list(self) -> list[nn.Module]:
        return list(self.blocks)

    def attention(self, x: Tensor) -> Tensor:
        _, turns = self._place(x, None)
        found = []
        for block, states in zip(self.blocks, self.trace(x), strict=False):
            assert isinstance(block, Block)
            q, k, _ = block.queries_keys_values(states, turns, None)
            found.append(causal_probabilities(q, k))
        return torch.stack(found)

    def _place(self, x: Tensor, positions: Tensor | None, first: int = 0) -> tuple[Tensor, Tensor | None]:
        """Adds learned positions to x [B, T, D], or gives what turns queries and keys at rotary ones."""
        end = first + x.shape[1]
        # Given positions may repeat, as where several rows are read as one: then their number is no measure.
        if end > self.context and positions is None:
            raise RequestError(
                f"transformer: a sequence of {end} tokens does not fit context={self.context}; set context={end} or "
                "more"
            )
        if positions is not None and self.positions == "none":
            raise RequestError("transformer: positions=none has no use for given positions; choose learned or rotary")
        if self.position_table is not None:
            table = self.position_table
            return x + (table[first:end] if positions is None else functional.embedding(positions, table)), None
        if self.positions == "none":
            return x, None
        places = torch.arange(first, end, device=x.device) if positions is None else positions
        return x, rotary_turns(places, self.width // self.heads)

    # Decoding -------------------------------------------------------------------------------------------------------

    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, DecodingState]:
        length = x.shape[1]
        capacity = min(self.context, length + steps)
        x, turns = self._place(x, None)
        keys, values = [], []
        last = slice(length - 1, length)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            keep = last if index == len(self.blocks) - 1 else None
            q, k, v = block.queries_keys_values(x, turns, keep)
            keys.append(_with_capacity(k, capacity))
            values.append(_with_capacity(v, capacity))
            attended = causal_attention(q, keys[-1], values[-1], 0 if keep is None else length - 1)
            x = block.finish(x if keep is None else x[:, keep], attended)
        return self.final_norm(x)[:, -1], DecodingState(keys, values, length)

    def step(self, x: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        length = state.length
        x, turns = self._place(x[:, None], None, first=length)
        state.make_space(self.context)
        for block, keys, values in zip(self.blocks, state.keys, state.values, strict=True):
            assert isinstance(block, Block)
            q, k, v = block.queries_keys_values(x, turns, None)
            keys[:, :, length : length + 1] = k
            values[:, :, length : length + 1] = v
            x = block.finish(x, causal_attention(q, keys, values, length))
        return self.final_norm(x)[:, 0], DecodingState(state.keys, state.values, length + 1)

    def counterpart(self) -> PreTrainedModel:
        # Not at the top: reading the library takes a second, and only an export needs it.
        from foresee.backbones.counterparts.models import counterpart

        return counterpart(self)

    def flops_per_token(self) -> int:
        in_blocks = sum(weight.numel() for weight in matrix_weights(self.blocks))
        return self.vocab_size * self.width + in_blocks


backbones.preset("gpt-nano", "transformer:layers=6,width=128,heads=4,positions=rotary")
backbones.preset("gpt-mini", "transformer:layers=12,width=384,heads=6")
