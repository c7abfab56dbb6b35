"""Incremental decoding on a model of the transformers library.

``start`` reads the prefix into the cache that the model makes for itself, ``step`` feeds one token at a time (Mamba and
its like restart when continued with more), ``fork`` repeats the cache's rows by the library's own reordering. Whether
that gives what reading the whole sequence gives is tried when the backbone is built. Some models keep their cache where
it cannot be forked, or compute something else with it: they read the whole sequence again at every step instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from foresee.backbones.hf_reading import REFUSALS

CACHE_NAMES = ("past_key_values", "cache_params")
"""What families call the cache in their ``forward`` and its output."""

CLOSE = 1e-4
"""Largest relative difference between final states with a cache and without; both are float32."""


@dataclass
class DecodingState:
    """``kept`` is a cache of the library, or all inputs so far [B, T, D]."""

    kept: Any
    rows: int
    length: int


class Decoder(Protocol):
    """The incremental part of a backbone, given inputs in its own dtype."""

    def start(self, x: Tensor) -> tuple[Tensor, DecodingState]:
        """[B, T, D] -> (final state of the last position [B, D], state)."""

    def step(self, x: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        """[B, D] and a state -> (final state [B, D], state)."""

    def fork(self, state: DecodingState, n: int) -> DecodingState:
        """``n`` copies of every row, row-major."""


class WithCache:
    """Decoding with the cache of ``body``, which calls it ``name``."""

    def __init__(self, body: Callable[..., Any], name: str) -> None:
        self.body, self.name = body, name

    def start(self, x: Tensor) -> tuple[Tensor, DecodingState]:
        out = self.body(inputs_embeds=x, use_cache=True, return_dict=True)
        return out[0][:, -1], DecodingState(out[self.name], len(x), x.shape[1])

    def step(self, x: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        cache = {self.name: state.kept}
        out = self.body(inputs_embeds=x[:, None], use_cache=True, return_dict=True, **cache)
        return out[0][:, -1], DecodingState(out[self.name], state.rows, state.length + 1)

    def fork(self, state: DecodingState, n: int) -> DecodingState:
        order = torch.arange(state.rows).repeat_interleave(n)
        # In place: the state that was given is spent.
        state.kept.reorder_cache(order)
        return DecodingState(state.kept, state.rows * n, state.length)


class ReadAgain:
    """Decoding by reading the whole sequence at every step, with ``read``: [B, T, D] -> [B, T, D]."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        self.read = read

    def start(self, x: Tensor) -> tuple[Tensor, DecodingState]:
        return self.read(x)[:, -1], DecodingState(x, len(x), x.shape[1])

    def step(self, x: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        return self.start(torch.cat((state.kept, x[:, None]), 1))

    def fork(self, state: DecodingState, n: int) -> DecodingState:
        return DecodingState(state.kept.repeat_interleave(n, 0), state.rows * n, state.length)


def choose_decoder(body: Any, read: Callable[[Tensor], Tensor], x: Tensor) -> Decoder:
    """With a cache where ``body`` has one that agrees with ``read`` on x [B, T, D], else by reading again."""
    taken = inspect.signature(body.forward).parameters
    for name in CACHE_NAMES:
        if name in taken and agrees(WithCache(body, name), read, x):
            return WithCache(body, name)
    return ReadAgain(read)


@torch.no_grad()
def agrees(decoder: Decoder, read: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether reading a prefix of x [B, T, D], forking it into two, and going on token by token gives what ``read``
    gives for whole sequences. T is at least 2."""
    prefix, n = x.shape[1] // 2, 2
    # The forks of a row go on differently, so that a mix-up of rows shows.
    whole = x.repeat_interleave(n, 0)
    whole[1::n, prefix:] = whole[1::n, prefix:].flip(-1)
    expected = read(whole)
    scale = expected.abs().max()
    try:
        hidden, state = decoder.start(x[:, :prefix])
        found = [hidden.repeat_interleave(n, 0)]
        state = decoder.fork(state, n)
        for position in range(prefix, x.shape[1]):
            hidden, state = decoder.step(whole[:, position], state)
            found.append(hidden)
    except REFUSALS:
        return False
    differences = (torch.stack(found, 1) - expected[:, prefix - 1 :]).abs().max()
    return bool(differences <= CLOSE * scale)
