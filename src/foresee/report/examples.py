"""Which runs and test examples the anatomy shows: as many as fit, and it says what it leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import pandas as pd

from foresee.report import frames
from foresee.report.groups import Group, JudgedRun, Section
from foresee.report.star import Star, StarDrawing, Walk, draw_star, follow, nodes_of, read_star

MOST_PANELS = 320
"""Panels on a page: what keeps a page of hundreds of runs below five megabytes."""
MOST_EXAMPLES = 6
LEAST = 0.005
"""Probabilities below this are left out of the bars."""


@dataclass(frozen=True)
class Panel:
    """One run on one example. ``anatomy`` is what ``anatomy.json`` says of it, None where it says nothing; ``star`` and
    ``walk`` are None where the prompt is not a path-star."""

    group: Group
    run: JudgedRun
    prompt: str
    answer: str
    wrote: str
    anatomy: Mapping[str, Any] | None
    star: Star | None

    @property
    def right(self) -> bool:
        """Whether the whole answer was written."""
        return self.wrote.replace(" ", "") == self.answer.replace(" ", "")

    @property
    def typical(self) -> bool:
        """Whether it shows what the run mostly does: right where it solved, wrong where it did not."""
        return self.right == (self.run.verdict is not None and self.run.verdict.name == "solved")

    @property
    def walk(self) -> Walk | None:
        """What was written, against the graph."""
        return follow(self.star, self.wrote) if self.star is not None else None

    @property
    def drawing(self) -> StarDrawing | None:
        """Both, drawn."""
        return draw_star(self.star, follow(self.star, self.wrote)) if self.star is not None else None

    @property
    def said(self) -> str:
        """What happened, in a few words."""
        return self.walk.said if self.walk is not None else "right" if self.right else "wrong"

    @property
    def written(self) -> list[tuple[str, bool]]:
        """Each symbol that was written and whether it is the right one at its place."""
        right = nodes_of(self.answer)
        return [(node, right[at : at + 1] == (node,)) for at, node in enumerate(nodes_of(self.wrote))]

    @property
    def modes(self) -> dict[str, list[dict[str, Any]]]:
        """The steps with the true answer shown ("truth") and with its own ("free"): of each the bars (symbol,
        probability, whether it is the right one) and the pass that decided it, where there are several."""
        told = self.anatomy or {}
        return {
            mode: self._columns(told[mode], told.get("passes") or []) for mode in ("truth", "free") if told.get(mode)
        }

    def _columns(self, steps: Sequence[Mapping[str, Any]], passes: Sequence[int]) -> list[dict[str, Any]]:
        columns = []
        for at, (step, gold) in enumerate(zip_longest(steps, nodes_of(self.answer)[: len(steps)])):
            top = dict(step["top"])
            if gold == step["symbol"]:
                top.setdefault(gold, step["p"])
            bars = [(symbol, p, symbol == gold) for symbol, p in top.items() if p >= LEAST or symbol == gold]
            columns.append({"bars": bars, "pass": passes[at] if max(passes, default=1) > 1 else None})
        return columns

    @property
    def attention(self) -> pd.DataFrame:
        """Weights of all heads at the position that decides the branch."""
        return frames.attention(self.anatomy or {})


def panels_of(group: Group, run: JudgedRun) -> dict[str, Panel]:
    """By prompt: the examples with anatomy first, then the others that were kept."""
    found: dict[str, Panel] = {}
    for each in [*run.run.anatomies, *run.run.examples]:
        told = each if "order" in each else None
        prompt = str(each["prompt"])
        found.setdefault(
            prompt, Panel(group, run, prompt, str(each["answer"]), str(each["wrote"]), told, read_star(prompt))
        )
    return found


def pick(section: Section, panels: int) -> list[list[Panel]]:
    """Examples that most runs have, each as the panels of its runs; so many that at most ``panels`` panels are drawn,
    but at least one.

    The most telling one comes first (of those with anatomy, that on which most runs do what they mostly do), then the
    others in the order in which runs keep them. Where even one example would be too many panels, each group is shown by
    its first run.
    """
    kept = [found for group in section.groups for run in group.runs if (found := panels_of(group, run))]
    if not kept:
        return []
    seen = Counter(prompt for found in kept for prompt in found)
    most = max(seen.values())
    common = [prompt for prompt in seen if seen[prompt] == most]
    if shared := most == len(kept):
        best = _most_telling(kept, common)
        prompts = [best, *(prompt for prompt in common if prompt != best)][:MOST_EXAMPLES]
    else:
        # Not all have one in common: each run's own telling example too, so that every run is shown.
        own = [_most_telling([found], list(found)) for found in kept]
        prompts = list(dict.fromkeys([*(common if most > 1 else []), *own]))
    if len(kept) > panels:
        first = {next(iter(found.values())).group.id: found for found in reversed(kept)}
        kept = [found for found in kept if first[next(iter(found.values())).group.id] is found]
    shown: list[list[Panel]] = []
    left = panels
    for prompt in prompts:
        here = [found[prompt] for found in kept if prompt in found]
        if here and (not shown or len(here) <= left):
            shown.append(here)
            left -= len(here)
    return shown if shared or shown else []


def _most_telling(kept: Sequence[Mapping[str, Panel]], prompts: Sequence[str]) -> str:
    def score(prompt: str) -> tuple[int, int]:
        here = [found[prompt] for found in kept]
        return sum(each.anatomy is not None for each in here), sum(each.typical for each in here)

    return max(prompts, key=score)


def left_out(section: Section, shown: Sequence[Sequence[Panel]]) -> str:
    """What is not shown, in a sentence; empty where everything that was kept is."""
    drawn = {id(panel.run) for each in shown for panel in each}
    kept = [run for group in section.groups for run in group.runs if run.run.examples or run.run.anatomies]
    most = max((len(run.run.examples) for run in kept), default=0)
    parts = [f"{len(shown)} of up to {most} kept examples"] if most > len(shown) else []
    if any(id(run) not in drawn for run in kept):
        parts.append(f"{len(drawn)} of {len(kept)} runs that kept examples, each objective by its first")
    return f"Shown: {'; '.join(parts)}." if parts else ""
