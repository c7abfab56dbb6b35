"""docs/findings.md: which runs count once, which settings stand for an objective, and what has no seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fabricated_runs import BACKBONE, fabricate_run

from foresee.experiments.studies.run import plan
from foresee.training.settings import Settings
from generate.findings import is_drawn, rank_objectives
from generate.lines import choose_best, find_repeated, gather, read_runs

DEEP = BACKBONE.replace("layers=4", "layers=8")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Token-order solves under three seeds with four layers and under one of two with eight; next-token under none."""

    def add(*given: Any, folder: str = "objectives", **settings: Any) -> None:
        fabricate_run(tmp_path / folder, *given, **settings)

    for seed in range(3):
        add("token-order:window=none,weight=1.0", "solves", seed=seed)
    for seed, behaviour in enumerate(("solves", "follows")):
        add("token-order:window=none,weight=1.0", behaviour, seed=seed, backbone=DEEP, device="cuda")
    add("token-order:window=none,weight=1.0", "follows", seed=0, device="cuda", folder="other-device")
    add("next-token", "follows", seed=0)
    add("next-token", "follows", seed=1, finished=False)
    return tmp_path


def test_the_surest_settings_stand_for_an_objective(results: Path) -> None:
    best = choose_best(gather(read_runs(results, ["objectives"])))
    assert [(line.objective, line.group.seeds_solved, len(line.group.runs)) for line in best] == [
        ("token-order", 3, 3), ("next-token", 0, 1),
    ]  # fmt: skip
    assert [len(line.begun) for line in best] == [3, 2]
    assert all(is_drawn(line) for line in best)
    deep = next(line for line in gather(read_runs(results, ["objectives"])) if "8×" in line.backbone)
    assert not is_drawn(deep)
    # An unfinished run had not solved.
    fabricate_run(results / "objectives", "token-order:window=none,weight=1.0", "solves", seed=3, finished=False)
    line = choose_best(gather(read_runs(results, ["objectives"])))[0]
    assert (line.group.seeds_solved, len(line.group.runs), line.solved["n"]) == (3, 3, 4)


def test_seconds_are_those_of_a_cpu(results: Path) -> None:
    lines = {line.backbone: line for line in gather(read_runs(results, ["objectives"])) if line.group.seeds_solved}
    assert [line.seconds_a_step is None for _, line in sorted(lines.items())] == [False, True]


def test_one_seed_that_went_two_ways_is_two_draws(results: Path) -> None:
    alone, both = (read_runs(results, folders) for folders in (["objectives"], ["objectives", "other-device"]))
    assert len(both) == len(alone) + 1
    assert find_repeated(alone) == []
    (twice,) = find_repeated(both)
    assert [run.spec.device for run in twice.group.runs] == ["cpu", "cuda"]
    assert (twice.share, [step.startswith("> ") for step in twice.steps]) == ("1 of 2 [0.09, 0.91]", [False, True])
    shallow = [line for line in gather(both) if line.objective == "token-order" and "4×" in line.backbone]
    assert [line.share for line in shallow] == ["3 of 4 [0.30, 0.95]"]
    # What goes on where another stopped is no other draw, wherever it lies.
    fabricate_run(results / "teacherless", "token-order:window=none,weight=1.0", "solves", seed=0, finished=False)
    assert len(read_runs(results, ["teacherless", "objectives", "other-device"])) == len(both)


def test_a_rate_that_falls_over_other_steps_is_another_training(results: Path) -> None:
    for steps in (400, 600):
        fabricate_run(results / "teacherless", "next-token", "follows", seed=0, schedule="cosine", steps=steps)
    falling = [line for line in gather(read_runs(results, ["teacherless"])) if "cosine" in line.settings]
    assert sorted(line.settings.partition("cosine ")[2] for line in falling) == ["over 400", "over 600"]
    assert [len(line.group.runs) for line in falling] == [1, 1]


def test_an_objective_stands_under_equal_settings_and_under_its_best(tmp_path: Path) -> None:
    """Under equal settings none of two seeds solves, with eight layers both."""
    study, sizes = plan("objectives", runs=tmp_path), plan("graph-size", runs=tmp_path)
    cells = {(cell.graph, cell.label): cell.runs for cell in (*study.cells, *sizes.cells)}

    def add(spec: Settings, behaviour: Any, **changed: Any) -> None:
        fabricate_run(tmp_path, behaviour=behaviour, **spec.model_dump() | changed)

    for spec in cells["G(2, 5)", "token-order"][:2]:
        add(spec, "follows")
        add(spec, "solves", backbone=DEEP)
    add(cells["G(2, 5)", "next-token"][0], "follows")
    add(cells["G(5, 5)", "next-token"][0], "follows")
    ranked = rank_objectives(study, sizes, gather(read_runs(tmp_path.parent, [tmp_path.name])), {"token-order": 1.5})
    (first, second) = ranked
    assert (first.objective, first.cost, first.published) == ("token-order", 1.5, "")
    assert first.equal is not None
    assert (first.equal.share, first.best.share) == ("0 of 2 [0.00, 0.66]", "2 of 2 [0.34, 1.00]")
    assert (first.equal.median_steps is None, first.best.median_steps is None) == (True, False)
    assert first.larger == ((None, ""), (None, ""), (None, ""))
    assert (first.searched, second.searched) == (True, False)
    assert (second.equal, second.cost) == (second.best, None)
    assert "[DIG]" in second.published
    shares = [None if line is None else line.share for line, _ in second.larger]
    assert shares == [None, "0 of 1 [0.00, 0.79]", None]
    assert "[D]" in second.larger[1][1]
