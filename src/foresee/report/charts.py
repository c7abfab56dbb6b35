"""The page's charts: learning curves, accuracy by position, survival curves, and where the loss is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foresee.metrics.survival import Curve, Times, kaplan_meier
from foresee.report.groups import Group, Setting
from foresee.report.markup import text
from foresee.report.style import Mark, plain
from foresee.report.supervision import Supervision
from foresee.report.svg import Plot, Point, path, short, thinned
from foresee.report.words import task_title

MEASURES: Mapping[str, str] = {
    "branch": "Branch token right",
    "forced": "Forced accuracy, mean over positions",
    "exact": "Whole answer right (exact)",
}
MOST_BANDS = 3
"""Groups in a chart up to which intervals are shaded; more would hide each other."""


def series(mark: Mark, place: int, inside: str, *, dashed: bool = True) -> str:
    """What belongs to one objective: its colour, its dashes, and the number by which the page's controls find it."""
    dashes = f' stroke-dasharray="{mark.dashes}"' if dashed and mark.dashes else ""
    return f'<g class="series h{mark.hue}" data-o="{place}"{dashes}>{inside}</g>'


def learning_curve(setting: Setting, measure: str, marks: Mapping[str, Mark], places: Mapping[str, int]) -> str:
    """One measure against training steps, a line a seed."""
    last = max((e.step for group in setting.groups for run in group.runs for e in run.record.evaluations), default=0)
    plot = Plot(max(last, 1), low=-0.02, high=1.02)
    plot.rates()
    plot.steps()
    if setting.chance is not None and measure != "forced":
        plot.chance(setting.chance)
    drawn, missing = 0, []
    for group in setting.groups:
        lines = []
        for run in group.runs:
            points = [(float(e.step), v) for e in run.record.evaluations if (v := e.rate(measure)) is not None]
            if not points:
                continue
            step, value = points[-1]
            said = f"{group.label}, seed {run.record.seed}: {value:.3f} at step {step:,.0f}"
            lines.append(_line(plot, points, run.record.seed, said))
        drawn += len(lines)
        if lines:
            plot.add(series(marks[group.name], places[group.name], "".join(lines)))
        else:
            missing.append(group.label)
    if not drawn:
        plot.note("no measurements yet")
    elif missing and len(missing) <= 2:
        plot.label(plot.left + 4, plot.bottom - 6, f"not measured: {', '.join(plain(each, 24) for each in missing)}")
    if setting.chance is not None and measure != "forced":
        plot.chance_label(setting.chance)
    described = f"{MEASURES[measure]} against training steps on {task_title(setting.task)}, a line a seed"
    return plot.svg(described)


def _line(plot: Plot, points: Sequence[Point], seed: int, said: str) -> str:
    places = thinned(plot.to_pixels(points))
    x, y = places[-1]
    dot = f'<circle cx="{short(x)}" cy="{short(y)}" r="2.6"/>'
    return f'<g data-s="{seed}"><title>{text(said)}</title><path d="{path(places)}"/>{dot}</g>'


