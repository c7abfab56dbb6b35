"""What the runs cost, and steps to solve as survival times."""

from __future__ import annotations

from foresee.metrics.survival import kaplan_meier, median, restricted_mean
from foresee.report.book import Book, source
from foresee.report.charts import survival_chart, times_of
from foresee.report.groups import Group, Setting
from foresee.report.markup import figure, spec, swatch, text
from foresee.report.sections import cell
from foresee.report.words import listed

BASELINE = "next-token"


def baseline(setting: Setting) -> Group | None:
    """The setting's next-token group, with which costs are compared; None where there is none."""
    found = [group for group in setting.groups if group.objective.partition(":")[0] == BASELINE]
    return found[0] if found else None


def seconds_of(group: Group) -> list[float]:
    """Training time of each run that says."""
    return [run.record.seconds for run in group.runs if run.record.seconds is not None]


def relative(group: Group, setting: Setting) -> float | None:
    """Examples a second beside next-token's in the same setting; None where either was not timed."""
    base = baseline(setting)
    speed, beside = group.speed(), base.speed() if base is not None else None
    return speed / beside if speed is not None and beside else None


def duration(seconds: float) -> str:
    """Seconds up to two minutes, then minutes, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


COLUMNS = ("parameters", "examples/s", "beside next-token", "training time", "steps")


def costs(book: Book) -> str:
    """A table a setting."""
    parts = []
    head = "".join(f'<th scope="col">{name}</th>' for name in ("objective", *COLUMNS))
    for setting in book.settings:
        rows = "".join(_cost(book, group, setting) for group in setting.groups)
        parts.append(book.heading(setting))
        parts.append(f'<table class="results sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>')
    hardware = {_hardware(run.record.environment) for group in book.groups for run in group.runs}
    kinds = sorted(each for each in hardware if each)
    where = f" These runs were made on: {text(listed(kinds))}." if kinds else ""
    mixed = " Times on different hardware cannot be compared." if len(hardware) > 1 else ""
    parts.append(
        '<p class="quiet">Examples a second: the median over a run\'s reports, evaluations included, then over seeds; '
        "training time of each seed. Other work on the same machine slows a run down, so compare speeds of runs that "
        f"were made beside each other.{where}{mixed} Parameters: all numbers that are trained, as the run recorded, or "
        "counted in its saved model or in one built anew where that is small; a dash where none was to be had.</p>"
    )
    parts.append(
        source(
            "Times are those of <code>timing.jsonl</code> in each run's folder and are made anew by its command (the "
            "link in its row); <code>foresee bench</code> measures the speed of this machine."
        )
    )
    return "".join(parts)


def _hardware(environment: object) -> str:
    if not isinstance(environment, dict):
        return ""
    gpu, processor, cores = (environment.get(key) for key in ("gpu", "processor", "cores"))
    if gpu:
        return str(gpu)
    return f"{processor or 'a processor'} with {cores} cores" if cores else ""


def _cost(book: Book, group: Group, setting: Setting) -> str:
    speed, ratio, seconds = group.speed(), relative(group, setting), seconds_of(group)
    steps = [run.record.steps_done for run in group.runs]
    same = f"{steps[0]:,}" if len(set(steps)) == 1 else ", ".join(f"{each:,}" for each in steps)
    parameters = book.parameters(group)
    cells = cell("parameters", [f"{parameters:,}" if parameters is not None else "–"], parameters)
    cells += cell("examples/s", [f"{speed:,.0f}" if speed is not None else "–"], speed)
    cells += cell("beside next-token", [f"{ratio:.2f} ×" if ratio is not None else "–"], ratio)
    cells += cell("training time", [", ".join(map(duration, seconds)) or "–"], sum(seconds) if seconds else None)
    cells += cell("steps", [same], max(steps))
    name = f'<div>{swatch(book.marks[group.name])}<span class="name">{text(group.label)}</span></div>'
    if group.objective != group.label:
        name += f'<div class="quiet">{spec(group.objective)}</div>'
    name += f'<div class="quiet">{book.again(group)}</div>'
    return f'<tr data-o="{book.places[group.name]}"><td class="who">{name}</td>{cells}</tr>'


SURVIVAL = ("runs", "solved", "censored", "half solved by", "mean steps (restricted)")


def survival(book: Book) -> str:
    """A chart and a table a setting."""
    parts = [_SURVIVAL]
    head = "".join(f'<th scope="col">{name}</th>' for name in ("objective", *SURVIVAL))
    for setting in book.settings:
        rows = "".join(_times(book, group) for group in setting.groups)
        table = f'<table class="results sortable"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        chart = figure(survival_chart(setting, book.marks, book.places))
        parts.append(f'{book.heading(setting)}<div class="beside">{chart}<div>{table}</div></div>')
    parts.append(
        source(
            "Steps are those of the evaluations in each run's <code>metrics.jsonl</code>: solving is known to that "
            "grid alone. Kaplan-Meier estimates, Greenwood's variance. Each row links to the commands behind it."
        )
    )
    return "".join(parts)


def _times(book: Book, group: Group) -> str:
    times = times_of(group)
    name = (
        f'<div>{swatch(book.marks[group.name])}<span class="name">{text(group.label)}</span></div>'
        f'<div class="quiet">{book.again(group)}</div>'
    )
    start = f'<tr data-o="{book.places[group.name]}"><td class="who">{name}</td>'
    if times is None:
        return start + cell("runs", ["none has begun"]) + "<td></td>" * (len(SURVIVAL) - 1) + "</tr>"
    curve = kaplan_meier(times)
    half, mean, solved = median(curve), restricted_mean(curve), sum(times.came)
    ended = sorted({int(time) for time, came in zip(times.times, times.came, strict=True) if not came})
    at = f" at {', '.join(f'{each:,}' for each in ended[:3])}{' …' if len(ended) > 3 else ''}" if ended else ""
    cells = cell("runs", [str(len(times.times))], len(times.times)) + cell("solved", [str(solved)], solved)
    cells += cell("censored", [f"{len(times.times) - solved}{at}"], len(times.times) - solved)
    cells += cell("half solved by", [f"step {half:,.0f}" if half is not None else "not known"], half or 1e12)
    cells += cell("mean steps (restricted)", [f"{mean:,.0f} of {curve.end:,.0f}"], mean)
    return f"{start}{cells}</tr>"


_SURVIVAL = """<p>The share of runs that have not solved the task yet, by training step: the sooner a line falls, the
faster the objective learns. A run that ended without solving is not dropped: it is <em>censored</em>, marked by a tick
where it ended, and counts as unsolved up to there. Shading: 95&nbsp;% intervals, where few lines share a chart.</p>"""
