"""Every figure, one function each: the same chart in a page, in a notebook and in a paper.

Each is a pure function of a DataFrame whose columns its docstring lists. ``foresee.report.frames`` makes those frames
from runs; the page embeds a chart as data and ``save`` writes it as SVG, PDF, PNG or HTML.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import altair as alt
import pandas as pd

from foresee.report.style import BAND, BLUE, BRANCH, GOAL, GREYS, HUES, INK, QUIET, Mark, assign_marks

MEASURES = {
    "branch": "Branch token right",
    "margin": "Branch margin (logit less the best other)",
    "forced": "Forced accuracy, mean over positions",
    "exact": "Whole answer right (exact)",
}
"""The learning curves and their titles."""
MOST_BANDS = 3
"""Objectives in a chart up to which intervals are shaded; more would hide each other."""

_NAMES = {"objective", "seed", "kind", "cell", "head", "read", "symbol"}
C = TypeVar("C", alt.Chart, alt.LayerChart)
Marks = Mapping[str, Mark]
_KEY = alt.Legend(title=None, orient="bottom", symbolType="stroke", symbolSize=900, columns=4)
_ABOVE = alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=900, symbolOpacity=1)
_ACROSS = alt.Axis(tickCount=4, format=",.0f", grid=False)
_FRONT = alt.param(name="front", value="")
"""The objective whose lines stand out; the page's script sets it."""


def learning_curve(
    rows: pd.DataFrame, measure: str, *, chance: float | None = None, marks: Marks | None = None, key: bool = True
) -> alt.LayerChart:
    """One measure against training steps, a line a seed, a dot at its last evaluation. Columns: objective, seed, step,
    measure, value. ``chance`` is a dotted line; ``marks`` say how objectives are drawn; ``key`` draws a legend."""
    here = rows[rows["measure"] == measure]
    if measure == "margin":
        height, level = alt.Y("value:Q", title="nats"), _chance(0.0, "undecided")
    else:
        height, level = _rate("value"), _chance(None if measure == "forced" else chance)
    colour, dash = _objectives(rows, marks, key)
    base = alt.Chart().encode(
        x=_steps(rows), y=height, color=colour, detail=alt.Detail("seed:N"), opacity=_front(),
        tooltip=_tips("objective", "seed", "step", "value"),
    )  # fmt: skip
    ends = alt.Chart(here.groupby(["objective", "seed"], sort=False).tail(1)).mark_circle(size=30, opacity=1)
    layers = [*level, base.mark_line().encode(strokeDash=dash),
              ends.encode(x=_steps(rows), y=height, color=colour)]  # fmt: skip
    return _layered(here, layers, MEASURES.get(measure, measure)).add_params(_FRONT)


def accuracy_by_position(
    rows: pd.DataFrame, *, chance: float | None = None, branch: int | None = None, marks: Marks | None = None,
    title: str = "", key: bool = True,
) -> alt.LayerChart:  # fmt: skip
    """Forced (filled, solid) and free-running (open, dashed) accuracy by answer position, a line a seed.

    Columns: objective, seed, kind ("forced" or "free-running"), position (from 1), value, and low and high where
    intervals are to be shaded. ``branch`` is the position of the one real decision, which is shaded too.
    """
    across = _positions(rows, "position in the answer" + (f" ({branch}: the branch)" if branch else ""))
    kinds, colour = ["forced", "free-running"], _objectives(rows, marks, key=False)[0]
    base = alt.Chart().encode(
        x=across, y=_rate("value"), color=colour, detail=alt.Detail("seed:N"),
        strokeDash=_dashes("kind", kinds, [[1, 0], [4, 3]], _ABOVE if key else None),
        tooltip=_tips("objective", "seed", "kind", "position", "value"),
    )  # fmt: skip
    dots = base.mark_point(size=44, opacity=1).encode(
        strokeDash=alt.StrokeDashValue([1, 0]), fill=alt.Fill("objective:N", scale=colour["scale"], legend=None),
        fillOpacity=alt.FillOpacity("kind:O", scale=alt.Scale(domain=kinds, range=[1, 0]), legend=None),
    )  # fmt: skip
    inside = [branch] if branch is not None and branch <= _last(rows) else []
    layers = [*_shade(inside, across), *_chance(chance), *_bands(rows, across, colour), base.mark_line(), dots]
    return _layered(rows, layers, title)


