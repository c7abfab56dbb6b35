"""Capabilities of a backbone, measured.

Each is found by changing one position's input, in a random direction (a constant shift is invisible to a normalised
layer), and looking at which outputs move. What a class says of itself is never believed: many models accept a mask or
positions and silently ignore them (DESIGN section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Literal

import torch
from torch import Tensor, nn

from foresee.core.errors import ForeseeError, RequestError
from foresee.core.seeds import torch_stream

Attend = Literal["causal", "full"] | Tensor


class Cap(Enum):
    """A capability of a backbone, measured when it is built, never declared."""

    LOOKAHEAD = "attend='full' lets a position read what comes after it"
    VISIBILITY = "a bool mask [B, T, T] decides which positions each position reads"
    POSITIONS = "positions may be given, so that a token's place is not its index"


LENGTH = 8

SCALE = 0.02
"""Standard deviation of the inputs, that of embeddings at the start of training: the residual stream is then as small
as in use, so that what attention adds to it shows in the output."""

SMALLEST = 1e-6
"""A smaller difference of final hidden states, which are of order one, is rounding."""

EQUAL = 1e-3
"""Final hidden states that differ by less are the same but for the order of sums."""


def measure(backbone: nn.Module, width: int, longest: int | None) -> frozenset[Cap]:
    """Finds what ``backbone``, of this width and bound on positions, can do. Raises ``ForeseeError`` where its causal
    mode leaks the future, which no objective could be trusted on. Its mode and gradients are left as they were."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            return _measure(backbone, width, min(LENGTH, longest or LENGTH))
    finally:
        backbone.train(was_training)


def _measure(backbone: nn.Module, width: int, length: int) -> frozenset[Cap]:
    rng = torch_stream("measure capabilities")
    sample = next(backbone.parameters())
    changed = length // 2

    def draw(*shape: int) -> Tensor:
        return (SCALE * torch.randn(*shape, generator=rng)).to(sample.device, sample.dtype)

    x = draw(1, length, width)
    nudged = x.clone()
    nudged[:, changed] += draw(width)

    def moved(run: Callable[[Tensor], Tensor]) -> Tensor:
        """[length] bool: which outputs change with the input at ``changed``."""
        return ((run(x) - run(nudged)).abs().amax(-1)[0] > SMALLEST).cpu()

    causal = moved(lambda inputs: backbone(inputs))
    if causal[:changed].any():
        raise ForeseeError(f"{type(backbone).__name__} leaks: in causal mode a position reads what comes after it")
    if not causal[changed:].all():
        raise ForeseeError(f"{type(backbone).__name__} in causal mode does not read every earlier position")

    found: set[Cap] = set()

    def attending(attend: Attend) -> Callable[[Tensor], Tensor]:
        return lambda inputs: backbone(inputs, attend=attend)

    with suppress(RequestError):
        if moved(attending("full")).all():
            found.add(Cap.LOOKAHEAD)
    with suppress(RequestError):
        visible = torch.ones(1, length, length, dtype=torch.bool, device=x.device).tril()
        everything_visible = moved(attending(visible))
        visible[:, :, changed] = False
        visible[:, changed, changed] = True
        hidden = moved(attending(visible))
        only_itself = torch.arange(length) == changed
        if torch.equal(everything_visible, causal) and torch.equal(hidden, only_itself):
            found.add(Cap.VISIBILITY)
    with suppress(RequestError):
        # A permutation with uneven gaps: rotary positions cannot tell an even shift, and a table may hold no more.
        plain = torch.arange(length, device=x.device)
        permuted = torch.cat((plain[::2], plain[1::2])).flip(0)
        default = backbone(x)
        unchanged = (backbone(x, positions=plain) - default).abs().amax()
        if (backbone(x, positions=permuted) - default).abs().amax() > 10 * unchanged.clamp_min(SMALLEST):
            found.add(Cap.POSITIONS)
        # Positions alone must tell the order. Where everyone sees everyone this can be asked: permuting inputs and
        # positions together then only permutes the outputs, but not where a recurrent half reads the order as well.
        if found >= {Cap.POSITIONS, Cap.LOOKAHEAD}:
            full = backbone(x, attend="full", positions=plain)
            together = backbone(x[:, permuted], attend="full", positions=permuted)
            if (together - full[:, permuted]).abs().amax() > EQUAL:
                found.remove(Cap.POSITIONS)
    return frozenset(found)
