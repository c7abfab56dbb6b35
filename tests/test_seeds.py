"""Streams are reproducible, independent and free of global state."""

from __future__ import annotations

import threading
import time

import numpy
import pytest
import torch
from conftest import global_random_states
from hypothesis import given
from hypothesis import strategies as st

from foresee.core.seeds import digest, global_stream_from, stream, torch_stream

KEYS = st.lists(st.one_of(st.text(max_size=6), st.integers(-(2**40), 2**40)), max_size=4).map(tuple)


def test_digest_is_the_hash_of_the_key_as_json_and_streams_never_change() -> None:
    """A change here changes every data set and every set of initial weights that was ever published."""
    # sha256 of '["data", "path-star", "train", 0, 3]', worked out with sha256sum.
    expected = "0e8755a66d497db8a42be2f052aacbd76f4adf34c2284ee7f457076a62a61135"
    assert digest("data", "path-star", "train", 0, 3).hex() == expected
    assert digest("a", numpy.int64(5)) == digest("a", 5)  # type: ignore[arg-type]  # NumPy's numbers are as Python's
    numbers = stream("data", "path-star", "train", 0, 3).integers(0, 1_000_000, 4)
    assert numbers.tolist() == [512367, 315532, 497877, 368708]
    drawn = torch.randint(0, 1_000_000, (4,), generator=torch_stream("weights", "gpt-nano", 0))
    assert drawn.tolist() == [28206, 402095, 168155, 843524]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a", "bc"), ("ab", "c")),
        (("a", "b"), ("a,b",)),
        ((1,), ("1",)),
        ((0,), (1,)),
        (("a", 1, 2), ("a", 2, 1)),
        (("a",), ("a", "")),
        ((), ("",)),
        (('a", "b',), ("a", "b")),
    ],
)
def test_keys_that_look_alike_are_apart(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert digest(*one) != digest(*other)
    assert not numpy.array_equal(stream(*one).random(8), stream(*other).random(8))
    assert not torch.equal(torch.rand(8, generator=torch_stream(*one)), torch.rand(8, generator=torch_stream(*other)))


@given(KEYS, KEYS)
def test_digests_are_equal_exactly_where_keys_are(one: tuple[str | int, ...], other: tuple[str | int, ...]) -> None:
    assert (digest(*one) == digest(*other)) == (one == other)


def test_neighbouring_streams_are_uncorrelated() -> None:
    draws = numpy.stack([stream("data", seed, block).standard_normal(2000) for seed in range(8) for block in range(8)])
    correlation = numpy.asarray(numpy.corrcoef(draws))[numpy.triu_indices(64, k=1)]
    # 2016 pairs with a standard deviation of 1/sqrt(2000) each: 5 of them leave room for no real dependence.
    assert numpy.abs(correlation).max() < 5 / numpy.sqrt(2000)


def test_global_states_are_neither_read_nor_written() -> None:
    before = global_random_states()
    expected = torch.rand(4, generator=torch_stream("a"))
    stream("a").random(4)
    assert global_random_states() == before
    assert numpy.array_equal(stream("a").random(8), stream("a").random(8))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        assert torch.equal(torch.rand(4, generator=torch_stream("a")), expected)


def test_the_global_stream_is_lent_and_given_back() -> None:
    def drawn(key: str) -> torch.Tensor:
        with global_stream_from(torch_stream(key)):
            return torch.rand(3)

    def fail_within() -> None:
        with global_stream_from(torch_stream("one")):
            raise ValueError(f"{torch.rand(1)}")

    before = torch.get_rng_state()
    assert torch.equal(drawn("one"), drawn("one"))
    assert not torch.equal(drawn("one"), drawn("other"))
    with pytest.raises(ValueError, match="tensor"):
        fail_within()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_global_stream_is_lent_to_one_thread_at_a_time() -> None:
    entered, drawn = threading.Event(), dict[str, list[float]]()

    def draw(key: str, seconds: float = 0) -> None:
        with global_stream_from(torch_stream(key)):
            entered.set()
            time.sleep(seconds)
            drawn[key] = torch.rand(3).tolist()

    draw("one")
    draw("two")
    alone, before = dict(drawn), torch.get_rng_state()
    entered.clear()
    other = threading.Thread(target=draw, args=("one", 0.2))
    other.start()
    entered.wait(10)
    draw("two", 0.4)
    other.join()
    assert drawn == alone
    assert torch.equal(torch.get_rng_state(), before)