def survival(rows: pd.DataFrame, *, marks: Marks | None = None, key: bool = True) -> alt.LayerChart:
    """The share of runs not yet solved against training steps, a tick where a run ended unsolved (Kaplan-Meier).
    Columns: objective, step, share, low, high, ended (whether runs ended unsolved there)."""
    colour, dash = _objectives(rows, marks, key)
    plain = _objectives(rows, marks, key=False)[0]
    base = alt.Chart().encode(
        x=_steps(rows), y=_rate("share"), color=colour, opacity=_front(),
        tooltip=_tips("objective", "step", "share", "low", "high"),
    )  # fmt: skip
    shaded = alt.Chart().mark_area(interpolate="step-after", opacity=0.12)
    ended = rows[rows["ended"].astype(bool)]
    ticks = alt.Chart(ended).mark_tick(orient="vertical", size=11, thickness=2)
    bands = [shaded.encode(x=_steps(rows), y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=plain)]
    layers = [
        *(bands if rows["objective"].nunique() <= MOST_BANDS else []),
        base.mark_line(interpolate="step-after").encode(strokeDash=dash),
        *([ticks.encode(x=_steps(rows), y=_rate("share"), color=plain)] if len(ended) else []),
    ]
    return _layered(rows, layers, "Runs not yet solved").add_params(_FRONT)


def supervision(rows: pd.DataFrame, *, branch: int | None = None, title: str = "") -> alt.Chart:
    """Shares of the training loss by answer position over steps, stacked, the first position below. Columns:
    objective, step, position (from 1), share, nats."""
    places = list(range(1, _last(rows) + 1))
    shades = alt.Scale(domain=places, range=[BRANCH if at == branch else GREYS[at % 2] for at in places])
    # The legend stands in the order in which the bands do.
    legend = alt.Legend(values=places[::-1], symbolStrokeWidth=0) if len(places) <= 10 else None
    chart: alt.Chart = alt.Chart(rows).mark_area(line=False).encode(
        x=alt.X("step:Q", title="training steps", axis=_ACROSS, scale=alt.Scale(zero=False, nice=False)),
        y=alt.Y("share:Q", stack="zero", title="share of the loss", scale=alt.Scale(domain=[0, 1]),
                axis=alt.Axis(values=[0, 0.5, 1], format="%")),
        order=alt.Order("position:Q"), color=alt.Color("position:O", scale=shades, legend=legend),
        tooltip=_tips("position", "share", "nats"),
    )  # fmt: skip
    return _titled(chart, title)


def costs(rows: pd.DataFrame, *, marks: Marks | None = None, key: bool = True) -> alt.Chart:
    """Whole answers right against training time, a point a run. Columns: objective, seed, seconds, exact."""
    colour = _objectives(rows, marks, key)[0]
    if key:
        colour = colour.legend(title=None, orient="bottom", columns=4, symbolType="circle")
    chart: alt.Chart = alt.Chart(rows).mark_circle(size=70, opacity=0.9).encode(
        x=alt.X("seconds:Q", title="training time in seconds", axis=_ACROSS), y=_rate("exact"), color=colour,
        tooltip=_tips("objective", "seed", "seconds", "exact"),
    )  # fmt: skip
    return _titled(chart, "Whole answer right, by training time")


def attention(rows: pd.DataFrame) -> alt.Chart:
    """What one position reads: a row a head, a column a symbol, darker for more. Columns: head (such as "2.1", layer
    and head), read (the place in four digits, a space, and the symbol), weight."""
    bare: dict[str, Any] = {"ticks": False, "domain": False}
    symbol = alt.Axis(labelExpr="slice(datum.label, 5)", labelAngle=0, labelOverlap=False, labelLimit=30, **bare)
    chart: alt.Chart = alt.Chart(rows).mark_rect(color=BLUE).encode(
        x=alt.X("read:O", title=None, axis=symbol),
        y=alt.Y("head:O", title="layer.head", sort=None, axis=alt.Axis(**bare)),
        opacity=alt.Opacity("weight:Q", scale=alt.Scale(type="sqrt", domain=[0, 1], range=[0.02, 1]), legend=None),
        tooltip=_tips("head", "read", "weight"),
    )  # fmt: skip
    return chart.properties(width=alt.Step(18), height=alt.Step(11))


