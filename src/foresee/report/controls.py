"""The page's controls. They are hidden until its script runs; without it everything is shown."""

from __future__ import annotations

from collections.abc import Sequence

from foresee.report.book import Book
from foresee.report.markup import swatch, text
from foresee.report.pick import Shown
from foresee.report.words import Section


def contents(sections: Sequence[Section]) -> str:
    """Links to the sections."""
    links = "".join(f'<a href="#{each.name}">{each.heading}</a>' for each in sections if each.heading)
    return f'<nav aria-label="Contents">{links}</nav>'


def toolbar(book: Book) -> str:
    """What holds for the whole page: objectives and seeds shown, sections open or closed, light or dark."""
    boxes = "".join(
        f'<label><input type="checkbox" checked value="{place}">{swatch(book.marks[name])}'
        f"<span>{text(book.labels[name])}</span></label>"
        for name, place in book.places.items()
    )
    found = sorted({record.seed for record in book.records})
    seeds = "".join(f'<option value="{seed}">seed {seed}</option>' for seed in found)
    parts = []
    if len(book.places) > 1:
        parts.append(
            f'<details class="pick" id="objectives"><summary>Objectives <span class="count">all {len(book.places)}'
            f'</span></summary><div class="choices"><p><button type="button" data-all="1">all</button>'
            f'<button type="button" data-all="">none</button></p>{boxes}</div></details>'
        )
    if len(found) > 1:
        parts.append(
            f'<label>Seeds <select id="seeds"><option value="">all {len(found)}</option>{seeds}</select></label>'
        )
    parts.append('<button type="button" id="fold">Close all</button>')
    parts.append(
        '<label>Colours <select id="theme"><option value="">as the system</option><option value="light">light</option>'
        '<option value="dark">dark</option></select></label>'
    )
    return f'<div class="toolbar" hidden>{"".join(parts)}</div>'


def of_examples(book: Book, shown: Sequence[Shown]) -> str:
    """What one anatomy shows: which example, objective and seed, forced or free, and which head."""
    panels = [panel for each in shown for panel in each.panels]
    parts = []
    if len(shown) > 1:
        options = "".join(f'<option value="{at}">{at + 1} of {len(shown)}</option>' for at in range(len(shown)))
        parts.append(f'<label>Example <select data-control="example">{options}</select></label>')
    names = list(dict.fromkeys(panel.group.name for panel in panels))
    if len(names) > 1:
        options = "".join(f'<option value="{book.places[name]}">{text(book.labels[name])}</option>' for name in names)
        parts.append(
            '<label>Objective <select data-control="objective"><option value="">all, side by side</option>'
            f"{options}</select></label>"
        )
    seeds = sorted({panel.run.record.seed for panel in panels})
    if len(seeds) > 1:
        options = "".join(f'<option value="{seed}">{seed}</option>' for seed in seeds)
        parts.append(f'<label>Seed <select data-control="seed">{options}<option value="">all</option></select></label>')
    anatomies = [panel.anatomy for panel in panels if panel.anatomy is not None]
    if any(each.truth for each in anatomies) and any(each.free for each in anatomies):
        parts.append(
            '<label>Shown so far <select data-control="mode"><option value="truth">the true answer</option>'
            '<option value="free">its own writing</option><option value="">both</option></select></label>'
        )
    layers = max((len(each.layers) for each in anatomies), default=0)
    heads = max((len(layer) for each in anatomies for layer in each.layers), default=0)
    if layers * heads > 1:
        options = "".join(f'<option value="{at}">{at + 1}</option>' for at in range(layers))
        parts.append(
            f'<label>Layer <select data-control="layer"><option value="">all</option>{options}</select></label>'
        )
        options = "".join(f'<option value="{at}">{at + 1}</option>' for at in range(heads))
        parts.append(
            f'<label>Head <select data-control="head"><option value="">mean of all</option>{options}</select></label>'
        )
    return f'<div class="controls" hidden>{"".join(parts)}</div>' if parts else ""
