"""The anatomy of an example on the page: the graph, the prompt, and every model's probabilities and attention."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from foresee.report.choose import is_right
from foresee.report.dissected import Anatomy, Step
from foresee.report.graph import StarDrawing
from foresee.report.groups import Group, Setting
from foresee.report.markup import swatch, text, written
from foresee.report.pick import Panel, Shown
from foresee.report.star import follow, nodes_of, read_star
from foresee.report.style import Mark
from foresee.report.svg import drawing

LEAST = 0.005
"""Probabilities below this are left out of the bars."""
DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
"""Attention weights for the page's controls: one sign a weight, 0 to 1 in 63 parts."""
LEVELS = 6
"""Shades of the small map of all heads."""


def examples(
    setting: Setting, shown: Sequence[Shown], name: str, marks: Mapping[str, Mark], places: Mapping[str, int]
) -> str:
    """Every picked example of a setting; ``name`` begins the ids of its drawings."""
    parts = []
    for number, each in enumerate(shown):
        star = read_star(each.prompt)
        drawn = StarDrawing(star, f"{name}-{number}") if star is not None else None
        shared = f'<svg class="shared" aria-hidden="true"><defs>{drawn.shared()}</defs></svg>' if drawn else ""
        heading = "" if len(shown) == 1 else f"<h4>Example {number + 1}</h4>"
        question = (
            f'<div class="question">{heading}<p class="quiet">prompt</p><pre><code>{text(each.prompt)}</code></pre>'
            f'<p class="quiet">right answer</p><p class="mono">{text(" → ".join(nodes_of(each.answer)))}</p></div>'
        )
        panels = "".join(_panel(panel, setting, drawn, marks, places) for panel in each.panels)
        parts.append(
            f'<div class="example" data-e="{number}">{shared}{question}<div class="anatomies">{panels}</div></div>'
        )
    return f'<div class="dissection">{"".join(parts)}</div>'


def _panel(
    panel: Panel, setting: Setting, drawn: StarDrawing | None, marks: Mapping[str, Mark], places: Mapping[str, int]
) -> str:
    group, run, example = panel.group, panel.run, panel.example
    mark, seed = marks[group.name], run.record.seed
    walk = follow(drawn.star, example) if drawn is not None else None
    said = walk.said if walk is not None else "right" if is_right(example) else "wrong"
    picture = ""
    if drawn is not None and walk is not None:
        described = f"Test graph with what {group.label}, seed {seed}, wrote: {said}"
        picture = f'<div class="drawing">{drawn.svg(walk, mark, described)}</div>'
    verdict = "✓" if is_right(example) else "✗"
    return (
        f'<article class="anatomy" data-o="{places[group.name]}" data-s="{seed}">'
        f'<h5>{swatch(mark)}{text(group.label)}, seed {seed} <span class="tick">{verdict}</span></h5>{picture}'
        f'<p class="said">{text(said[:1].upper() + said[1:])}.<br>wrote {written(example)}</p>'
        f"{_probabilities(panel, setting)}</article>"
    )


def _probabilities(panel: Panel, setting: Setting) -> str:
    anatomy = panel.anatomy
    if anatomy is None:
        return '<p class="quiet">This run kept no probabilities of this example.</p>'
    if not anatomy.truth and not anatomy.free:
        return '<p class="quiet">This run kept no step-by-step probabilities: its objective tells none.</p>'
    branch = anatomy.branch if anatomy.branch is not None else setting.branch
    answer = nodes_of(anatomy.answer)
    parts = []
    for mode, steps, words in (
        ("truth", anatomy.truth, "with the true answer so far shown"),
        ("free", anatomy.free, _shown(anatomy.passes)),
    ):
        if steps:
            backward = ", which this objective reads from the right" if anatomy.order == "backward" else ""
            head = f'<p class="quiet">Probability of each symbol, {words}{backward}</p>'
            passes = anatomy.passes if max(anatomy.passes, default=1) > 1 else ()
            columns = "".join(
                _step(step, at, answer, branch, passes[at] if passes else None) for at, step in enumerate(steps)
            )
            parts.append(f'<div class="mode" data-m="{mode}">{head}<div class="steps">{columns}</div></div>')
    return "".join(parts) + _attention(anatomy)


def _shown(passes: Sequence[int]) -> str:
    """What the model had before it when it decided its own answer."""
    if not passes:
        return "with what it wrote itself so far"
    return "all decided at once, from the prompt alone" if max(passes) == 1 else "with what earlier passes had written"


