"""Capabilities of a backbone, measured.

Each is found by changing one position's input, in a random direction (a constant shift is invisible to a normalised
layer), and looking at which outputs move. What a class says of itself is never believed: many models accept a mask or
positions and silently ignore them (DESIGN section 4).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import torch
from torch import Tensor

from foresee.backbones.base import Attend, Backbone, Cap
from foresee.errors import ForeseeError, RequestError
from foresee.seeds import torch_stream

LENGTH = 8
CHANGED = 3


def measure(backbone: Backbone) -> frozenset[Cap]:
    """What ``backbone`` can do. Raises ``ForeseeError`` where its causal mode leaks the future, which no objective
    could be trusted on. The backbone's mode and gradients are left as they were."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.no_grad():
            return _measure(backbone)
    finally:
        backbone.train(was_training)


def _measure(backbone: Backbone) -> frozenset[Cap]:
    rng = torch_stream("measure capabilities")
    sample = next(backbone.parameters())
    x = torch.randn(1, LENGTH, backbone.width, generator=rng).to(sample.device, sample.dtype)
    nudged = x.clone()
    nudged[:, CHANGED] += torch.randn(backbone.width, generator=rng).to(sample.device, sample.dtype)

    def moved(run: Callable[[Tensor], Tensor]) -> Tensor:
        """[LENGTH] bool: which outputs change with the input at CHANGED."""
        return ((run(x) - run(nudged)).abs().amax(-1)[0] > 1e-6).cpu()

    causal = moved(lambda inputs: backbone(inputs))
    if causal[:CHANGED].any():
        raise ForeseeError(f"{type(backbone).__name__} leaks: in causal mode a position reads what comes after it")
    if not causal[CHANGED:].all():
        raise ForeseeError(f"{type(backbone).__name__} in causal mode does not read every earlier position")

    found: set[Cap] = set()

    def attending(attend: Attend) -> Callable[[Tensor], Tensor]:
        return lambda inputs: backbone(inputs, attend=attend)

    with suppress(RequestError):
        if moved(attending("full")).all():
            found.add(Cap.LOOKAHEAD)
    with suppress(RequestError):
        visible = torch.ones(1, LENGTH, LENGTH, dtype=torch.bool, device=x.device).tril()
        everything_visible = moved(attending(visible))
        visible[:, :, CHANGED] = False
        visible[:, CHANGED, CHANGED] = True
        hidden = moved(attending(visible))
        only_itself = torch.arange(LENGTH) == CHANGED
        if torch.equal(everything_visible, causal) and torch.equal(hidden, only_itself):
            found.add(Cap.VISIBILITY)
    with suppress(RequestError):
        # Uneven gaps: rotary positions cannot tell an even shift.
        spread = torch.tensor([0, 2, 3, 7, 8, 12, 14, 15], device=x.device)
        plain = torch.arange(LENGTH, device=x.device)
        default = backbone(x)
        unchanged = torch.allclose(backbone(x, positions=plain), default, atol=1e-5)
        changed = (backbone(x, positions=spread) - default).abs().amax() > 1e-4
        if unchanged and bool(changed):
            found.add(Cap.POSITIONS)
    return frozenset(found)


def refuse_missing(needs: frozenset[Cap], objective: str, backbone: Backbone, name: str) -> None:
    """Raises ``RequestError`` where ``backbone`` lacks something the objective requires."""
    for cap in sorted(needs - backbone.has, key=lambda cap: cap.name):
        raise RequestError(
            f"objective {objective!r} needs {cap.name} ({cap.value}), which backbone {name!r} was measured not to have; "
            f"a transformer with learned or rotary positions has it"
        )
