"""Trading time for memory: a layer whose inner activations are computed anew in the backward pass."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, is_grad_enabled
from torch.utils.checkpoint import checkpoint


def layer(recompute: bool, function: Callable[..., Tensor], *inputs: object) -> Tensor:
    """``function(*inputs)``; where ``recompute`` is true and gradients are wanted, only ``inputs`` are kept for them.

    ``function`` must draw no random numbers: no layer here has any.
    """
    if not (recompute and is_grad_enabled()):
        return function(*inputs)
    out: Tensor = checkpoint(function, *inputs, use_reentrant=False, preserve_rng_state=False)
    return out
