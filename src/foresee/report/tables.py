"""Every table, once, as a DataFrame of texts: the page shows it, and ``write_tables`` writes it as Markdown and LaTeX.

A cell with a line a seed holds them with "; " between.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from foresee.core import files
from foresee.experiments.compare import steps_to_solve
from foresee.experiments.studies.result import StudyResult
from foresee.experiments.studies.show import probability
from foresee.metrics.intervals import rate
from foresee.metrics.survival import kaplan_meier, median, restricted_mean
from foresee.report.groups import Group, Section
from foresee.report.rendering import NOTHING, environment, show_duration, show_rate


def runs_table(section: Section) -> pd.DataFrame:
    """Final measurements, a line a seed."""
    return pd.DataFrame([
        {
            "objective": group.label, "seeds": ", ".join(str(run.spec.seed) for run in group.runs),
            "solved": _solved(group),
            **{row: _by_seed([show_rate(run.rows.get(row)) for run in group.runs])
               for row in ("exact", "branch", "follow")},
            "steps to solve": "; ".join(
                f"{steps_to_solve(run):,}" if steps_to_solve(run) is not None
                else f"not within {run.steps:,}" if run.steps else NOTHING for run in group.runs
            ),
            "verdict": _by_seed([f"{name} × {n}" if len(group.runs) > 1 else name
                                 for name, n in Counter(group.outcome(run) for run in group.runs).items()]),
        }
        for group in section.groups
    ])  # fmt: skip


def measurements_table(section: Section) -> pd.DataFrame:
    """Every measurement that is one number, those of metrics of one's own among them, a line a seed; and on how many
    test rows of how many problems."""
    runs = [run for group in section.groups for run in group.finished]
    names = dict.fromkeys(name for run in runs for name, row in run.rows.items() if isinstance(row, dict))
    return pd.DataFrame([
        {
            "objective": group.label,
            "test rows": _by_seed([_counted(run.rows.get("exact")) for run in group.runs]),
            **{name: _by_seed([show_rate(run.rows.get(name)) for run in group.runs]) for name in names},
        }
        for group in section.groups
    ])  # fmt: skip


def _counted(row: Any) -> str:
    if row is None:
        return NOTHING
    of = f" of {row['problems']:,} problems" if row.get("problems", row["n"]) != row["n"] else ""
    return f"{row['n']:,}{of}"


def _speeds(group: Group) -> str:
    """The device is named where it is not a CPU."""
    named = {device: f"{speed:,.0f}" + f" ({device})" * (device != "cpu") for device, speed in group.speeds.items()}
    return ", ".join(named.values()) or NOTHING


def costs_table(section: Section) -> pd.DataFrame:
    """Parameters, speed and time."""
    return pd.DataFrame([
        {
            "objective": group.label,
            "parameters": _number(next(filter(None, (run.parameters for run in group.runs)), None), ",d"),
            "examples/s": _speeds(group),
            "beside next-token": _number(section.relative_speed(group), ".2f"),
            "training time": _by_seed([show_duration(run.seconds) for run in group.runs if run.timing], ", "),
            "steps": ", ".join(dict.fromkeys(f"{run.steps:,}" for run in group.runs)),
        }
        for group in section.groups
    ])  # fmt: skip


def survival_table(section: Section) -> pd.DataFrame:
    """Steps to solve as survival times."""
    rows = []
    for group, times in ((group, group.times) for group in section.groups):
        if times is None:
            rows.append({"objective": group.label, "runs": "none has begun"})
            continue
        curve, solved = kaplan_meier(times), sum(times.came)
        half, mean = median(times), restricted_mean(curve)
        ended = sorted({int(time) for time, came in zip(times.times, times.came, strict=True) if not came})
        at = f" at {', '.join(f'{each:,}' for each in ended[:3])}{' …' if len(ended) > 3 else ''}" if ended else ""
        rows.append({
            "objective": group.label, "runs": str(len(times.times)), "solved": str(solved),
            "censored": f"{len(times.times) - solved}{at}",
            "half solved by": "not known" if half is None else f"step {half:,.0f}",
            "mean steps (restricted)": f"{mean:,.0f} of {curve.end:,.0f}",
        })  # fmt: skip
    return pd.DataFrame(rows).fillna(NOTHING)


def study_table(study: StudyResult) -> pd.DataFrame:
    """Published beside measured, cell by cell."""
    rows = []
    for cell in study.cells:
        names = [seed.verdict + ("?" if seed.inconclusive else "") for seed in cell.seeds]
        lines = [f"{seed.value:.3f} [{seed.low:.3f}, {seed.high:.3f}]" for seed in cell.seeds]
        rows.append({
            "graph": cell.graph, "trained with": cell.label, "row": f"{cell.row}, chance {cell.chance:.3g}",
            "published": cell.published_text + ("" if cell.tag == "unknown" else f" ({cell.tag})"),
            "measured": "; ".join([*lines, *cell.left]) if lines or cell.begun else "not run",
            "agreement": cell.agreement + (" (inconclusive)" if cell.inconclusive else ""),
            "solved": f"{sum(seed.solved for seed in cell.seeds)} of {len(lines)}" if lines else NOTHING,
            "half solved by": _number(cell.median_steps, ",.0f"),
            "verdicts": _by_seed([f"{name} × {n}" if n > 1 else name for name, n in Counter(names).items()]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def claims_table(study: StudyResult) -> pd.DataFrame:
    """What the study's runs show, with the tests."""
    rows = []
    for claim in study.claims:
        found = claim.evidence
        least = " (least possible)" if found.is_least else ""
        rows.append({
            "claim": claim.sentence, "test": found.name, "statistic": f"{found.statistic:.3f}",
            "p": probability(found.p) + least, "corrected p": probability(claim.corrected),
            "n": f"{found.n:,} {found.unit}", "shown": "yes" if claim.shown else "no",
        })  # fmt: skip
    return pd.DataFrame(rows)


