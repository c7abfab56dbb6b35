"""The calls that a page may make, and the strictness with which they are read: anything unforeseen is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from foresee.core.errors import RequestError
from foresee.explore.session import Json, Session

LARGEST = 2**31 - 1
LONGEST = 20_000
"""Characters of a line, and tokens of a list."""


def answer(session: Session, name: str, body: bytes) -> Json:
    """The answer to the call ``name`` with a JSON object. Raises ``RequestError`` on a wrong one."""
    if name not in CALLS:
        raise RequestError(f"there is no call {name!r}; the calls are {', '.join(CALLS)}")
    call, readers = CALLS[name]
    try:
        given = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise RequestError("the body of a call must be one JSON object in UTF-8") from None
    if not isinstance(given, dict):
        raise RequestError("the body of a call must be a JSON object, as in {}")
    for key in given:
        if key not in readers:
            raise RequestError(f"{name} does not take {key!r}; it takes {', '.join(readers) or 'nothing'}")
    for key in readers:
        if key not in given:
            raise RequestError(f"{name} lacks {key!r}; it takes {', '.join(readers)}")
    with session.turn:
        return call(session, **{key: read(given[key], key, session) for key, read in readers.items()})


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def _number(value: Any, key: str, session: Session, most: int = LARGEST) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise RequestError(f"{key} must be a whole number from 0 to {most}")
    return value


def _token(value: Any, key: str, session: Session) -> int:
    return _number(value, key, session, len(session.vocab) - 1)


def _tokens(value: Any, key: str, session: Session) -> list[int]:
    if not isinstance(value, list) or len(value) > LONGEST:
        raise RequestError(f"{key} must be a list of at most {LONGEST} tokens")
    return [_token(token, f"every token in {key}", session) for token in value]


def _line(value: Any, key: str, session: Session) -> str:
    if not isinstance(value, str) or len(value) > LONGEST:
        raise RequestError(f"{key} must be a text of at most {LONGEST} characters")
    if any(each in "\n\r" or "\ud800" <= each <= "\udfff" for each in value):
        raise RequestError(f"{key} must be one line of Unicode text")
    return value


ReadArgument = Callable[[Any, str, Session], Any]
CALLS: dict[str, tuple[Callable[..., Json], dict[str, ReadArgument]]] = {
    "run": (Session.describe, {}),
    "draw": (Session.draw, {"number": _number}),
    "read": (Session.read, {"line": _line}),
    "goal": (Session.choose_goal, {"prompt": _tokens, "goal": _token}),
    "shuffle": (Session.shuffle, {"prompt": _tokens, "number": _number}),
    "decide": (Session.decide, {"prompt": _tokens, "begun": _tokens, "ahead": _number}),
}
