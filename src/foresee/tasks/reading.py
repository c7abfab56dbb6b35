"""Reading the text forms of tasks: each reason is a ``RequestError`` of one sentence without file and line."""

from __future__ import annotations

from collections.abc import Sequence

from foresee.core.errors import RequestError
from foresee.tasks.path_star_text import shown

__all__ = ["halves", "require_count", "require_option", "require_same", "shown", "whole_number", "whole_numbers"]


def halves(line: str, form: str) -> tuple[str, str]:
    """What stands before and after the first ``=`` of a line; ``form`` is an example of a right one."""
    prompt, equals, answer = line.strip().partition("=")
    if not equals:
        raise RequestError(f"there is no '=' after the problem; a line reads {form}")
    return prompt, answer


def whole_number(text: str, least: int, most: int, where: str) -> int:
    """A number in plain digits without sign, space or leading zero."""
    if not (text.isascii() and text.isdecimal()) or (text[0] == "0" and text != "0"):
        raise RequestError(f"{shown(text)} in {where} is not a whole number written in plain digits")
    # The length first: int refuses very long strings with an error of its own.
    if len(text) > len(str(most)) or not least <= int(text) <= most:
        raise RequestError(f"{shown(text)} in {where} is out of range: it must be from {least} to {most}")
    return int(text)


def whole_numbers(text: str, least: int, most: int, where: str) -> list[int]:
    """Numbers joined by commas; an empty text holds none."""
    return [whole_number(part, least, most, where) for part in text.split(",")] if text else []


def require_count(found: int, right: int, what: str, where: str) -> None:
    """Raises unless there are as many ``what`` as there must be."""
    if found != right:
        raise RequestError(f"{where} holds {found} {what}, but must hold {right}")


def require_same(written: Sequence[str], right: Sequence[str], answer_to: str) -> None:
    """Raises unless an answer is the one right answer; says where they first differ."""
    require_count(len(written), len(right), "symbols", "the answer")
    for place, (here, there) in enumerate(zip(written, right, strict=True), 1):
        if here != there:
            raise RequestError(f"symbol {place} of the answer is {here}, but {answer_to} has {there} there")


def require_option(task: str, name: str, value: float, least: float, most: float) -> None:
    """Raises unless an option of a task lies within its range."""
    if not least <= value <= most:
        raise RequestError(f"{task}: {name}={value}, but it must be from {least} to {most}")
