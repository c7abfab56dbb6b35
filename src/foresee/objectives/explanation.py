"""What a reader is told about an objective, beside its diagram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Family(Enum):
    """What an objective does about looking ahead."""

    BASELINE = "The failure and the control"
    AHEAD = "Several tokens in advance"
    SUMMARY = "A summary of the future"
    ORDER = "Other orders and hidden inputs"


@dataclass(frozen=True)
class Explanation:
    """Plain words, in Markdown.

    ``idea`` is one paragraph: what is trained, and why that may help to look ahead. ``source`` names authors, year and
    arXiv number. ``decoding`` says how answers are written and what that costs, ``dropped`` in a few words what of
    training is not there any more.
    ``options`` gives the meaning of every option. Deviations from the source stand in the module's docstring.
    """

    family: Family
    idea: str
    source: str
    decoding: str
    dropped: str = "nothing"
    options: Mapping[str, str] = field(default_factory=dict)


def arxiv(number: str) -> str:
    """A link to a paper."""
    return f"[arXiv {number}](https://arxiv.org/abs/{number})"
