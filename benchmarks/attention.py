"""Where the routes of ``foresee.backbones.attention`` cross on a CPU: forward and backward pass by length.

    python benchmarks/attention.py [--precision bf16|float32]

Causal attention of 6 heads of 64 on about 4,096 tokens at every length, three ways: unfused, fused with the causal
flag, and fused with a mask tensor. ``LONGEST_UNFUSED`` is set from it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import in_turn, parser, write
from torch import Tensor
from torch.nn import functional

from foresee.backbones import attention
from foresee.core.isolation import keep_large_blocks
from foresee.core.seeds import torch_stream

TOKENS, HEADS, SIZE = 4096, 6, 64
LENGTHS = (16, 32, 64, 128, 256, 512, 1024)

Route = Callable[[Tensor, Tensor, Tensor], Tensor]


def unfused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The route of short sequences."""
    visible = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    return attention.unfused_attention(q, k, v, visible)


def fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's own, told that the mask is causal."""
    return functional.scaled_dot_product_attention(q, k, v, is_causal=True)


def fused_with_mask(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's own, given the causal mask as a tensor."""
    visible = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    return functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)


ROUTES: dict[str, Route] = {"unfused": unfused, "fused": fused, "fused, mask": fused_with_mask}


def passes(route: Route, length: int, dtype: torch.dtype) -> Callable[[], None]:
    """Forward and backward pass on inputs laid out as the transformer gives them."""
    rng = torch_stream("attention", length)
    rows = max(1, TOKENS // length)
    x = torch.randn(rows, length, 3, HEADS, SIZE, generator=rng).to(dtype).requires_grad_()
    q, k, v = x.permute(2, 0, 3, 1, 4).unbind(0)
    gradient = torch.randn(rows, length, HEADS, SIZE, generator=rng).to(dtype).transpose(1, 2)

    def run() -> None:
        torch.autograd.grad(route(q, k, v), (q, k, v), gradient)

    return run


def main() -> None:
    """Measures every length in turn."""
    options = parser(__doc__)
    options.add_argument("--precision", choices=("bf16", "float32"), default="bf16")
    arguments = options.parse_args()
    keep_large_blocks()
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    rounds, burst = (1, 0.0) if arguments.quick else (5, 0.1)
    table: dict[int, dict[str, float]] = {}
    for length in LENGTHS[:2] if arguments.quick else LENGTHS:
        works = {name: passes(route, length, dtype) for name, route in ROUTES.items()}
        table[length] = {name: 1000 * seconds for name, seconds in in_turn(works, rounds, burst).items()}
    lines = [f"{arguments.precision}, milliseconds forward and backward, {torch.get_num_threads()} threads"]
    lines.append("length".ljust(8) + "".join(name.rjust(14) for name in ROUTES))
    lines += [f"{length:<8}" + "".join(f"{row[name]:14.2f}" for name in ROUTES) for length, row in table.items()]
    write(arguments.json, {"precision": arguments.precision, "milliseconds": table}, lines)


if __name__ == "__main__":
    main()
