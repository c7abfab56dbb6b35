"""Which runs and test examples the anatomy shows: as many as fit, and it says what it leaves out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from foresee.report.groups import Group, Section
from foresee.report.star import PromptStar, Walk, follow, nodes_of, read_star
from foresee.training.run import Run

MOST_PANELS = 320
"""Panels on a page: what keeps a page of hundreds of runs below five megabytes."""
MOST_EXAMPLES = 6
LEAST = 0.005
"""Probabilities below this are left out of the bars."""


@dataclass(frozen=True)
class Panel:
    """One run on one example. ``anatomy`` is what ``anatomy.json`` says of it, None where it says nothing; ``star`` and
    ``walk``, what was written against the graph, are None where the prompt is not a path-star."""

    group: Group
    run: Run
    prompt: str
    answer: str
    wrote: str
    anatomy: Mapping[str, Any] | None
    star: PromptStar | None
    walk: Walk | None

    @property
    def right(self) -> bool:
        """Whether the whole answer was written."""
        return self.wrote.replace(" ", "") == self.answer.replace(" ", "")

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
    def unwritten(self) -> Walk:
        """Nothing written on its graph."""
        return Walk((), False, (), "")

    @property
    def modes(self) -> dict[str, list[dict[str, Any]]]:
        """The steps with the true answer shown ("truth") and with its own ("free"): of each the bars (symbol,
        probability, whether it is the right one) and the pass that decided it, where there are several."""
        told = self.anatomy or {}
        passes = told.get("passes") or []
        return {mode: self._columns(told[mode], passes) for mode in ("truth", "free") if told.get(mode)}

    def _columns(self, steps: Sequence[Mapping[str, Any]], passes: Sequence[int]) -> list[dict[str, Any]]:
        columns = []
        for at, (step, gold) in enumerate(zip_longest(steps, nodes_of(self.answer)[: len(steps)])):
            top = dict(step["top"])
            if gold == step["symbol"]:
                top.setdefault(gold, step["p"])
            bars = [(symbol, p, symbol == gold) for symbol, p in top.items() if p >= LEAST or symbol == gold]
            columns.append({"bars": bars, "pass": passes[at] if max(passes, default=1) > 1 else None})
        return columns


def panels_of(group: Group, run: Run) -> dict[str, Panel]:
    """By prompt: the examples with anatomy first, then the others that were kept."""
    found: dict[str, Panel] = {}
    for each in [*run.anatomies, *run.examples]:
        star = read_star(each["prompt"])
        found.setdefault(each["prompt"], Panel(
            group, run, each["prompt"], each["answer"], each["wrote"], each if "order" in each else None, star,
            None if star is None else follow(star, each["wrote"]),
        ))  # fmt: skip
    return found


def first(section: Section) -> Panel | None:
    """The first example that its runs kept, to show what the task asks; None where none did."""
    kept = (panel for group in section.groups for run in group.runs for panel in panels_of(group, run).values())
    return next(kept, None)


def pick(section: Section, panels: int) -> list[list[Panel]]:
    """Examples, each as the panels of its runs: those that most runs have, and one of every run that has none of them;
    so many that at most ``panels`` panels are drawn, but at least one.

    The most telling one comes first (of those with anatomy, that on which most runs do what they mostly do), then the
    others in the order in which runs keep them. Where even one example would be too many panels, each group is shown by
    its first run.
    """
    kept = [found for group in section.groups for run in group.runs if (found := panels_of(group, run))]
    if len(kept) > panels:
        kept = list({next(iter(found.values())).group.id: found for found in reversed(kept)}.values())[::-1]
    seen = Counter(prompt for found in kept for prompt in found)
    common = [prompt for prompt in seen if seen[prompt] == max(seen.values())]
    best = [max(common, key=lambda prompt: _telling(kept, prompt))] if common else []
    prompts = list(dict.fromkeys([*best, *common]))[:MOST_EXAMPLES]
    for found in kept:
        if not found.keys() & set(prompts):
            prompts.append(max(found, key=lambda prompt: _telling([found], prompt)))
    shown: list[list[Panel]] = []
    for prompt in prompts:
        here = [found[prompt] for found in kept if prompt in found]
        if not shown or len(here) <= panels - sum(map(len, shown)):
            shown.append(here)
    return shown


def _telling(kept: Sequence[Mapping[str, Panel]], prompt: str) -> tuple[int, int]:
    """On how many runs the example has anatomy, and on how many it shows what they mostly do: right where a run solved,
    wrong where it did not."""
    here = [found[prompt] for found in kept if prompt in found]
    solved = [each.group.outcome(each.run) == "solved" for each in here]
    typical = sum(each.right == yes for each, yes in zip(here, solved, strict=True))
    return sum(each.anatomy is not None for each in here), typical


def left_out(section: Section, shown: Sequence[Sequence[Panel]]) -> str:
    """What is not shown, in a sentence; empty where everything that was kept is."""
    drawn = {id(panel.run) for each in shown for panel in each}
    kept = [run for group in section.groups for run in group.runs if run.examples or run.anatomies]
    most = max((len(run.examples) for run in kept), default=0)
    parts = [f"{len(shown)} of up to {most} kept examples"] if most > len(shown) else []
    if any(id(run) not in drawn for run in kept):
        parts.append(f"{len(drawn)} of {len(kept)} runs that kept examples, each objective by its first")
    return f"Shown: {'; '.join(parts)}." if parts else ""
