"""What a study's cells show, each sentence with the test behind it.

Tests take what run folders keep: counts out of n test examples, the same examples for every seed. A statement on every
seed of a cell is tested seed by seed, and the largest p-value counts (an intersection-union test), so examples of
several seeds are never pooled; such a statement is about the models that were trained. Statements about training as
such take the run as the unit. A test that could not show anything with so few runs, whatever they did, is not made, so
that it does not count in the correction either; it is named in place of that. All claims of a study are corrected for
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from foresee.experiments.studies.result import CellResult, SeedResult, times_of
from foresee.metrics.significance import (
    ALPHA,
    MOST_FLIPS,
    Claim,
    Evidence,
    at_least,
    correct_claims,
    differ,
    equivalence,
    sign_flip,
)
from foresee.metrics.survival import log_rank
from foresee.metrics.verdict import NEAR, RELIABLE, SOLVED

Tested = tuple[str, Evidence]


def claims(cells: Sequence[CellResult], baseline: str | None) -> tuple[tuple[Claim, ...], tuple[str, ...]]:
    """Claims on finished cells in the order of the table, then comparisons (with the baseline, or else with the
    controls); and the sentences that so few runs cannot show."""
    found = [each for cell in cells if cell.seeds for each in single(cell)]
    found += against_controls(cells) if baseline is None else against_baseline(cells, baseline)
    hopeless = [sentence for sentence, evidence in found if evidence.least is not None and evidence.least > ALPHA]
    return tuple(correct_claims([each for each in found if each[0] not in hopeless])), tuple(hopeless)


def single(cell: CellResult) -> list[Tested]:
    """What one cell was expected to show, by the published side of it."""
    name = f"{cell.graph}, {cell.label}: {cell.row}"
    if cell.published_side == "chance" and 0 < cell.chance < 1:
        margin = min(NEAR, cell.chance / 2)
        sentence = f"{name} lies within {margin:g} of chance ({cell.chance:.3g}) under every seed"
        return [(sentence, every_seed(cell, lambda right, n: equivalence(right, n, cell.chance, margin)))]
    floors = {"solved": SOLVED, "followed": RELIABLE}
    if cell.published_side in floors:
        floor = floors[cell.published_side]
        sentence = f"{name} is above {floor} under every seed"
        return [(sentence, every_seed(cell, lambda right, n: at_least(right, n, floor)))]
    return []


def every_seed(cell: CellResult, test: Callable[[int, int], Evidence]) -> Evidence:
    """The weakest of the seeds' tests."""
    each = [test(round(seed.value * seed.n), seed.n) for seed in cell.seeds]
    return largest(max(each, key=lambda evidence: evidence.p), len(each), "seed")


def largest(evidence: Evidence, count: int, unit: str) -> Evidence:
    """The evidence, with how many p-values it has the largest of."""
    return replace(evidence, name=f"{evidence.name}; largest p-value of {count} {unit}{'s' * (count > 1)}")


def against_controls(cells: Sequence[CellResult]) -> list[Tested]:
    """For each label that is not its own control, over all pairs of graph and seed: whether the control gets more
    answers right, in every pair and on the whole."""
    pairs: dict[str, dict[tuple[str, str], tuple[SeedResult, SeedResult]]] = {}
    for cell in cells:
        controls = {control.seed: control for control in cell.controls}
        for seed in cell.seeds:
            control = controls.get(seed.seed)
            if control is not None and control.run != seed.run:
                pairs.setdefault(cell.label, {})[seed.run, control.run] = (control, seed)
    found: list[Tested] = []
    for label, of_label in pairs.items():
        each = list(of_label.values())
        name = f"the control (reversed) and {label} differ in exact"
        found.append((f"{name}, the same way in every pair of graph and seed", models_differ(each)))
        if len(each) <= MOST_FLIPS:
            differences = [control.exact - seed.exact for control, seed in each]
            found.append((f"{name} over pairs of graph and seed", sign_flip(differences)))
    return found


def models_differ(pairs: Sequence[tuple[SeedResult, SeedResult]]) -> Evidence:
    """Whether one of two runs is right more often than the other, the same one in every pair."""
    # The smaller number of examples stands for both where they differ, which can only make the p-value larger.
    counts = [(one, other, min(one.n, other.n)) for one, other in pairs]
    evidence = differ([(round(one.exact * n), round(other.exact * n), n) for one, other, n in counts])
    return largest(evidence, len(pairs), "pair")


def against_baseline(cells: Sequence[CellResult], baseline: str) -> list[Tested]:
    """For each other label: whether it differs from the baseline in ``exact`` on the same test examples, and in steps
    to solve, graph by graph."""
    groups: dict[str, dict[str, tuple[SeedResult, ...]]] = {}
    for cell in cells:
        if cell.row == "exact" and cell.seeds:
            groups.setdefault(cell.label, {})[cell.graph] = cell.seeds
    base = groups.pop(baseline, {})
    found: list[Tested] = []
    for label, graphs in groups.items():
        shared = {graph: seeds for graph, seeds in graphs.items() if graph in base}
        for graph, seeds in shared.items():
            beside = {seed.seed: seed for seed in base[graph]}
            pairs = [(seed, beside[seed.seed]) for seed in seeds if seed.seed in beside]
            if pairs:
                sentence = f"{graph}: {label} and {baseline} differ in exact, the same way under every seed"
                found.append((sentence, models_differ(pairs)))
        if shared:
            strata = [(times_of(seeds), times_of(base[graph])) for graph, seeds in shared.items()]
            found.append((f"{label} and {baseline} differ in steps to solve", log_rank(strata)))
    return found
