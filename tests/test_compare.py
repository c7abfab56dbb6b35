"""Objectives beside each other: the control is always among them, runs are paired, and the table says what happened."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from tiny import EASY, QUICK, SOLVING, tiny

from foresee.cli.display import show_comparison
from foresee.core import files
from foresee.core.spec import resolve
from foresee.experiments.compare import Comparison, ObjectiveRuns, compare
from foresee.tasks.base import tasks
from foresee.training.loop import train
from foresee.training.records import rows_as_lines
from foresee.training.run import Run, load


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two seeds of next-token and of the control, long enough to solve."""
    return compare(tiny(task=EASY, **SOLVING), ["next-token"], 2, tmp_path_factory.mktemp("runs"), engine="in-process")


def with_exact(run: Run, by_step: dict[int, float], final: float) -> Run:
    """The run as if its evaluations had been these."""
    lines = [{**run.metrics[-1], "step": step, "eval": {"exact": exact}} for step, exact in by_step.items()]
    files.write_json_lines(run.dir / "metrics.jsonl", lines)
    rows = [line | {"value": final} if line["row"] == "exact" else line for line in rows_as_lines(run.rows)]
    files.write_json_lines(run.dir / "rows.jsonl", rows)
    return load(run.dir)


def shown(compared: Comparison) -> list[str]:
    """What a terminal of 80 columns shows."""
    console = Console(width=80, color_system=None)
    with console.capture() as captured:
        show_comparison(compared, console)
    return captured.get().splitlines()


def test_the_control_is_always_run_and_listed_last_and_runs_are_paired_by_seed(solved: Comparison) -> None:
    assert [group.objective for group in solved.groups] == ["next-token", "reversed"]
    for group in solved.groups:
        assert [run.spec.seed for run in group.runs] == [0, 1]
    for one, other in zip(*(group.runs for group in solved.groups), strict=True):
        # It stops once it has solved: no more is asked of it.
        assert other.spec == one.spec.control().replace(until_solved=True)
        assert one.spec.replace(objective=other.spec.objective, until_solved=True) == other.spec


def test_a_control_that_was_asked_for_keeps_its_place_and_two_spellings_are_one(tmp_path: Path) -> None:
    for asked, listed in (
        (["reversed", "teacherless", "next-token"], ["reversed", "teacherless:hybrid=0.0", "next-token"]),
        (["teacherless", "teacherless:hybrid=0.0", "teacherless:0"], ["teacherless:hybrid=0.0", "reversed"]),
    ):
        groups = compare(tiny(**QUICK), asked, 1, tmp_path, engine="in-process").groups
        assert [group.objective for group in groups] == listed
        assert len(list(tmp_path.iterdir())) == 3


def test_a_task_of_one_token_is_vouched_for_by_the_whole_path(tmp_path: Path) -> None:
    branch = "path-star-branch:degree=2,length=3,nodes=10,splits=1"
    alone, control = compare(tiny(task=branch, **QUICK), ["next-token"], 1, tmp_path, engine="in-process").groups
    assert control.runs[0].spec.task == resolve(tasks, "path-star:degree=2,length=3,nodes=10,splits=1").text
    (doubt, *_) = alone.runs[0].verdict.doubts
    assert "has not solved" in doubt
    assert "foresee train path-star:length=3,nodes=10,splits=1 --objective reversed" in doubt


def test_its_runs_are_those_of_train(solved: Comparison) -> None:
    root = solved.groups[0].runs[0].dir.parent
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for objective in ("next-token", "reversed"):
        for seed in (0, 1):
            train(tiny(objective, EASY, **SOLVING, seed=seed, until_solved=objective == "reversed"), root)
    # A seed more trains that seed alone.
    compare(tiny("teacherless", EASY, **SOLVING, seed=7), ["next-token"], 2, root, engine="in-process")
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_what_was_solved_and_when(solved: Comparison) -> None:
    for group in solved.groups:
        assert min(group.exact) >= 0.95
        assert group.solved["value"] == 1.0
        assert group.solved["n"] == 2
        for run, at in zip(group.runs, group.steps_to_solve, strict=True):
            reached = [line["eval"]["exact"] >= 0.95 for line in run.metrics]
            assert at == run.metrics[reached.index(True)]["step"]
        assert {run.verdict.name for run in group.runs} == {"solved"}


def test_the_table(tmp_path: Path) -> None:
    compared = compare(tiny(**QUICK), ["teacherless"], 2, tmp_path, engine="in-process")
    groups = compared.groups
    first, second = groups[0].runs
    made_up = ObjectiveRuns(
        "teacherless:hybrid=0.0",
        (with_exact(first, {2: 0.96, 4: 0.94}, 0.9625), with_exact(second, {2: 0.2, 4: 0.5}, 0.5)),
    )
    assert made_up.steps_to_solve == [2, None]
    lucky = with_exact(first, {2: 0.2, 4: 0.952}, 0.944)  # of the watched examples, not of those that are measured
    assert ObjectiveRuns("teacherless:hybrid=0.0", (lucky,)).steps_to_solve == [None]
    assert made_up.solved["value"] == 0.5
    control = groups[1]
    lines = shown(replace(compared, groups=(made_up, control)))
    assert " ".join(lines).startswith("path-star:length=3,nodes=10")
    assert "4 steps, batch 32, learning rate 0.002" in " ".join(lines)
    cells = [re.split(r"  +", line.strip()) for line in lines]
    at = cells.index(["objective", "seed", "exact", "branch", "follow", "solved at", "verdict"])
    cells = cells[at - 2 :]
    assert cells[4] == ["teacherless", "0", "0.963", "-", "-", "step 2", "solved"], "it cannot be forced"
    assert cells[5][:5] == ["1", "0.500", "-", "-", "-"]
    assert cells[5][5].endswith(" (inconclusive)")
    branches = [f"{run.rows['branch']['value']:.3f}" for run in control.runs]  # type: ignore[call-overload]
    assert [cells[7][0], cells[7][3], cells[8][2]] == ["reversed", *branches]
    low, high = made_up.solved["low"], made_up.solved["high"]
    assert f"teacherless: 1 of 2 seeds solved (95 % interval {low:.2f} to {high:.2f})" in lines
    # What the verdicts mean and why they are in doubt is said once, not once a seed, and one command would settle it.
    said = " ".join(lines)
    assert said.count("solved: It solved the task") == said.count("so the budget may be too small") == 1
    (command,) = (line for line in lines if line.startswith("to settle it: "))
    assert "foresee compare path-star:" in command
    assert all(each in command for each in ("--objectives teacherless", "--seeds 2", "--steps 8"))


def test_the_control_is_in_doubt_until_that_of_the_same_seed_has_solved(tmp_path: Path) -> None:
    groups = compare(tiny(**QUICK), ["next-token"], 2, tmp_path, engine="in-process").groups

    def in_doubt() -> list[tuple[bool, bool]]:
        doubts = [" ".join(run.verdict.doubts) for run in groups[0].runs]
        return [("control" in each, "layers" in each) for each in doubts]

    assert in_doubt() == [(True, True)] * 2
    with_exact(groups[1].runs[1], {4: 1.0}, 1.0)
    # Reversed training needs two layers at any length, so it says nothing of depth.
    assert in_doubt() == [(True, True), (False, True)]