def position_chart(group: Group, setting: Setting, mark: Mark) -> str:
    """Forced (filled, solid) and free-running (open, dashed) accuracy by answer position, a line a seed."""
    found = [(run.record.seed, run.record.values("forced"), run.record.values("free")) for run in group.finished]
    longest = max((max(len(forced), len(free)) for _, forced, free in found), default=0)
    plot = Plot(max(longest, 2) + 0.3, first_x=0.7, low=-0.02, high=1.02)
    plot.rates()
    branch = setting.branch
    if branch is not None and branch < longest:
        low, high = plot.x(max(0.7, branch + 0.6)), plot.x(branch + 1.4)
        plot.add(
            f'<path class="here" d="M{short(low)} {short(plot.top)}H{short(high)}V{short(plot.bottom)}H{short(low)}Z"/>'
        )
    every = 1 if longest <= 10 else 5 if longest <= 60 else 5 * (longest // 60 + 1)
    for at in range(1, longest + 1):
        if at == 1 or at % every == 0:
            plot.label(plot.x(at), plot.bottom + 16, str(at), "middle")
    plot.below(
        "position in the answer" + ("" if branch is None or branch >= longest else f" ({branch + 1}: the branch)")
    )
    if setting.chance is not None:
        plot.chance(setting.chance)
    for seed, forced, free in found:
        lines = ""
        for kind, values in (("forced", forced), ("free", free)):
            if values:
                places = plot.to_pixels(enumerate(values, start=1))
                radius = 3.6 if kind == "forced" else 2.4
                dots = "".join(f'<circle cx="{short(x)}" cy="{short(y)}" r="{radius}"/>' for x, y in places)
                said = f"{kind}, seed {seed}: {', '.join(f'{value:.3f}' for value in values)}"
                lines += f'<g class="{kind}"><title>{text(said)}</title><path d="{path(places)}"/>{dots}</g>'
        plot.add(f'<g class="series h{mark.hue}" data-s="{seed}">{lines}</g>')
    if setting.chance is not None:
        plot.chance_label(setting.chance)
    if not longest:
        plot.note("not measured")
    elif not any(forced for _, forced, _ in found):
        plot.label(plot.left + 4, plot.bottom - 6, "this objective cannot be forced")
    return plot.svg(f"Accuracy by answer position, forced and free-running: {group.label}")


def times_of(group: Group) -> Times | None:
    """Steps to solve; runs that have not solved are censored at their last step. None where no run has begun."""
    begun = [run for run in group.runs if run.record.steps_done]
    return Times.of([run.solved_at for run in begun], [run.record.steps_done for run in begun]) if begun else None


def survival_chart(setting: Setting, marks: Mapping[str, Mark], places: Mapping[str, int]) -> str:
    """The share of runs not yet solved against training steps, a line a group, a tick where a run ended unsolved."""
    found = [(group, times) for group in setting.groups if (times := times_of(group)) is not None]
    plot = Plot(max((max(times.times) for _, times in found), default=1.0), low=-0.02, high=1.05)
    plot.rates()
    plot.steps()
    for group, times in found:
        curve = kaplan_meier(times)
        inside = _band(plot, curve) if len(found) <= MOST_BANDS and len(times.times) > 1 else ""
        solved = sum(times.came)
        said = f"{group.label}: {solved} of {len(times.times)} solved"
        inside += f'<g><title>{text(said)}</title><path d="{_stairs(plot, curve)}"/></g>'
        ended = sorted({time for time, came in zip(times.times, times.came, strict=True) if not came})
        marked = "".join(f"M{short(plot.x(at))} {short(plot.y(share_at(curve, at)) - 5)}v10" for at in ended)
        inside += f'<path class="censored" d="{marked}"/>' if marked else ""
        plot.add(series(marks[group.name], places[group.name], inside))
    if not found:
        plot.note("no run has begun")
    return plot.svg(f"Share of runs not yet solved against training steps on {task_title(setting.task)}")


def share_at(curve: Curve, time: float) -> float:
    """The share at a time, an event then counted."""
    return next((share for at, share in reversed(list(zip(curve.at, curve.share, strict=True))) if at <= time), 1.0)


def _stairs(plot: Plot, curve: Curve) -> str:
    drawn = f"M{short(plot.x(0))} {short(plot.y(1))}"
    for at, share in zip(curve.at, curve.share, strict=True):
        drawn += f"H{short(plot.x(at))}V{short(plot.y(share))}"
    return drawn + f"H{short(plot.x(curve.end))}"


def _band(plot: Plot, curve: Curve) -> str:
    """The pointwise 95 % interval, from the first event on."""
    if not curve.at:
        return ""
    ends = [*curve.at[1:], curve.end]
    over, under = [], []
    for at, end, low, high in zip(curve.at, ends, curve.low, curve.high, strict=True):
        over += [(at, high), (end, high)]
        under += [(at, low), (end, low)]
    return f'<path class="band" d="{path(plot.to_pixels([*over, *reversed(under)]), close=True)}"/>'


def supervision_chart(found: Supervision, label: str, branch: int | None) -> str:
    """Shares of the training loss by answer position over steps, stacked, the first position below."""
    plot = Plot(found.steps[-1], first_x=found.steps[0] if len(found.steps) > 1 else 0.0, left=44.0, right=98.0)
    plot.levels([(0.0, "0"), (0.5, "50 %"), (1.0, "100 %")])
    steps = found.steps if len(found.steps) > 1 else (0.0, found.steps[0])
    shares = found.shares if len(found.steps) > 1 else (found.shares[0], found.shares[0])
    below = [0.0] * len(steps)
    count = len(shares[0])
    for position in range(count):
        above = [low + share[position] for low, share in zip(below, shares, strict=True)]
        edge = [*zip(steps, above, strict=True), *reversed(list(zip(steps, below, strict=True)))]
        kind = "branchloss" if position == branch else f"loss{position % 2}"
        said = f"position {position + 1}{' (the branch)' if position == branch else ''}"
        said += f": {shares[0][position]:.0%} at first, {shares[-1][position]:.0%} at last"
        drawn = path(plot.to_pixels(edge), close=True)
        plot.add(f'<path class="{kind}" d="{drawn}"><title>{text(said)}</title></path>')
        if above[-1] - below[-1] >= 0.07:
            name = "branch" if position == branch else str(position + 1)
            middle = plot.y((above[-1] + below[-1]) / 2) + 4
            plot.label(
                plot.right + 5,
                middle,
                f"{name} {shares[-1][position]:.0%}",
                "start",
                "strong" if position == branch else "",
            )
        below = above
    plot.steps()
    return plot.svg(f"Share of the training loss by answer position over training: {label}")
