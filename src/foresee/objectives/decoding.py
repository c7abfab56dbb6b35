"""Decoding on a backbone's incremental interface: greedy, and by drawing at a temperature."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from foresee.backbones.base import Backbone
from foresee.core.errors import RequestError

Choose = Callable[[Tensor], Tensor]
"""Logits [..., V] -> tokens [...]."""


def decode(backbone: Backbone, prompt: Tensor, n: int, choose: Choose) -> Tensor:
    """[B, P] -> [B, n]: one token after the other, the prompt read once."""
    if n == 0:
        return prompt[:, :0]
    hidden, state = backbone.start(backbone.embed(prompt), steps=n - 1)
    chosen = [choose(backbone.logits(hidden))]
    while len(chosen) < n:
        hidden, state = backbone.step(backbone.embed(chosen[-1]), state)
        chosen.append(choose(backbone.logits(hidden)))
    return torch.stack(chosen, 1)


def greedy(backbone: Backbone, prompt: Tensor, n: int) -> Tensor:
    """[B, P] -> [B, n]: the likeliest token at every step, the prompt read once."""
    return decode(backbone, prompt, n, likeliest)


def likeliest(logits: Tensor) -> Tensor:
    """[..., V] -> [...]: the likeliest tokens."""
    return logits.argmax(-1)


def drawn(temperature: float, rng: torch.Generator) -> Choose:
    """Draws tokens with probabilities softmax(logits / temperature) over the whole vocabulary.

    ``rng`` may lie on another device than the logits. Raises ``RequestError`` on a temperature that is not above 0.
    """
    if not temperature > 0:
        raise RequestError(f"temperature={temperature} must be above 0; decoding without chance is greedy")

    def choose(logits: Tensor) -> Tensor:
        # The least of exponential variables at these rates is each token's with its probability.
        waits = torch.empty(logits.shape, device=rng.device).exponential_(generator=rng).to(logits.device)
        return ((logits.float() / temperature).log_softmax(-1) - waits.log()).argmax(-1)

    return choose
