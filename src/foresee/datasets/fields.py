"""What of a row is its prompt and its response: fields, nested ones too, templates over several, and conversations."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple, SupportsFloat

from foresee.core.errors import RequestError


class BadRowError(ValueError):
    """Why a row is bad: ``kind`` is the same words for every row that is bad in that way, ``reason`` is in full."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason


Record = dict[str, Any] | BadRowError
FIELD = r"\{([^{}]+)\}"
"""A field in a template."""


class Fields(NamedTuple):
    """What of a row is its prompt and its response; the task ``data`` says what each means."""

    prompt: str
    answer: str
    template: str | None = None
    turns: Literal["last", "all"] = "last"

    def names(self, known: Iterable[str]) -> list[str]:
        """Which of the ``known`` fields are read: the outermost of nested ones."""
        known = list(known)
        prompts = re.findall(FIELD, self.template) if self.template else [self.prompt]
        chat = [name for name in CHATS if name in known]
        if chat and not self.template and _outermost(self.prompt, known) not in known:
            return chat[:1]
        return list(dict.fromkeys(_outermost(name, known) for name in (*prompts, self.answer)))

    def pairs(self, row: Record) -> Iterator[tuple[str, str]]:
        """Prompt and response of a row; several of a conversation with ``turns`` all. Raises ``BadRowError``."""
        if isinstance(row, BadRowError):
            raise row
        if (chat := self.names(row)[0]) in CHATS and chat in row and isinstance(row[chat], list):
            yield from _turns(chat, row[chat], self.turns == "all")
            return
        if self.template:
            lines = self.template.replace("\\n", "\n").replace("\\t", "\t")
            prompt = re.sub(FIELD, lambda found: text_of(row, found[1], True), lines)
        else:
            prompt = text_of(row, self.prompt, True)
        yield prompt, text_of(row, self.answer)


def check_template(template: str) -> None:
    """Raises ``RequestError`` on a template that names no field, or has a brace that names none."""
    others, fields = re.subn(FIELD, "", template)
    if not fields or {*"{}"} & {*others}:
        what = "has a brace that names no field" if fields else "names no field"
        raise RequestError(f"template {template!r} {what}; write fields in braces, as in '{{instruction}}\\n{{input}}'")


CHATS = ("messages", "conversations")
ASSISTANTS = ("assistant", "gpt", "model", "bot")


def _outermost(name: str, known: Collection[str]) -> str:
    return name if name in known else name.partition(".")[0]


def _turns(field: str, turns: list[Any], every: bool) -> Iterator[tuple[str, str]]:
    """Each answer of a conversation with what came before it, or the last one. What came before is its text where it is
    one turn of the user, and otherwise a line a turn that begins with who speaks."""
    said: list[tuple[str, str]] = []
    for turn in turns:
        speaks = turn if isinstance(turn, dict) else {}
        role, text = speaks.get("role", speaks.get("from")), speaks.get("content", speaks.get("value"))
        if isinstance(text, list):  # of parts, of which some hold text
            text = "".join(str(part.get("text", "")) for part in text if isinstance(part, dict))
        if not isinstance(role, str) or not isinstance(text, str):
            raise BadRowError("not a chat", f"a turn of {field!r} lacks who speaks (role) or what is said (content)")
        said.append((role, text))
    answers = [place for place, (role, _) in enumerate(said) if role in ASSISTANTS]
    if not answers:
        raise BadRowError("not a chat", f"no turn of {field!r} is the assistant's")
    for place in answers if every else answers[-1:]:
        before = said[:place]
        alone = len(before) == 1 and before[0][0] in ("user", "human")
        prompt = before[0][1] if alone else "\n".join(f"{role}: {text}" for role, text in before)
        yield text_of({"prompt": prompt}, "prompt", True), text_of({field: said[place][1]}, field)


def _look_up(row: Mapping[str, Any], field: str) -> Any:
    """The value of a field; ``a.b`` is that of ``b`` within ``a``, and ``a.0`` the first of a list."""
    if field in row:
        return row[field]
    found: Any = row
    for part in field.split("."):
        if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
            found = found[int(part)]
        elif isinstance(found, dict) and part in found:
            found = found[part]
        else:
            raise BadRowError(
                "missing field", f"there is no field {field!r}; the fields are {', '.join(map(repr, row))}"
            )
    return found


def text_of(row: Mapping[str, Any], field: str, may_be_empty: bool = False) -> str:
    """Reads the text of a field: strings as they are, numbers as they are written. Raises ``BadRowError``."""
    value = _look_up(row, field)
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    if isinstance(value, str):
        if not may_be_empty and (not value or value.isspace()):
            raise BadRowError("empty field", f"field {field!r} is {'blank' if value else 'empty'}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = ord(value[error.start])
            what = f"half a surrogate pair (\\u{code:04x}), which is no text"
            if 0xDC80 <= code <= 0xDCFF:  # how surrogateescape keeps a byte that is no UTF-8
                what = f"the byte 0x{code - 0xDC00:02X}, which is not UTF-8 text"
            raise BadRowError("undecodable bytes", f"field {field!r} holds {what}") from None
        return value
    if value is None:
        raise BadRowError("missing field", f"field {field!r} is null")
    if isinstance(value, list | dict):
        what = "a list" if isinstance(value, list) else "an object"
        raise BadRowError("nested value", f"field {field!r} holds {what}; it must hold text or a number")
    if isinstance(value, bool) or not isinstance(value, SupportsFloat) or not math.isfinite(value):
        raise BadRowError("wrong type", f"field {field!r} is {str(value).lower()}; it must hold text or a number")
    return str(value)