def probabilities(rows: pd.DataFrame, *, title: str = "") -> alt.LayerChart:
    """The likeliest symbols at each place of an answer, darker for likelier, the right one framed. Columns: place (from
    1), rank (1: the likeliest), symbol, p, right (whether it is the answer's)."""
    base = alt.Chart().encode(
        x=alt.X("place:O", title="place in the answer", axis=alt.Axis(labelAngle=0, domain=False, ticks=False)),
        y=alt.Y("rank:O", title="likeliest", axis=alt.Axis(domain=False, ticks=False)),
        tooltip=_tips("symbol", "p"),
    )  # fmt: skip
    shade = alt.Opacity("p:Q", scale=alt.Scale(domain=[0, 1], range=[0.03, 0.75]), legend=None)
    frame = alt.StrokeWidth("right:N", scale=alt.Scale(domain=[False, True], range=[0, 2.5]), legend=None)
    layers = [
        base.mark_rect(color=BLUE).encode(opacity=shade),
        base.mark_rect(fillOpacity=0, stroke=GOAL).encode(strokeWidth=frame),
        base.mark_text(fontSize=12).encode(text=alt.Text("symbol:N")),
    ]
    return _layered(rows, layers, title).properties(width=alt.Step(44), height=alt.Step(24))


def study_cells(rows: pd.DataFrame) -> alt.LayerChart:
    """Published beside measured: from 0 to 1, a bar for what is published, a dot and its interval a seed, a line for
    chance. Columns: cell (its name), kind ("published", "seed" or "chance"), seed, value, low, high."""
    names = alt.Axis(labelLimit=260, labelPadding=10, ticks=False, domain=False)
    base = alt.Chart().encode(
        y=alt.Y("cell:N", title=None, sort=None, axis=names),
        tooltip=_tips("cell", "kind", "seed", "value", "low", "high"),
    )  # fmt: skip
    low = alt.X("low:Q", title=None, scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(tickCount=4, format=".3~g"))
    bars = base.mark_bar(color=GOAL, stroke=GOAL, strokeWidth=3, size=16, opacity=0.75)
    chance = base.transform_filter("datum.kind == 'chance'")
    seeds = base.transform_filter("datum.kind == 'seed'").encode(yOffset=alt.YOffset("seed:N"))
    layers = [
        bars.transform_filter("datum.kind == 'published'").encode(x=low, x2=alt.X2("high:Q")),
        chance.mark_tick(color=INK, thickness=1.5, size=22).encode(x=alt.X("value:Q")),
        seeds.mark_rule(color=HUES[1], strokeWidth=1.6).encode(x=low, x2=alt.X2("high:Q")),
        seeds.mark_circle(color=HUES[1], size=38, opacity=1).encode(x=alt.X("value:Q")),
    ]
    return _layered(rows, layers).properties(height=26 * max(1, rows["cell"].nunique()))


def token_losses(rows: pd.DataFrame, *, decisions: Sequence[int] = (), from_end: bool = False) -> alt.LayerChart:
    """Loss with the truth shown and hidden at each position, ``decisions`` (from 1) shaded. Columns: kind ("shown" or
    "hidden"), position (from 1, of the last token where ``from_end``), value, low, high."""
    across = _positions(rows, "position, counted from the end" if from_end else "position in the response", from_end)
    kinds = ["shown", "hidden"]
    colour = alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[HUES[0], HUES[2]]), legend=_ABOVE)
    base = alt.Chart().encode(
        x=across, y=alt.Y("value:Q", title="nats"), color=colour,
        tooltip=_tips("kind", "position", "value", "low", "high"),
    )  # fmt: skip
    lines = base.mark_line().encode(strokeDash=_dashes("kind", kinds, [[1, 0], [8, 3]], _ABOVE))
    dots = base.mark_circle(size=30 if _last(rows) <= 40 else 0, opacity=1)
    return _layered(rows, [*_shade(decisions, across), *_bands(rows, across, colour), lines, dots])


