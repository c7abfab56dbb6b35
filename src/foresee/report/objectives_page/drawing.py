"""An objective's diagram as a picture: inputs, what reads them, and above each input what is predicted there."""

from __future__ import annotations

from foresee.objectives.diagram import Diagram, Lane, Stream, Target
from foresee.report.objectives_page.shapes import (
    FED_ANSWER,
    FED_OTHER,
    FED_PROMPT,
    PREDICTED,
    READER,
    STATE,
    Look,
    absent,
    arrow,
    cell,
    document,
    fed_look,
    line,
    number,
    written,
)
from foresee.report.style import FAINT, INK, QUIET

LEFT, RIGHT, EDGE = 148.0, 18.0, 16.0
PITCH, WIDTH, HEIGHT = 64.0, 48.0, 30.0
SMALL, CHIP, GAP = 22.0, 19.0, 24.0
READS = {
    "causal": "reads left to right →",
    "full": "← reads both ways →",
    "mask": "reads left to right; nothing else reads an r →",
}
SAYS = {"order": "ranked, first on top", "set": "in no order", "pair": "", "token": "", "state": ""}


def draw(name: str, diagram: Diagram) -> str:
    """The drawing of one objective, an SVG file's text."""
    columns = max(len(stream.inputs) for stream in diagram.streams)
    width = LEFT + columns * PITCH + RIGHT
    body: list[str] = []
    y = 14.0
    for index, stream in enumerate(diagram.streams):
        if index:
            body.append(
                f'<path d="M{number(EDGE)} {number(y)}H{number(width - EDGE)}" stroke="{FAINT}" stroke-width="1"/>'
            )
            y += 14
        parts, height = _stream(stream, y)
        body += parts
        y += height + 14
    return document(width, y, f"{name}: what is fed, predicted and dropped", describe(diagram), body)


def describe(diagram: Diagram) -> str:
    """The drawing in words, for those who cannot see it."""
    said = []
    for stream in diagram.streams:
        said.append(f"Fed to {stream.reader}: {' '.join(stream.inputs)}.")
        for lane in stream.lanes:
            pairs = [
                f"{' '.join(target.symbols).replace('*', 'the rest') or 'none'} above {at}"
                for at, target in zip(stream.inputs, lane.targets, strict=True)
                if target is not None
            ]
            dropped = " (only in training)" if lane.dropped or stream.dropped else ""
            said.append(f"Predicted, {lane.name}{dropped}: {', '.join(pairs)}.")
    return " ".join(said)


def _column(index: int) -> float:
    return LEFT + (index + 0.5) * PITCH


def _stream(stream: Stream, top: float) -> tuple[list[str], float]:
    """What to draw from ``top`` downwards, and how high it is."""
    behind: list[str] = []
    front: list[str] = []
    y = top
    if stream.title:
        title = stream.title + (" (only in training)" if stream.dropped else "")
        front.append(written(EDGE, y + 11, title, 12.5, QUIET, "start"))
        y += 26
    bases = []
    for lane in reversed(stream.lanes):
        height = _lane_height(lane)
        front += _lane(lane, y, height, stream.dropped)
        y += height
        bases.append((lane, y))
        y += GAP
    band, fed = y, y + 26 + 16
    for place, (lane, base) in enumerate(reversed(bases)):
        below = [other.targets for other, _ in bases[len(bases) - place :]]
        for index, target in enumerate(lane.targets):
            if target is not None:
                blocked = any(targets[index] is not None for targets in below)
                aside = PITCH / 2 + 4 * (place - 2) if blocked else 0.0
                behind.append(arrow(_column(index), band, base + 2, lane.dropped or stream.dropped, aside))
    span = len(stream.inputs) * PITCH
    front.append(cell(LEFT + span / 2, band, span - 4, 26, "", READER))
    says = f"{stream.reader}: {READS[stream.reads]}"
    front.append(written(LEFT + span / 2, band + 17.5, says, 12, QUIET))
    for index, (symbol, training) in enumerate(zip(stream.inputs, stream.only_in_training, strict=True)):
        look = absent(fed_look(symbol)) if training else fed_look(symbol)
        behind.append(line(_column(index), fed, band + 26))
        front.append(cell(_column(index), fed, WIDTH, HEIGHT, symbol, look))
    front.append(written(EDGE, fed + 20, "fed", 12.5, INK, "start", bold=True))
    y = fed + HEIGHT
    for name, words in stream.notes:
        front.append(written(EDGE, y + 16, name, 11.5, QUIET, "start"))
        front += [written(_column(index), y + 16, word, 12, QUIET) for index, word in enumerate(words.split())]
        y += 19
    return behind + front, y - top


