"""What text forms of several tasks share: lists of symbols, numbers of nodes, and fixed prompts.

Every reason is raised as a ``RequestError`` of one sentence that names neither file nor line.
"""

from __future__ import annotations

from collections.abc import Sequence

from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.tasks.path_star_text import label_table, not_a_label, shown

__all__ = ["edges", "labels", "require_prompt", "shown", "symbols"]


def require_prompt(prompt: Sequence[int], right: Sequence[int], task: str) -> None:
    """Raises ``RequestError`` unless a prompt is the only one that the task has."""
    if [int(token) for token in prompt] != list(right):
        raise RequestError(f"{task}: the prompt holds the tokens {list(prompt)}, but must hold {list(right)}")


def symbols(text: str, vocab: Vocabulary, delimiters: str = "") -> list[str]:
    """Symbols joined by commas, none for an empty text. Raises ``RequestError`` for one that is not in the vocabulary
    or is one of ``delimiters``."""
    found = text.split(",") if text else []
    for place, symbol in enumerate(found, start=1):
        if symbol not in vocab or (symbol and symbol in delimiters):
            raise RequestError(f"{shown(symbol)} stands at place {place} of the answer, but is not a symbol of it")
    return found


def labels(text: str, nodes: int, part: str) -> list[int]:
    """Labels below ``nodes`` joined by commas, none for an empty text; ``part`` says where they stand."""
    known = label_table(nodes)
    try:
        return [known[label] for label in text.split(",")] if text else []
    except KeyError as error:
        raise not_a_label(error.args[0], nodes, part) from None


def edges(text: str, nodes: int) -> list[tuple[int, int]]:
    """Edges ``u,v|u,v|...`` of labels below ``nodes``, none for an empty text."""
    found: list[tuple[int, int]] = []
    for edge in text.split("|") if text else []:
        pair = labels(edge, nodes, f"edge {len(found) + 1}")
        if len(pair) != 2:
            raise RequestError(
                f"edge {len(found) + 1} is {shown(edge)}, but an edge is two labels joined by a comma, as in 3,1"
            )
        found.append((pair[0], pair[1]))
    return found
