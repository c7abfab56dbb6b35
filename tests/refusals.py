"""What every refusal is: one sentence that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from foresee.core.errors import RequestError


@contextmanager
def refused(*words: str) -> Iterator[pytest.ExceptionInfo[RequestError]]:
    """Fails unless what is done within is refused, in one sentence that holds these words."""
    with pytest.raises(RequestError) as caught:
        yield caught
    said = str(caught.value)
    assert "\n" not in said
    assert not [each for each in words if each not in said], said
