"""Decoding token by token on a backbone's incremental interface: greedy, and by drawing at a temperature."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from foresee.backbones import Backbone
from foresee.core.errors import RequestError
from foresee.objectives.base import Trace

Choose = Callable[[Tensor], Tensor]
"""Logits [..., V] -> tokens [...]."""


def choose_likeliest(logits: Tensor) -> Tensor:
    """[..., V] -> [...]: the likeliest tokens."""
    return logits.argmax(-1)


def choose_at(temperature: float, rng: torch.Generator) -> Choose:
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


def decode(
    backbone: Backbone,
    x: Tensor,
    n: int,
    choose: Choose = choose_likeliest,
    *,
    embed: Callable[[Tensor, int], Tensor] | None = None,
    score: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Tensor:
    """Writes ``n`` tokens [B, n] after the inputs ``x`` [B, P, D], which are read once.

    ``embed`` makes the next input [B, D] of a token [B] and its position; by default the backbone's embedding.
    ``score`` makes logits [B, V] of a final state and the input read there [B, D]; by default the backbone's head.
    """
    if n == 0:
        return torch.empty(len(x), 0, dtype=torch.int64, device=x.device)
    state, memory = backbone.start(x, steps=n - 1)
    read = x[:, -1]
    tokens = [choose(score(state, read) if score else backbone.logits(state))]
    for position in range(x.shape[1], x.shape[1] + n - 1):
        read = embed(tokens[-1], position) if embed else backbone.embed(tokens[-1])
        state, memory = backbone.step(read, memory)
        tokens.append(choose(score(state, read) if score else backbone.logits(state)))
    return torch.stack(tokens, 1)


def decode_greedily(backbone: Backbone, prompt: Tensor, n: int) -> Tensor:
    """[B, P] -> [B, n]: the likeliest token at every step."""
    return decode(backbone, backbone.embed(prompt), n)


def trace_passes(passes: Iterable[tuple[Tensor, Tensor]]) -> Trace:
    """The trace of one answer that is filled in a few places a pass: each pass gives the places [1, K] that it filled
    and the log-probabilities [1, K, V] that it chose their tokens by."""
    filled = list(passes)
    order = torch.cat([places[0] for places, _ in filled]).argsort()
    rows = torch.cat([log_probs[0] for _, log_probs in filled])
    numbers = [torch.full_like(places[0], number) for number, (places, _) in enumerate(filled, start=1)]
    return Trace(rows[order], torch.cat(numbers)[order])
