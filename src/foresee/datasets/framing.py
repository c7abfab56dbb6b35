"""The symbols around a row's text: what begins a prompt, what stands between prompt and response, what ends it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from foresee.datasets.arrays import Array

RESPONSE, END = "<response>", "<end>"


@dataclass(frozen=True)
class Framing:
    """Tokens put before every prompt, after it, and after every response (``end``; None: nothing)."""

    before_prompt: tuple[int, ...]
    after_prompt: tuple[int, ...]
    end: int | None

    def around(self, flat: Array, ends: NDArray[numpy.int64]) -> tuple[Array, NDArray[numpy.int64]]:
        """Puts them around the texts in ``flat``, which are prompt, response, prompt, response, ... and end at
        ``ends`` [2 * rows]; gives the new tokens and ends."""
        first, then = len(self.before_prompt), len(self.after_prompt)
        lengths = numpy.diff(ends, prepend=0)
        new_lengths = lengths.copy()
        new_lengths[0::2] += first + then
        new_lengths[1::2] += len(self._after_response)
        new_ends = numpy.cumsum(new_lengths)
        starts = new_ends - new_lengths
        starts[0::2] += first
        framed = numpy.empty(int(new_ends[-1]), numpy.uint32)
        framed[numpy.arange(len(flat)) + numpy.repeat(starts - (ends - lengths), lengths)] = flat
        for token in self._after_response:
            framed[new_ends[1::2] - 1] = token
        for place, token in enumerate(self.before_prompt):
            framed[starts[0::2] - first + place] = token
        for place, token in enumerate(self.after_prompt):
            framed[new_ends[0::2] - then + place] = token
        return framed, new_ends

    @property
    def _after_response(self) -> tuple[int, ...]:
        return () if self.end is None else (self.end,)

    def prompt(self, tokens: list[int]) -> list[int]:
        """A prompt's tokens with those around them."""
        return [*self.before_prompt, *tokens, *self.after_prompt]

    def response(self, tokens: list[int]) -> list[int]:
        """A response's tokens and its end."""
        return [*tokens, *self._after_response]

    def bare_prompt(self, tokens: list[int]) -> list[int]:
        """``prompt`` backwards, where a prompt has its frame."""
        first, then = len(self.before_prompt), len(self.after_prompt)
        if first and tuple(tokens[:first]) == self.before_prompt:
            tokens = tokens[first:]
        return tokens[:-then] if then and tuple(tokens[-then:]) == self.after_prompt else tokens

    def bare_response(self, tokens: list[int]) -> list[int]:
        """What of a response comes before its end."""
        return tokens[: tokens.index(self.end)] if self.end in tokens else tokens
