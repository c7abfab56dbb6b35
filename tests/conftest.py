"""Rules that hold for every test: no global random state is touched, and Hypothesis repeats itself."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
import rich.style  # noqa: F401  # it draws from a global random generator once, when it is imported
import torch
from hypothesis import settings

# The same examples on every run and no deadline: no test depends on luck or on a clock.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None, max_examples=50)
settings.load_profile("repeatable")

pytest_plugins = ("browser", "program")


def pytest_configure() -> None:
    """One thread here and in child processes, so that sums are made in one order and small models run fastest."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)


def global_random_states() -> dict[str, Any]:
    """The state of every global random generator that a test could disturb."""
    legacy = numpy.random.get_state(legacy=False)  # noqa: NPY002  # watched, so that nothing uses it
    return {
        "random": random.getstate(),
        "numpy.random": (
            legacy["state"]["key"].tobytes(),
            legacy["state"]["pos"],
            legacy["has_gauss"],
            legacy["gauss"],
        ),
        "torch": bytes(torch.get_rng_state().numpy()),
    }


@pytest.fixture(scope="session", autouse=True)
def _cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Files that users' data are cut into belong to this run of the tests, not to the user's cache."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("FORESEE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def _global_random_state_is_untouched() -> Iterator[None]:
    """Fails a test that draws from, or seeds, a global random generator.

    Third-party code that cannot be told otherwise (weights initialised by transformers) goes inside
    ``torch.random.fork_rng()``.
    """
    before = global_random_states()
    yield
    after = global_random_states()
    touched = [name for name, state in before.items() if after[name] != state]
    assert not touched, f"global random state changed: {', '.join(touched)}"
