"""Capabilities of a backbone, measured: by changing one position's input and looking at which outputs move.

The change has a random direction, since a constant shift is invisible to a normalised layer. What a class says of
itself is never believed: many models accept a mask or positions and silently ignore them.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from contextlib import suppress
from enum import Enum
from typing import Any, Literal

import torch
from torch import Tensor, nn

from foresee.core.errors import ForeseeError, RequestError
from foresee.core.seeds import torch_stream

Attend = Literal["causal", "full"] | Tensor

LENGTH = 8

SCALE = 0.02
"""Standard deviation of the inputs, that of embeddings at the start of training: the residual stream is then as small
as in use, so that what attention adds to it shows in the output."""

SMALLEST, EQUAL = 1e-6, 1e-3
"""Final hidden states are of order one: a smaller difference is rounding; a smaller one, the order of sums."""


class Cap(Enum):
    """A capability of a backbone."""

    LOOKAHEAD = "attend='full' lets a position read what comes after it"
    VISIBILITY = "a bool mask [B, T, T] decides which positions each position reads"
    POSITIONS = "positions may be given, so that a token's place is not its index"


_found: dict[Hashable, frozenset[Cap]] = {}


def measure_once(kind: Hashable, backbone: nn.Module, width: int, longest: int | None) -> frozenset[Cap]:
    """``measure``, once a process for all backbones of one ``kind``: of the same class, options and files."""
    if kind not in _found:
        _found[kind] = measure(backbone, width, longest)
    return _found[kind]


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
    rng, changed = torch_stream("measure capabilities"), length // 2
    sample, name = next(backbone.parameters(), torch.zeros(())), type(backbone).__name__

    def draw(*shape: int) -> Tensor:
        return (SCALE * torch.randn(*shape, generator=rng)).to(sample.device, sample.dtype)

    x = draw(1, length, width)
    nudged = x.clone()
    nudged[:, changed] += draw(width)

    def moved(**options: Any) -> Tensor:
        """[length] bool: which outputs change with the input at ``changed``."""
        difference: Tensor = backbone(x, **options) - backbone(nudged, **options)
        return (difference.abs().amax(-1)[0] > SMALLEST).cpu()

    if not isinstance(final := backbone(x), Tensor) or final.shape != x.shape:
        given = list(final.shape) if isinstance(final, Tensor) else f"a {type(final).__name__}"
        raise RequestError(f"{name}.forward must give a tensor [B, T, D] of one [B, T, D], not {given}")
    # First what would make all that follows read wrongly.
    if not final.isfinite().all():
        raise RequestError(f"{name}.forward gives states that are not finite, of inputs of the size of embeddings")
    if (backbone(x) - final).abs().max() > SMALLEST:
        raise RequestError(
            f"{name}.forward gives other states of the same input when called again; it draws nothing in evaluation "
            "mode (no dropout where self.training is false) and keeps nothing"
        )
    beside = backbone(torch.cat((x, draw(1, length, width))))[:1]
    if not torch.allclose(beside, final, rtol=EQUAL, atol=EQUAL):
        raise RequestError(f"{name}.forward gives a row other states beside another row than alone; rows must not mix")
    causal = moved()
    if causal[:changed].any():
        raise ForeseeError(f"{name} leaks: in causal mode a position reads what comes after it")
    if not causal[changed:].all():
        raise ForeseeError(f"{name} in causal mode does not read every earlier position")

    def sees_under_a_mask() -> bool:
        visible = torch.ones(1, length, length, dtype=torch.bool, device=x.device).tril()
        everything_visible = moved(attend=visible)
        visible[:, :, changed] = False
        visible[:, changed, changed] = True
        only_itself = torch.arange(length) == changed
        return torch.equal(everything_visible, causal) and torch.equal(moved(attend=visible), only_itself)

    def reads_positions() -> bool:
        # A permutation with uneven gaps: rotary positions cannot tell an even shift, and a table may hold no more.
        plain = torch.arange(length, device=x.device)
        permuted = torch.cat((plain[::2], plain[1::2])).flip(0)
        default = backbone(x)
        unchanged = (backbone(x, positions=plain) - default).abs().amax()
        if (backbone(x, positions=permuted) - default).abs().amax() <= 10 * unchanged.clamp_min(SMALLEST):
            return False
        if Cap.LOOKAHEAD not in found:
            return True
        # Positions alone must tell the order. Where everyone sees everyone this can be asked: permuting inputs and
        # positions together then only permutes the outputs, but not where a recurrent half reads the order as well.
        full = backbone(x, attend="full", positions=plain)
        together = backbone(x[:, permuted], attend="full", positions=permuted)
        return bool((together - full[:, permuted]).abs().amax() <= EQUAL)

    found: set[Cap] = set()
    trials: dict[Cap, Callable[[], Any]] = {
        Cap.LOOKAHEAD: lambda: moved(attend="full").all(),
        Cap.VISIBILITY: sees_under_a_mask,
        Cap.POSITIONS: reads_positions,
    }
    for cap, trial in trials.items():
        with suppress(RequestError):
            if trial():
                found.add(cap)
    return frozenset(found)