def _step(step: Step, at: int, answer: Sequence[str], branch: int | None, number: int | None) -> str:
    """``number`` is that of the pass that decided it, where there are several."""
    gold = answer[at] if at < len(answer) else None
    top = list(step.top)
    if gold is not None and gold == step.symbol and all(symbol != gold for symbol, _ in top):
        top.append((gold, step.p))
    bars = "".join(_bar(symbol, p, symbol == gold) for symbol, p in top if p >= LEAST or symbol == gold)
    name = "branch" if at == branch else str(at + 1)
    if number is not None:
        name += f" · pass {number}"
    return f'<div class="step{" branch" if at == branch else ""}"><span>{name}</span><ol>{bars}</ol></div>'


def _bar(symbol: str, p: float, gold: bool) -> str:
    kind = ' class="gold"' if gold else ""
    return f'<li style="--p:{round(p, 3):g}"{kind}><b>{text(symbol)}</b>{_share(p)}</li>'


def _share(p: float) -> str:
    """A probability in two decimals, never rounded up to certainty."""
    return "1" if p >= 0.9995 else "&lt;.01" if p < LEAST else "&gt;.99" if p >= 0.995 else f"{p:.2f}".removeprefix("0")


def _attention(anatomy: Anatomy) -> str:
    heads = [head for layer in anatomy.layers for head in layer]
    if not heads or not anatomy.read:
        return ""
    mean = [sum(weights) / len(heads) for weights in zip(*heads, strict=True)]
    chips = "".join(
        f'<span style="--w:{round(math.sqrt(max(0.0, weight)), 2):g}" title="{weight:.2f}">{text(symbol)}</span>'
        for symbol, weight in zip(anatomy.read, mean, strict=True)
    )
    coded = " ".join("".join(map(_digit, head)) for head in heads)
    shape = " ".join(str(len(layer)) for layer in anatomy.layers)
    strongest = max(range(len(heads)), key=lambda place: max(heads[place]))
    layer, head = _place(anatomy, strongest)
    weight = max(heads[strongest])
    symbol = anatomy.read[heads[strongest].index(weight)]
    return (
        '<div class="attention"><p class="quiet">What the position that decides the branch reads: '
        f'<span class="whichhead">the mean over all {len(heads)} heads</span></p>'
        f'<div class="chips" data-w="{coded}" data-l="{shape}">{chips}</div>'
        f'<p class="quiet">All heads, a row a head, layer by layer. The strongest weight is {weight:.2f}, of layer '
        f"{layer} head {head} on {text(symbol)}.</p>{_map(anatomy)}</div>"
    )


def _digit(weight: float) -> str:
    return DIGITS[max(0, min(63, round(weight * 63)))]


def _place(anatomy: Anatomy, number: int) -> tuple[int, int]:
    """Layer and head of a head's number, both from 1."""
    for layer, heads in enumerate(anatomy.layers, start=1):
        if number < len(heads):
            return layer, number + 1
        number -= len(heads)
    raise AssertionError("no such head")


def _map(anatomy: Anatomy) -> str:
    """All heads as a small map: a row a head, a column a symbol read, darker for more; layers are set apart."""
    cells: dict[int, str] = {}
    down = 0.0
    for layer in anatomy.layers:
        for head in layer:
            for at, weight in enumerate(head):
                level = min(LEVELS, round(math.sqrt(max(0.0, weight)) * LEVELS))
                if level:
                    cells[level] = cells.get(level, "") + f"M{at} {down:g}h1"
            down += 1
        down += 0.4
    height, width = max(1.0, down - 0.4), len(anatomy.read)
    inside = "".join(f'<path class="w{level}" d="{cells[level]}"/>' for level in sorted(cells))
    # Rows are drawn as lines as wide as a row, through its middle.
    inside = f'<g transform="translate(0 .5)">{inside}</g>'
    described = f"Attention of {sum(map(len, anatomy.layers))} heads over {width} symbols"
    style = f'style="max-width:{width * 14}px" preserveAspectRatio="none" '
    return drawing(width, height, inside, described, "heads").replace("<svg ", f"<svg {style}", 1)


def left_out(setting: Setting, shown: Sequence[Shown]) -> str:
    """What is not shown, in a sentence; empty where everything that was kept is."""
    drawn = {id(panel.run) for each in shown for panel in each.panels}
    kept = [run for group in setting.groups for run in group.runs if run.record.examples or run.record.anatomies]
    without = sum(id(run) not in drawn for run in kept)
    most = max((len(run.record.examples) for run in kept), default=0)
    parts = []
    if most > len(shown):
        parts.append(f"{len(shown)} of up to {most} kept examples")
    if without:
        parts.append(f"{len(drawn)} of {len(kept)} runs that kept examples, each objective by its first")
    return f"Shown: {'; '.join(parts)}." if parts else ""


def groups_of(shown: Sequence[Shown]) -> list[Group]:
    """Groups that appear, in order."""
    return list({id(panel.group): panel.group for each in shown for panel in each.panels}.values())
