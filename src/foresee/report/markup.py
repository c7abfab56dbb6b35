"""The few ways in which text becomes HTML. Everything that comes from a run goes through ``text``."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from foresee.report.load import Example
from foresee.report.star import nodes_of
from foresee.report.style import Mark


def text(value: object) -> str:
    """Escaped for use in content and in quoted attributes. Characters that HTML forbids become question marks."""
    said = str(value)
    if said.isprintable():
        return escape(said, quote=True)
    shown = (each if each.isprintable() or each in "\n\t" else "\N{REPLACEMENT CHARACTER}" for each in said)
    return escape("".join(shown), quote=True)


def items(lines: Iterable[str], kind: str = "ul") -> str:
    """A list of ready-made HTML lines."""
    return f"<{kind}>" + "".join(f"<li>{line}</li>" for line in lines) + f"</{kind}>"


def swatch(mark: Mark) -> str:
    """A small square in an objective's colour."""
    return f'<span class="swatch h{mark.hue}"></span>'


def figure(svg: str, title: str = "", caption: str = "") -> str:
    """A drawing under a ready-made HTML title and over a ready-made caption; one too wide for the screen scrolls on its
    own."""
    above = f'<div class="title">{title}</div>' if title else ""
    below = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure>{above}<div class="drawing">{svg}</div>{below}</figure>'


def grid(figures: Iterable[str]) -> str:
    """Figures side by side where there is room, below one another where there is not."""
    joined = "".join(figures)
    return f'<div class="panels">{joined}</div>'


def spec(value: str) -> str:
    """A spec string that may break after its commas."""
    return f'<span class="mono">{text(value).replace(",", ",<wbr>")}</span>'


def details(summary: str, body: str) -> str:
    """A part that opens on demand; ``body`` is ready-made HTML."""
    return f"<details><summary>{text(summary)}</summary>{body}</details>"


def written(example: Example) -> str:
    """What was written, wrong symbols underlined with a wave."""
    answer = nodes_of(example.answer)
    parts = []
    for at, node in enumerate(nodes_of(example.wrote)):
        right = at < len(answer) and answer[at] == node
        kind = "right" if right else "wrong"
        parts.append(f'<span class="{kind}">{text(node)}</span>')
    shown = " → ".join(parts) or "(nothing)"
    return f'<span class="mono">{shown}</span>'
