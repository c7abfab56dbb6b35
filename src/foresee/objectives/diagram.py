"""What an objective feeds, predicts and drops, written down so that it can be drawn and checked.

Every diagram shows one row whose prompt has three tokens, p1 to p3, and whose answer has four, a1 to a4. A stream is
one reading of inputs; its lanes stand above it, and a lane says for each input what is predicted there. Words are
separated by spaces, one for each input:

* inputs: ``p1``, ``a2``, or any symbol of the objective's own (``$``, ``<mask>``). ``~`` in front says that decoding
  does not feed it.
* predictions: ``.`` nothing, ``a1`` a token, ``a1>a2>a3`` an order (``*`` is every symbol but those named), ``{a2,a3}``
  a set, ``{}`` the empty one, ``a1|a4`` a pair of tokens of which decoding uses the first, ``(a1)`` the state that
  belongs to an input.
* what is shown besides the state of the input below, for the prediction above it: ``.``, ``a1`` or ``a1,a2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PROMPT, ANSWER = ("p1", "p2", "p3"), ("a1", "a2", "a3", "a4")

Kind = Literal["token", "order", "set", "pair", "state"]


@dataclass(frozen=True)
class Target:
    """What is predicted from one input's state."""

    kind: Kind
    symbols: tuple[str, ...]

    @staticmethod
    def read(word: str) -> Target | None:
        """The prediction that a word stands for; None for a full stop."""
        if word == ".":
            return None
        if word.startswith("{"):
            return Target("set", tuple(filter(None, word.strip("{}").split(","))))
        if word.startswith("("):
            return Target("state", (word.strip("()"),))
        if "|" in word:
            return Target("pair", tuple(word.split("|")))
        if ">" in word and not word.endswith(">"):
            return Target("order", tuple(word.split(">")))
        return Target("token", (word,))


@dataclass(frozen=True)
class Lane:
    """Predictions of one kind, from the states of a stream.

    ``part`` is the name that the objective's ``LossOut.parts`` gives their loss; ``shown`` is empty where nothing but
    the state is read. ``dropped`` lanes are not computed at decoding.
    """

    name: str
    part: str
    predicts: str
    shown: str = ""
    dropped: bool = False

    @property
    def targets(self) -> tuple[Target | None, ...]:
        """One for each input of the stream."""
        return tuple(map(Target.read, self.predicts.split()))

    @property
    def extra(self) -> tuple[tuple[str, ...], ...]:
        """What is shown besides, for each input of the stream."""
        if not self.shown:
            return ((),) * len(self.targets)
        return tuple(() if word == "." else tuple(word.split(",")) for word in self.shown.split())


@dataclass(frozen=True)
class Stream:
    """Inputs, what reads them, and what is predicted. ``notes`` are rows of words below the inputs, each with a name.

    A ``dropped`` stream is not read at decoding at all.
    """

    fed: str
    lanes: tuple[Lane, ...] = ()
    reads: Literal["causal", "full", "mask"] = "causal"
    reader: str = "backbone"
    notes: tuple[tuple[str, str], ...] = ()
    title: str = ""
    dropped: bool = False

    def __post_init__(self) -> None:
        for lane in self.lanes:
            if not len(self.inputs) == len(lane.targets) == len(lane.extra):
                raise ValueError(f"lane {lane.name!r} must have one word for each of the {len(self.inputs)} inputs")
        for name, words in self.notes:
            if len(words.split()) != len(self.inputs):
                raise ValueError(f"note {name!r} must have one word for each of the {len(self.inputs)} inputs")

    @property
    def inputs(self) -> tuple[str, ...]:
        """The symbols that are fed."""
        return tuple(word.removeprefix("~") for word in self.fed.split())

    @property
    def only_in_training(self) -> tuple[bool, ...]:
        """For each input, whether decoding does without it."""
        return tuple(self.dropped or word.startswith("~") for word in self.fed.split())


@dataclass(frozen=True)
class Diagram:
    """One small drawing of an objective. ``options`` are those it is drawn for, as a spec has them; empty for the
    defaults."""

    streams: tuple[Stream, ...]
    options: str = ""