def write_tables(sections: Sequence[Section], studies: Sequence[StudyResult], folder: Path) -> None:
    """Writes every table into ``folder`` as ``NAME.md`` and ``NAME.tex`` (which needs ``booktabs``), each with the
    commands that make it again."""
    found: dict[str, tuple[str, pd.DataFrame, list[str]]] = {}
    for place, section in enumerate(sections, start=1):
        end = f"_{place}" if len(sections) > 1 else ""
        commands = [run.spec.command for group in section.groups for run in group.runs]
        for kind, made in (
            ("runs", runs_table),
            ("measurements", measurements_table),
            ("costs", costs_table),
            ("survival", survival_table),
        ):
            found[kind + end] = (f"{kind.capitalize()} on {section.title}", made(section), commands)
    for study in studies:
        name, slug = f"{study.name}, {study.scale} scale", re.sub(r"\W+", "_", f"{study.name}_{study.scale}").strip("_")
        found[f"study_{slug}"] = (f"{name}: {study.question}", study_table(study), [study.reproduce])
        if study.claims:
            found[f"claims_{slug}"] = (f"Claims of {name}", claims_table(study), [study.reproduce])
    for name, (caption, table, commands) in found.items():
        for ending in ("md", "tex"):
            files.write_text(folder / f"{name}.{ending}", write_table(table, caption, commands, ending))


def write_table(table: pd.DataFrame, caption: str, commands: Sequence[str], ending: str) -> str:
    """A table under its caption with the commands, as Markdown ("md") or LaTeX ("tex")."""
    context = {"table": table, "caption": caption, "commands": commands}
    return environment().get_template(f"table.{ending}.j2").render(context)


def _solved(group: Group) -> str:
    if not group.finished:
        return NOTHING
    share = rate(group.solved, len(group.finished))
    return f"{group.solved} of {len(group.finished)} [{share['low']:.2f}, {share['high']:.2f}]"


def _by_seed(lines: Sequence[str], between: str = "; ") -> str:
    """All lines; one dash where no seed has any."""
    return between.join(lines) if set(lines) - {NOTHING} else NOTHING


def _number(value: float | None, form: str) -> str:
    return NOTHING if value is None else format(value, form)