def _lane_height(lane: Lane) -> float:
    tallest = max(_target_height(target) for target in lane.targets if target is not None)
    return tallest + (CHIP + 3 if lane.shown else 0)


def _target_height(target: Target) -> float:
    if target.kind in ("order", "set") and target.symbols:
        return (SMALL + 3) * len(target.symbols) - 3 if target.kind == "order" else SMALL * len(target.symbols) + 8
    return HEIGHT


def _lane(lane: Lane, top: float, height: float, stream_dropped: bool) -> list[str]:
    """One lane's cells, standing on ``top + height``, and its name."""
    dropped = lane.dropped or stream_dropped
    bottom = top + height
    middle = bottom - HEIGHT / 2 - (CHIP + 3 if lane.shown else 0)
    kinds = {target.kind for target in lane.targets if target is not None}
    says = [words for words in (*map(SAYS.get, sorted(kinds)), "only in training" if dropped else "") if words]
    parts = [written(EDGE, middle + 5 - 6 * len(says), lane.name, 12.5, INK, "start", True)]
    parts += [
        written(EDGE, middle + 19 - 6 * len(says) + 13 * place, words, 11, QUIET, "start")
        for place, words in enumerate(says)
    ]
    if lane.shown:
        parts.append(written(EDGE, bottom - 5, "shown besides", 11, QUIET, "start"))
    for index, (target, extra) in enumerate(zip(lane.targets, lane.extra, strict=True)):
        if target is None:
            continue
        x, foot = _column(index), bottom
        if extra:
            foot -= CHIP + 3
            width = min(PITCH - 6, WIDTH if len(extra) == 1 else PITCH - 8)
            look = FED_ANSWER if extra[-1].startswith("a") else FED_PROMPT
            parts.append(cell(x, foot + 3, width, CHIP, "+ " + " ".join(extra), look, 12))
        parts += _target(target, x, foot, dropped)
    return parts


def _target(target: Target, x: float, foot: float, dropped: bool) -> list[str]:
    """A prediction whose lower edge is at ``foot``."""
    look = absent(PREDICTED) if dropped else PREDICTED
    top = foot - _target_height(target)
    if target.kind == "pair":
        first, second = target.symbols
        half = (WIDTH + 4) / 2
        return [
            cell(x - half / 2 - 0.5, top, half - 1, HEIGHT, first, look, 14),
            cell(x + half / 2 + 0.5, top, half - 1, HEIGHT, second, absent(PREDICTED), 14),
        ]
    if target.kind == "state":
        return [_state(x, top, WIDTH, HEIGHT, target.symbols[0], absent(STATE) if dropped else STATE)]
    if target.kind == "order":
        return [
            cell(x, top + (SMALL + 3) * place, WIDTH, SMALL, "rest" if symbol == "*" else symbol,
                 READER if symbol == "*" else look, 13)
            for place, symbol in enumerate(target.symbols)
        ]  # fmt: skip
    if target.kind == "set":
        if not target.symbols:
            return [cell(x, top, WIDTH, HEIGHT, "none", look, 12)]
        bag = cell(x, top, WIDTH, _target_height(target), "", look)
        return [bag] + [
            written(x, top + SMALL * place + 20, symbol, 14, look.ink) for place, symbol in enumerate(target.symbols)
        ]
    return [cell(x, top, WIDTH, HEIGHT, target.symbols[0], look)]


def _state(x: float, top: float, width: float, height: float, symbol: str, look: Look) -> str:
    """A cell with round ends."""
    dash = ' stroke-dasharray="4 2.6"' if look.dashed else ""
    box = (
        f'<rect x="{number(x - width / 2)}" y="{number(top)}" width="{number(width)}" height="{number(height)}" '
        f'rx="{number(height / 2)}" fill="{look.fill}" stroke="{look.edge}" stroke-width="1.4"{dash}/>'
    )
    return box + written(x, top + height / 2 + 5, symbol, 15, look.ink)


def legend() -> str:
    """How the drawings are read."""
    entries = (
        ("p1", FED_PROMPT, "prompt"),
        ("a1", FED_ANSWER, "true answer token, fed"),
        ("$", FED_OTHER, "any other input"),
        ("a2", PREDICTED, "predicted there"),
        ("a2", absent(PREDICTED), "dashed: only in training"),
        ("a2", STATE, "a token's state"),
    )
    body = []
    x = 14.0
    for symbol, look, words in entries:
        box = _state if look is STATE else cell
        body.append(box(x + 20, 12, 40, 28, symbol, look))
        body.append(written(x + 47, 31, words, 13, INK, "start"))
        x += 74 + 6.3 * len(words)
    return document(x + 2, 52, "How the drawings are read", "; ".join(f"{what[2]}" for what in entries), body)
