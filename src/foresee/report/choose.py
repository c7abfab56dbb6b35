"""Which test example is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foresee.report.groups import Group, Judged
from foresee.report.load import Example
from foresee.report.star import Star, Walk, follow, read_star


@dataclass(frozen=True)
class Shown:
    """One group's part in a drawing: what the run wrote on the example. ``star`` and ``walk`` are None where the prompt
    is not a path-star."""

    group: Group
    run: Judged
    example: Example
    star: Star | None
    walk: Walk | None


def is_right(example: Example) -> bool:
    """Whether the whole answer was written."""
    return example.wrote.replace(" ", "") == example.answer.replace(" ", "")


def is_typical(run: Judged, example: Example) -> bool:
    """Whether this example shows what the run mostly does: right where it solved, wrong where it did not."""
    return is_right(example) == (run.verdict is not None and run.verdict.name == "solved")


def choose(groups: Sequence[Group]) -> tuple[Shown, ...]:
    """One example for each group: the same prompt for all where they have one in common, and among those the first on
    which most groups do what they mostly do. A group stands for itself by its first run that kept examples."""
    runs = [(group, run) for group in groups for run in group.runs if run.record.examples]
    firsts = list({id(group): (group, run) for group, run in reversed(runs)}.values())[::-1]
    if not firsts:
        return ()
    kept = [{example.prompt: example for example in run.record.examples} for _, run in firsts]
    shared = [prompt for prompt in kept[0] if all(prompt in examples for examples in kept)]
    if shared:
        scores = [
            sum(is_typical(run, examples[prompt]) for (_, run), examples in zip(firsts, kept, strict=True))
            for prompt in shared
        ]
        best = shared[scores.index(max(scores))]
        chosen = [examples[best] for examples in kept]
    else:
        chosen = [
            next((each for each in run.record.examples if is_typical(run, each)), run.record.examples[0])
            for _, run in firsts
        ]
    shown = []
    for (group, run), example in zip(firsts, chosen, strict=True):
        star = read_star(example.prompt)
        shown.append(Shown(group, run, example, star, follow(star, example) if star is not None else None))
    return tuple(shown)
