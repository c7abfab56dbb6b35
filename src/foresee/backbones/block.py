"""One pre-norm layer of a Transformer, ``x += attention(norm(x)); x += mlp(norm(x))``, and its parts."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.attention import attention, causal_attention
from foresee.backbones.base import INIT_STD, Layer
from foresee.backbones.capabilities import Attend

ROTARY_BASE = 10000.0
NORM_EPS = {"layer": 1e-5, "rms": 1e-6}
"""As in GPT-2 and in Llama's code."""

Norm = Literal["layer", "rms"]
Mlp = Literal["gelu", "gelu-tanh", "swiglu"]


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Rotary positions as in Llama: x [..., B, H, T, d] by ``rotary_turns``."""
    cos, sin = turns.to(x.dtype).unbind(0)
    # Whole rows that lie side by side: half a row at a time, of a view with strides, takes twice as long on a CPU.
    x = x.contiguous()
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin


def rotary_turns(positions: Tensor, size: int) -> Tensor:
    """Positions [T] or [B, T] -> [2, 1 or B, 1, T, size] for heads of ``size`` dimensions: cosines, and sines with the
    sign that each has in its half."""
    steps = torch.arange(0, size, 2, device=positions.device, dtype=torch.float32) / size
    angles = positions[..., None].float() * ROTARY_BASE**-steps
    angles = angles[:, None] if angles.dim() == 3 else angles[None, None]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((torch.cat((cos, cos), -1), torch.cat((-sin, sin), -1)))


def build_norm(kind: Norm, width: int) -> nn.Module:
    """Layer or root-mean-square normalisation of the last axis."""
    # Both start at weight one and bias zero without drawing random numbers.
    return nn.LayerNorm(width, NORM_EPS[kind]) if kind == "layer" else nn.RMSNorm(width, NORM_EPS[kind])


class Linear(nn.Module):
    """``nn.Linear`` whose weights are drawn from a given stream instead of the global one."""

    def __init__(self, inputs: int, outputs: int, bias: bool, std: float, generator: torch.Generator) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs).normal_(0.0, std, generator=generator))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight, self.bias)


class Block(nn.Module):
    """One layer. ``attention_in`` holds queries, keys and values, in that order of rows."""

    def __init__(
        self, width: int, heads: int, hidden: int, norm: Norm, mlp: Mlp, bias: bool, layers: int, rng: torch.Generator
    ) -> None:
        super().__init__()
        self.heads, self.mlp = heads, mlp
        residual_std = INIT_STD / math.sqrt(2 * layers)
        self.attention_norm = build_norm(norm, width)
        self.attention_in = Linear(width, 3 * width, bias, INIT_STD, rng)
        self.attention_out = Linear(width, width, bias, residual_std, rng)
        self.mlp_norm = build_norm(norm, width)
        self.mlp_in = Linear(width, 2 * hidden if mlp == "swiglu" else hidden, bias, INIT_STD, rng)
        self.mlp_out = Linear(hidden, width, bias, residual_std, rng)

    def forward(self, x: Tensor, attend: Attend, turns: Tensor | None, keep: slice | None) -> Tensor:
        """[B, T, D] -> [B, T, D], or [B, K, D] where only the positions in ``keep`` are wanted."""
        q, k, v = self.queries_keys_values(x, turns, keep)
        if isinstance(attend, Tensor):
            visible = attend if keep is None else attend[:, keep]
            attended = attention(q, k, v, visible[:, None])
        elif attend == "full":
            attended = attention(q, k, v, None)
        else:
            attended = causal_attention(q, k, v, 0 if keep is None else keep.indices(x.shape[1])[0])
        return self.finish(x if keep is None else x[:, keep], attended)

    def _heads(self, x: Tensor, parts: int) -> Tensor:
        """[B, T, parts * D] -> [parts, B, H, T, d]."""
        rows, length, columns = x.shape
        split = x.view(rows, length, parts, self.heads, columns // (parts * self.heads))
        return split.permute(2, 0, 3, 1, 4)

    def queries_keys_values(self, x: Tensor, turns: Tensor | None, keep: slice | None) -> tuple[Tensor, Tensor, Tensor]:
        """[B, H, T, d] each, turned by ``turns``; queries only for the positions in ``keep``."""
        normed = self.attention_norm(x)
        if keep is None:
            both, values = self._heads(self.attention_in(normed), 3).split_with_sizes((2, 1))
            q, k = both if turns is None else rotate(both, turns)
            return q, k, values[0]
        width = x.shape[-1]
        weight, bias = self.attention_in.weight, self.attention_in.bias
        kept = functional.linear(normed[:, keep], weight[:width], None if bias is None else bias[:width])
        rest = functional.linear(normed, weight[width:], None if bias is None else bias[width:])
        q, (k, v) = self._heads(kept, 1)[0], self._heads(rest, 2)
        return (q, k, v) if turns is None else (rotate(q, turns[..., keep, :]), rotate(k, turns), v)

    def finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Adds what attention found ([B, H, T, d]) and the MLP to the residual stream x [B, T, D]."""
        x = x + self.attention_out(attended.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.mlp_norm(x))

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.mlp_in(x)
        if self.mlp == "swiglu":
            gate, up = hidden.chunk(2, -1)
            hidden = functional.silu(gate) * up
        else:
            hidden = functional.gelu(hidden, approximate="tanh" if self.mlp == "gelu-tanh" else "none")
        out: Tensor = self.mlp_out(hidden)
        return out


class TransformerLayer(Layer):
    """A block with a final norm. Learned positions are in the trunk's states already; rotary ones act here again."""

    def __init__(self, block: Block, norm: nn.Module, rotary: bool) -> None:
        super().__init__()
        self.block, self.norm, self.rotary = block, norm, rotary

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        places = torch.arange(z.shape[1], device=z.device)
        turns = rotary_turns(places, z.shape[2] // self.block.heads) if self.rotary else None
        out: Tensor = self.norm(self.block(z, "causal", turns, keep))
        return out