def _layered(rows: pd.DataFrame, layers: Sequence[Any], title: str = "") -> alt.LayerChart:
    """Layers that share their rows, but for those that bring their own."""
    return _titled(alt.LayerChart(data=rows, layer=list(layers)), title)


def _titled(chart: C, title: str) -> C:
    return chart.properties(title=alt.Title(title, limit=420)) if title else chart


def _last(rows: pd.DataFrame) -> int:
    return int(rows["position"].max()) if len(rows) else 1


def _front() -> Any:
    return alt.OpacityValue(0.14, condition={"test": "front == '' || datum.objective == front", "value": 0.95})


def _rate(field: str) -> alt.Y:
    """A vertical axis for rates: 0 to 1 with a little air, so that lines at either end stay visible."""
    axis = alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], format=".3~g")
    return alt.Y(f"{field}:Q", title=None, scale=alt.Scale(domain=[-0.03, 1.03], nice=False), axis=axis)


def _steps(rows: pd.DataFrame) -> alt.X:
    last = int(rows["step"].max()) if len(rows) else 1
    return alt.X("step:Q", title="training steps", axis=_ACROSS, scale=alt.Scale(domain=[0, last], nice=False))


def _positions(rows: pd.DataFrame, title: str, from_end: bool = False) -> alt.X:
    axis = alt.Axis(format="d", tickMinStep=1, tickCount=min(_last(rows), 12), grid=False)
    scale = alt.Scale(domain=[0.6, max(_last(rows), 2) + 0.4], nice=False, reverse=from_end)
    return alt.X("position:Q", title=title, axis=axis, scale=scale)


def _tips(*fields: str) -> list[alt.Tooltip]:
    """What pointing at a mark tells."""
    forms = {"step": ",d", "position": "d", "seconds": ",.0f", "share": ".1%"}
    return [
        alt.Tooltip(f"{each}:N") if each in _NAMES else alt.Tooltip(f"{each}:Q", format=forms.get(each, ".3f"))
        for each in fields
    ]


def _objectives(rows: pd.DataFrame, marks: Marks | None, key: bool) -> tuple[Any, alt.StrokeDash]:
    """Colour and dashes by objective, with a legend where ``key``."""
    names = list(dict.fromkeys(rows["objective"]))
    used = [(marks or assign_marks(names))[name] for name in names]
    legend = _KEY if key and names else None
    scale = alt.Scale(domain=names, range=[mark.colour for mark in used])
    dashes = [list(mark.dashes) or [1, 0] for mark in used]
    return alt.Color("objective:N", scale=scale, legend=legend), _dashes("objective", names, dashes, legend)


def _dashes(field: str, names: list[str], dashes: Sequence[Any], legend: alt.Legend | None) -> alt.StrokeDash:
    return alt.StrokeDash(f"{field}:N", scale=alt.Scale(domain=names, range=list(dashes)), legend=legend)


def _chance(chance: float | None, said: str = "chance {:.3g}") -> list[Any]:
    """A dotted line at chance, labelled."""
    if chance is None:
        return []
    base = alt.Chart(pd.DataFrame({"chance": [chance], "said": [said.format(chance)]})).encode(y=alt.Y("chance:Q"))
    label = base.mark_text(align="left", baseline="bottom", dx=3, dy=-2, x=0, fontSize=10.5, color=QUIET)
    return [
        base.mark_rule(strokeDash=[1.2, 3.2], strokeWidth=1.2),
        label.encode(text=alt.Text("said:N")),
    ]


def _shade(positions: Sequence[int], across: alt.X) -> list[Any]:
    """Yellow behind some positions."""
    if not positions:
        return []
    places = pd.DataFrame({"position": [at - 0.4 for at in positions], "to": [at + 0.4 for at in positions]})
    return [alt.Chart(places).mark_rect(color=BAND, opacity=0.5).encode(x=across, x2=alt.X2("to:Q"))]


def _bands(rows: pd.DataFrame, across: alt.X, colour: alt.Color) -> list[Any]:
    """Intervals, where there are any."""
    if "low" not in rows:
        return []
    area = alt.Chart().mark_area(opacity=0.12)
    return [area.encode(x=across, y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), color=colour, detail=alt.Detail("kind:N"))]
