"""Markdown as a person would have typed it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

WIDTH = 120


def wrapped(paragraph: str, bullet: str = "") -> str:
    """A paragraph, or one item of a list, in lines of at most 120 characters; links and words stay whole."""
    return textwrap.fill(
        bullet + paragraph,
        WIDTH,
        subsequent_indent=" " * len(bullet),
        break_long_words=False,
        break_on_hyphens=False,
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [f"| {' | '.join(cells)} |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---" * len(head) + "|", *lines[1:]])
