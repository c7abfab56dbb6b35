"""Random streams: every draw belongs to a named stream, and no stream depends on another.

A stream is keyed by a hash of what it is for, e.g. ``("data", task, "train", seed, block)``. So two purposes never
share numbers, nothing is ever ``seed + i``, the n-th block of a stream needs none before it (which is what makes
resuming exact and free), and no global random state is read or left changed.
"""

from __future__ import annotations

import hashlib
import json
import operator
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch

Key = str | int

_lent = threading.RLock()
"""Held by the thread that the global stream is lent to."""


def digest(*key: Key) -> bytes:
    """SHA-256 of the key; JSON keeps ``("a", "bc")`` apart from ``("ab", "c")`` and 1 apart from "1". NumPy's whole
    numbers are as Python's."""
    return hashlib.sha256(json.dumps(key, default=operator.index).encode()).digest()


def stream(*key: Key) -> numpy.random.Generator:
    """A NumPy Philox generator for this key."""
    return numpy.random.Generator(numpy.random.Philox(key=int.from_bytes(digest(*key)[:16], "little")))


def torch_stream(*key: Key, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator for this key, on ``device`` (Philox on CUDA; a keyed Mersenne twister on the CPU)."""
    return torch.Generator(device=device).manual_seed(torch_seed(*key))


def torch_seed(*key: Key) -> int:
    """What ``torch_stream`` seeds its generator with: 63 bits, since ``manual_seed`` takes a signed 64-bit number."""
    return int.from_bytes(digest(*key)[:8], "little") >> 1


def global_states() -> tuple[object, ...]:
    """What the global streams of torch and of NumPy, which nothing here may touch, would give next."""
    state: Any = numpy.random.get_state()  # noqa: NPY002  # only read
    _, words, *more = state
    return torch.default_generator.get_state().numpy().tobytes(), words.tobytes(), *more


@contextmanager
def global_stream_from(generator: torch.Generator) -> Iterator[None]:
    """For other people's code that draws only from torch's global CPU stream: within, it draws what ``generator``
    decides; afterwards the global stream stands where it stood. Other threads wait for their turn."""
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    with _lent, torch.random.fork_rng(devices=()):
        torch.default_generator.manual_seed(seed)
        yield
