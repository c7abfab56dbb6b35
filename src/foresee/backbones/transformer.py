"""A decoder-only Transformer from scratch: GPT-2 by default, Llama's parts by option.

Pre-norm blocks, ``x += attention(norm(x)); x += mlp(norm(x))``, a final norm, and an output head tied to the token
table. Weights are drawn from N(0, 0.02), those that write to the residual stream from N(0, 0.02 / sqrt(2 layers)), as
in GPT-2 (the paper's code intends this, but looks for a parameter name that does not exist; research/paper.md section
3). No dropout anywhere: it hurts exact look-ups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import tables
from foresee.backbones.attention import causal_attention, causal_probabilities
from foresee.backbones.base import Attend, Backbone, backbones
from foresee.backbones.block import Block, Mlp, Norm, TransformerLayer, build_norm, rotary_angles, rotate
from foresee.backbones.cache import DecodingState, with_capacity
from foresee.backbones.measure import measure
from foresee.backbones.recompute import layer
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Positions = Literal["learned", "rotary", "none"]


@backbones.register("transformer")
class Transformer(Backbone):
    """Options: ``layers``, ``width``, ``heads``; ``context``, the longest sequence; ``positions`` learned (GPT-2),
    rotary (Llama) or none; ``norm`` layer or rms; ``mlp`` gelu (exact), gelu-tanh (GPT-2's approximation, four times as
    slow on a CPU and no different in kind) or swiglu; ``hidden``, the MLP's width (4 x width, or 8/3 x width for
    swiglu); ``bias`` in linear layers; ``tied``, one table for embedding and head."""

    summary = "decoder-only Transformer from scratch (GPT-2 style; rotary, RMSNorm and SwiGLU by option)"

    def __init__(
        self,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        layers: int,
        width: int,
        heads: int,
        context: int = 256,
        positions: Positions = "learned",
        norm: Norm = "layer",
        mlp: Mlp = "gelu",
        hidden: int | None = None,
        bias: bool = True,
        tied: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"layers": layers, "width": width, "heads": heads, "context": context, "hidden": hidden}
        for name, value in sizes.items():
            if value is not None and value < 1:
                raise RequestError(f"transformer: {name}={value} must be at least 1")
        if width % heads or (positions == "rotary" and (width // heads) % 2):
            raise RequestError(
                f"transformer: width={width} must be a multiple of heads={heads}, with an even quotient for rotary "
                "positions"
            )
        hidden = hidden or (4 * width if mlp != "swiglu" else 8 * width // 3)
        self.shape: dict[str, Any] = {
            "layers": layers, "width": width, "heads": heads, "context": context, "positions": positions,
            "norm": norm, "mlp": mlp, "hidden": hidden, "bias": bias, "tied": tied,
        }  # fmt: skip
        self.vocab_size, self.width, self.context, self.positions = len(vocab), width, context, positions
        # GPT-2 numbers its positions by a table; rotary and none need nothing learned.
        self.token_table = tables.table(len(vocab), width, generator) if vocab else None
        self.position_table = tables.table(context, width, generator) if positions == "learned" else None
        self.blocks = nn.ModuleList(self._block(generator) for _ in range(layers))
        self.final_norm = build_norm(norm, width)
        self.head = tables.table(len(vocab), width, generator) if vocab and not tied else None
        self.has = measure(self)

    def _block(self, generator: torch.Generator) -> Block:
        shape = self.shape
        return Block(
            self.width, shape["heads"], shape["hidden"], shape["norm"], shape["mlp"], shape["bias"], shape["layers"],
            generator,
        )  # fmt: skip

    @property
    def longest(self) -> int:
        return self.context

    def embed(self, tokens: Tensor) -> Tensor:
        return tables.embed(tokens, self.token_table)

    def logits(self, hidden: Tensor) -> Tensor:
        return tables.logits(hidden, self.token_table, self.head)

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        return self._read(x, attend, positions, keep)[1]

    def with_trunk(self, x: Tensor, *, keep: slice | None = None) -> tuple[Tensor, Tensor]:
        return self._read(x, "causal", None, keep)

    def _read(self, x: Tensor, attend: Attend, positions: Tensor | None, keep: slice | None) -> tuple[Tensor, Tensor]:
        """The input of the last block [B, T, D], and the final states."""
        x, angles = self._place(x, positions)
        for block in self.blocks[:-1]:
            x = layer(self.recompute, block, x, attend, angles, None)
        return x, self.final_norm(layer(self.recompute, self.blocks[-1], x, attend, angles, keep))

    def last_layer(self, generator: torch.Generator) -> TransformerLayer:
        rotary = self.positions == "rotary"
        return TransformerLayer(self._block(generator), build_norm(self.shape["norm"], self.width), rotary)

    def trace(self, x: Tensor) -> Tensor:
        x, angles = self._place(x, None)
        states = [x]
        for block in self.blocks:
            x = block(x, "causal", angles, None)
            states.append(x)
        return torch.stack([*states[:-1], self.final_norm(x)])

    def attention(self, x: Tensor) -> Tensor:
        x, angles = self._place(x, None)
        found = []
        for block in self.blocks:
            assert isinstance(block, Block)
            q, k, _ = block.queries_keys_values(x, None)
            if angles is not None:
                q, k = rotate(q, angles), rotate(k, angles)
            found.append(causal_probabilities(q, k))
            x = block(x, "causal", angles, None)
        return torch.stack(found)

    def _place(self, x: Tensor, positions: Tensor | None, first: int = 0) -> tuple[Tensor, Tensor | None]:
        """Adds learned positions to x [B, T, D], or gives rotary angles [B or 1, 1, T, d / 2]."""
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
        return x, rotary_angles(places, self.width // self.shape["heads"])

    # Decoding -------------------------------------------------------------------------------------------------------

    def start(self, x: Tensor, room: int = 16) -> tuple[Tensor, DecodingState]:
        length = x.shape[1]
        capacity = min(self.context, length + room)
        x, angles = self._place(x, None)
        keys, values = [], []
        last = slice(length - 1, length)
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            keep = last if index == len(self.blocks) - 1 else None
            q, k, v = block.queries_keys_values(x, keep)
            if angles is not None:
                q, k = rotate(q, angles if keep is None else angles[:, :, keep]), rotate(k, angles)
            keys.append(with_capacity(k, capacity))
            values.append(with_capacity(v, capacity))
            attended = causal_attention(q, keys[-1], values[-1], 0 if keep is None else length - 1)
            x = block.finish(x if keep is None else x[:, keep], attended)
        return self.final_norm(x)[:, -1], DecodingState(keys, values, length)

    def step(self, x: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        length = state.length
        x, angles = self._place(x[:, None], None, first=length)
        state.make_room(self.context)
        for block, keys, values in zip(self.blocks, state.keys, state.values, strict=True):
            assert isinstance(block, Block)
            q, k, v = block.queries_keys_values(x, None)
            if angles is not None:
                q, k = rotate(q, angles), rotate(k, angles)
            keys[:, :, length : length + 1] = k
            values[:, :, length : length + 1] = v
            x = block.finish(x, causal_attention(q, keys, values, length))
        return self.final_norm(x)[:, 0], DecodingState(state.keys, state.values, length + 1)

    def fork(self, state: DecodingState, n: int) -> DecodingState:
        return state.fork(n)

    # Shape ----------------------------------------------------------------------------------------------------------

    def twin(self, generator: torch.Generator) -> Transformer:
        return Transformer(Vocabulary(()), generator, **self.shape)

    def counterpart(self) -> PreTrainedModel:
        # Not at the top: reading the library takes a second, and only an export needs it.
        from foresee.backbones.counterparts.transformer import counterpart

        return counterpart(self)

    def flops_per_token(self) -> int:
        return self.vocab_size * self.width + sum(
            parameter.numel() for parameter in self.blocks.parameters() if parameter.dim() == 2
        )


backbones.preset("gpt-nano", "transformer:layers=3,width=128,heads=4")
backbones.preset("gpt-mini", "transformer:layers=12,width=384,heads=6")
