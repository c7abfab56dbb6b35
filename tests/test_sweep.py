"""Files of runs: what they may say, and that nothing else is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from program import Program
from refusals import refused
from tiny import BACKBONE, QUICK, TASK, tiny

from foresee.experiments.sweep import read_sweep
from foresee.training.loop import train
from foresee.training.settings import Settings

FIRST = f"Settings.of('{TASK}', 'next-token', steps=3)"
ONE = f"task: '{TASK}', objective: next-token"


def written(tmp_path: Path, text: str, name: str = "sweep.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_list_of_runs_with_every_setting(tmp_path: Path) -> None:
    text = f"""
- {{task: '{TASK}', objective: reversed, backbone: '{BACKBONE}', steps: 30, batch: 32, lr: 2e-3, seed: 2,
    data: 2000, test: 200, eval_every: 10, warmup: 5, until_solved: true, schedule: cosine, clip: 2}}
- {{{ONE}}}
"""
    first = tiny("reversed", seed=2, until_solved=True, schedule="cosine", clip=2.0)
    assert read_sweep(written(tmp_path, text)) == [first, Settings.of(TASK, "next-token")]


def test_defaults_grids_and_runs(tmp_path: Path) -> None:
    text = f"""
defaults: {{task: '{TASK}', backbone: '{BACKBONE}', steps: 30, seed: 9}}
grid:
  - objective: [next-token, reversed]
    seed: [0, 1]
  - objective: [teacherless]
    batch: [32, 64]
runs:
  - {{objective: registers, steps: 7}}
  - {{objective: registers, seeds: [3, 4]}}
