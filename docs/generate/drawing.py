"""An objective's drawing: inputs, what reads them, and above each input what is predicted there.

It is read from the lines under ``Drawing:`` in the module's docstring. Every drawing shows one row whose prompt has
three tokens, p1 to p3, and whose answer has four, a1 to a4. A line is a name, two spaces or more, and words separated
by single spaces, one for each input; ``~`` in front of a name or an input says that decoding does without it:

* ``fed`` begins a stream of inputs: ``p1``, ``a2``, or any symbol of the objective's own. ``title``, ``reader`` (the
  backbone) and ``reads`` (causal, full or mask) describe it; ``@name`` is a row of notes below it.
* any other name is a lane of predictions, with the part of the loss in brackets where it has another name: ``.``
  nothing, ``a1`` a token, ``a1>a2>a3`` an order (``*`` is every symbol but those named), ``{a2,a3}`` a set, ``{}`` the
  empty one, ``a1|a4`` a pair of tokens of which decoding uses the first, ``(a1)`` the state that belongs to an input.
* ``+`` is what the lane above reads besides the state of the input below: ``.``, ``a1`` or ``a1,a2``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

PROMPT, ANSWER = ("p1", "p2", "p3"), ("a1", "a2", "a3", "a4")
HEIGHT, SMALL, CHIP, GAP = 30.0, 22.0, 22.0, 24.0
"""Of a cell, of one among several, of what is read besides, and between lanes, in pixels."""


@dataclass(frozen=True)
class Target:
    """What is predicted from one input's state: a token, an order, a set, a pair or a state, and of which symbols."""

    kind: str
    symbols: tuple[str, ...]

    @property
    def height(self) -> float:
        """How high its cell is."""
        each = {"order": SMALL + 3, "set": SMALL}.get(self.kind) if self.symbols else None
        return HEIGHT if each is None else each * len(self.symbols) + (8 if self.kind == "set" else -3)


def parse_target(word: str) -> Target | None:
    """Reads the prediction that a word stands for; None for a full stop."""
    if word == ".":
        return None
    if word[0] in "{(":
        return Target("set" if word[0] == "{" else "state", tuple(filter(None, word[1:-1].split(","))))
    if "|" in word:
        return Target("pair", tuple(word.split("|")))
    if ">" in word and not word.endswith(">"):
        return Target("order", tuple(word.split(">")))
    return Target("token", (word,))


@dataclass
class Lane:
    """Predictions of one kind, from the states of a stream; ``part`` is the name in ``LossOut.parts``."""

    name: str
    part: str
    dropped: bool
    targets: list[Target | None]
    besides: list[tuple[str, ...]]
    foot: float = 0.0
    """Where its cells stand, from the top of the drawing."""

    @property
    def chip(self) -> float:
        """How high the cells of what it reads besides are."""
        return CHIP if any(self.besides) else 0.0


@dataclass
class Stream:
    """Inputs, what reads them, and what is predicted. A ``dropped`` one is not read at decoding at all."""

    inputs: list[str]
    only_in_training: list[bool]
    dropped: bool
    lanes: list[Lane] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)
    title: str = ""
    reader: str = "backbone"
    reads: str = "causal"
    top: float = 0.0
    band: float = 0.0
    """Where the band of what reads it begins, from the top of the drawing."""


def parse_drawing(text: str) -> list[Stream]:
    """Reads the lines of a drawing. Raises ``ValueError`` where a line has more or fewer words than its stream."""
    streams: list[Stream] = []
    for line in text.strip().splitlines():
        name, rest = re.split(r"\s{2,}", line.strip(), maxsplit=1)
        dropped, name, words = name.startswith("~"), name.removeprefix("~"), rest.split()
        if name == "fed":
            training = [dropped or word.startswith("~") for word in words]
            streams.append(Stream([word.removeprefix("~") for word in words], training, dropped))
        elif name in ("title", "reader", "reads"):
            setattr(streams[-1], name, rest)
        elif len(words) != len(streams[-1].inputs):
            raise ValueError(f"{name!r} must have one word for each of the {len(streams[-1].inputs)} inputs")
        elif name.startswith("@"):
            streams[-1].notes[name[1:]] = words
        elif name == "+":
            streams[-1].lanes[-1].besides = [() if word == "." else tuple(word.split(",")) for word in words]
        else:
            name, _, part = name.rstrip(")").partition(" (")
            targets = [parse_target(word) for word in words]
            lane = Lane(
                name, part or name.replace(" ", "-"), dropped or streams[-1].dropped, targets, [()] * len(words)
            )
            streams[-1].lanes.append(lane)
    return streams


def describe(streams: list[Stream]) -> str:
    """The drawing in words, for those who cannot see it."""
    sentences = []
    for stream in streams:
        sentences.append(f"Fed to {stream.reader}: {' '.join(stream.inputs)}.")
        for lane in stream.lanes:
            pairs = [
                f"{' '.join(target.symbols).replace('*', 'the rest') or 'none'} above {at}"
                for at, target in zip(stream.inputs, lane.targets, strict=True)
                if target is not None
            ]
            dropped = " (only in training)" if lane.dropped else ""
            sentences.append(f"Predicted, {lane.name}{dropped}: {', '.join(pairs)}.")
    return " ".join(sentences)


def draw(name: str, streams: list[Stream]) -> str:
    """Draws one objective, as an SVG file's text."""
    y = 14.0
    for stream in streams:
        stream.top = y
        y += 26 if stream.title else 0
        for lane in reversed(stream.lanes):
            lane.foot = y + lane.chip + max(target.height for target in lane.targets if target)
            y = lane.foot + GAP
        stream.band = y
        y += 72 + 19 * len(stream.notes) + 28
    width = 166 + 64 * max(len(stream.inputs) for stream in streams)
    title = f"{name}: what is fed, predicted and dropped"
    return render(
        "drawing.svg.j2", streams=streams, title=title, seen=describe(streams), width=width, height=y - 14,
        prompt=PROMPT, answer=ANSWER,
    )  # fmt: skip


def render(template: str, **values: object) -> str:
    """Fills in one of the templates beside this file."""
    loader = FileSystemLoader(Path(__file__).parent / "templates")
    environment = Environment(
        loader=loader, autoescape=template.endswith(".svg.j2"), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["short"] = lambda value: f"{value:.1f}".removesuffix(".0")
    environment.filters["symbols"] = split_symbols
    return environment.get_template(template).render(**values)


def split_symbols(words: str) -> list[tuple[str, str, str]]:
    """Plain text, and the letter and number of the symbol such as a2 that follows it; the last has none."""
    pieces = re.split(r"\b([a-z])(\d)\b", words)
    return list(zip(pieces[::3], [*pieces[1::3], ""], [*pieces[2::3], ""], strict=True))