"""
    specs = read_sweep(written(tmp_path, text))
    found = [(spec.objective.partition(":")[0], spec.seed, spec.batch, spec.steps) for spec in specs]
    assert found == [
        ("next-token", 0, 128, 30), ("next-token", 1, 128, 30), ("reversed", 0, 128, 30), ("reversed", 1, 128, 30),
        ("teacherless", 9, 32, 30), ("teacherless", 9, 64, 30),
        ("registers", 9, 128, 7), ("registers", 3, 128, 30), ("registers", 4, 128, 30),
    ]  # fmt: skip
    for text, expected in (
        (f"defaults: {{{ONE}, seeds: [5, 6]}}\nruns: [{{steps: 7}}, {{steps: 8, seed: 1}}]", [(7, 5), (7, 6), (8, 1)]),
        (f"defaults: {{{ONE}}}\ngrid: {{steps: [7, 8], seeds: [1, 2]}}", [(7, 1), (7, 2), (8, 1), (8, 2)]),
    ):
        assert [(spec.steps, spec.seed) for spec in read_sweep(written(tmp_path, text))] == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ": expected a list of runs, or a mapping of defaults, grid, runs"),
        ("just words", ": expected a list of runs, or a mapping of defaults, grid, runs"),
        ("[]", ": it lists no runs"),
        ("grids: {}", ": unknown key 'grids': did you mean 'grid'?"),
        ("runs: {}", ": runs must be a list"),
        ("[next-token]", ": run 1: expected a mapping, as in {task: ..., objective: ...}, not 'next-token'"),
        (f"[{{{ONE}}}, {{{ONE}, step: 3}}]", ": run 2: unknown key 'step': did you mean 'steps'"),
        (f"[{{task: '{TASK}'}}]", ": run 1: objective is missing"),
        (f"[{{{ONE}, steps: many}}]", ": run 1: steps='many' must be a whole number"),
        (f"[{{{ONE}, lr: null}}]", ": run 1: lr=None must be a number"),
        (f"[{{{ONE}, seed: 1, seeds: [2]}}]", ": run 1: it has both seed and seeds; give one of them"),
        (f"[{{{ONE}, seeds: 3}}]", ": run 1: seeds must be a list of whole numbers, as in seeds: [0, 1, 2], not 3"),
        (f"[{{task: '{TASK}', objective: next-tokens}}]", ": run 1: unknown objective 'next-tokens': did you mean"),
        ("grid: {objective: next-token}", ": grid: objective must be a list of values, as in objective: [next-token]"),
        ("grid: {}", ": grid: it is empty; a grid has a list of values for each key"),
        ("grid: {seed: [1], seeds: [2]}", ": grid: it has both seed and seeds; give one of them"),
        ("grid: [{task: [a]}, {tasks: [a]}]", ": grid 2: unknown key 'tasks': did you mean 'task'"),
        ("grid: {task: [a]}", ": grid, combination 1: objective is missing"),
        (f"defaults: {{{ONE}}}\ngrid: {{steps: [1, 0]}}", ": grid, combination 2: steps=0 must be at least 1"),
        ("defaults: [1]", ": defaults: expected a mapping"),
        (f"- {{{ONE},\n   steps: 3, steps: 4}}", ", line 2: the key 'steps' is given twice"),
        ("- {task: a\n- b", ", line 2: "),
        ("- !!python/object/apply:os.system ['false']", ", line 1: could not determine a constructor for the tag"),
        ("[" * 5000, ": it is nested too deeply to be a list of runs"),
    ],
)
def test_what_is_wrong_is_said_where(tmp_path: Path, text: str, says: str) -> None:
    with refused(f"{tmp_path / 'sweep.yaml'}{says}"):
        read_sweep(written(tmp_path, text))


def test_files_of_other_kinds_are_refused(tmp_path: Path) -> None:
    written(tmp_path, "[]", "sweep.json")
    (tmp_path / "sweep.yaml").write_bytes(b"\xff\xfe\xff")
    for name, says in (
        ("nothing.yaml", "no such file; give a YAML or Python file that lists runs"),
        ("sweep.json", "a sweep is a file whose name ends in .yaml, .yml or .py"), ("sweep.yaml", "not UTF-8 text"),
    ):  # fmt: skip
        with refused(f"{tmp_path / name}: {says}"):
            read_sweep(tmp_path / name)


@pytest.mark.parametrize(
    "text",
    [
        f"runs = [{FIRST}, dict(task='{TASK}', objective='reversed', seeds=[1])]",
        f"SECOND = dict(task='{TASK}', objective='reversed', seed=1)\ndef runs(): return [{FIRST}, SECOND]",
    ],
)
def test_python(tmp_path: Path, text: str) -> None:
    text = f"from foresee.training.settings import Settings\n{text}\n"
    specs = read_sweep(written(tmp_path, text, "sweep.py"))
    assert specs == [Settings.of(TASK, "next-token", steps=3), Settings.of(TASK, "reversed", seed=1)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("runs = [", ", line 1: '[' was never closed"),
        ("run = []", ": it must define runs, a list, or a function runs() that gives one"),
        ("runs = []", ": it lists no runs"),
        ("runs = [dict(tasks='a')]", ": run 1: unknown key 'tasks': did you mean 'task'"),
    ],
)
def test_wrong_python_is_said(tmp_path: Path, text: str, says: str) -> None:
    with refused(f"{tmp_path / 'sweep.py'}{says}"):
        read_sweep(written(tmp_path, text, "sweep.py"))


# The command ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """A file of two runs."""
    spec = tiny(**QUICK)
    run = {"task": spec.task, "backbone": spec.backbone, "objective": "next-token", "seeds": [0, 1]}
    return written(tmp_path, json.dumps([run | {"batch": spec.batch, "warmup": spec.warmup, **QUICK}]))


def test_a_dry_run_shows_what_would_be_done(listed: Path, tmp_path: Path, program: Program) -> None:
    train(tiny(**QUICK), tmp_path / "runs")
    shown = program.json("sweep", str(listed), "--dry-run", "--runs", str(tmp_path / "runs"))
    assert [run["state"] for run in shown["runs"]] == ["finished", "new"]
    assert shown["runs"][1]["command"].startswith("foresee train path-star:length=3,nodes=10,goals=one ")
    assert shown["plan"] == "one run after the other in this process"
    assert len(list((tmp_path / "runs").iterdir())) == 1
    _, out, _ = program("sweep", str(listed), "--dry-run", "--runs", str(tmp_path / "runs"))
    assert out.splitlines()[-1] == "2 runs; one run after the other in this process"


def test_the_command_trains_and_shows(listed: Path, tmp_path: Path, program: Program) -> None:
    runs = str(tmp_path / "runs")
    status, out, err = program("sweep", str(listed), "--json", "--runs", runs)
    shown = json.loads(out)
    assert status == 0
    assert [run["seed"] for run in shown["runs"]] == [0, 1]
    assert shown["failed"] == []
    assert "2 runs, 0 finished before; one run after the other in this process" in err
    assert "finished, 2 of 2" in err
    _, out, _ = program("sweep", str(listed), "--runs", runs)
    assert all(run["run"] in out for run in shown["runs"])


def test_the_command_names_what_failed(listed: Path, tmp_path: Path, program: Program) -> None:
    bad = tiny(**QUICK, seed=1)
    (tmp_path / bad.digest).mkdir()
    (tmp_path / bad.digest / "spec.json").write_text("{")
    status, out, err = program("sweep", str(listed), "--json", "--runs", str(tmp_path))
    assert status == 1
    failed = f"1 of 2 runs failed, the others are finished: next-token on path-star, seed 1 ({bad.digest}): "
    assert err.splitlines()[-1].startswith(f"foresee: {failed}")
    shown = json.loads(out)
    assert [run["seed"] for run in shown["runs"]] == [0]
    assert [failed["run"] for failed in shown["failed"]] == [bad.digest]
    assert "spec.json is damaged" in shown["failed"][0]["error"]
