"""However a run on two processes ends, it says so once and continues as if nothing had happened."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import tiny_checkpoints
import together
from tiny import TASK, arguments, outcome, tiny
from together import Plan

from foresee.training.settings import Settings

SMALL: dict[str, Any] = {"steps": 6, "data": "fixed:300", "test": 40, "eval_every": 2, "device": "cpu"}
OBJECTIVE = "teacherless:hybrid=0.5"
SPEC = tiny(OBJECTIVE, **SMALL, processes=2)
"""It draws random numbers."""
LOST = (
    "foresee: another process of this run ended or no longer answers, so all of them end; what it said itself tells "
    "why, and the same command continues\n"
)


def command(root: Path, plan: Plan | None = None, spec: Settings = SPEC) -> list[tuple[int, str]]:
    """The command of ``spec`` under ``root`` on two processes."""
    small = [f"--{key.replace('_', '-')}={value}" for key, value in SMALL.items()]
    argv = ["train", TASK, f"--objective={OBJECTIVE}", *arguments(root / "runs"), f"--backbone={spec.backbone}", *small]
    return together.commands(root, [*argv, "--json"], plan)


def sentence(said: str) -> str:
    """The last line."""
    assert "Traceback" not in said
    return said.splitlines(keepends=True)[-1]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What SPEC ends with when nothing happens to it."""
    root = tmp_path_factory.mktemp("undisturbed")
    (first, second) = command(root)
    assert (first[0], second) == (0, (0, ""))  # the first alone shows progress
    assert "step 6/6" in first[1]
    assert (root / "errors.0.out").read_text().startswith(f'{{"run": "{SPEC.digest}"')
    assert (root / "errors.1.out").read_text() == ""
    return outcome(root / "runs" / SPEC.digest)


@pytest.mark.parametrize("rank", [0, 1])
def test_where_one_is_killed_the_other_ends_and_both_continue(
    tmp_path: Path, undisturbed: dict[str, bytes], rank: int
) -> None:
    ends = command(tmp_path, Plan(rank, update=4))
    assert ends[rank][0] == -signal.SIGKILL
    status, said = ends[1 - rank]
    assert status == 1
    if rank == 1:
        assert sentence(said) == LOST
    else:
        assert said == ""
    assert (tmp_path / "runs" / SPEC.digest / "checkpoint" / "latest.safetensors").exists()
    (first, second) = command(tmp_path)
    assert (first[0], second) == (0, (0, ""))
    assert ", from step 3\n" in first[1]
    assert outcome(tmp_path / "runs" / SPEC.digest) == undisturbed


@pytest.mark.parametrize("rank", [0, 1])
def test_asked_to_stop_all_stop_at_the_same_step(tmp_path: Path, undisturbed: dict[str, bytes], rank: int) -> None:
    # Nothing is saved but on being asked.
    (status, said), other = command(tmp_path, Plan(rank, 3, signal.SIGTERM, save_seconds=1e9))
    directory = tmp_path / "runs" / SPEC.digest
    assert (status, other) == (1, (1, ""))
    assert sentence(said) == f"foresee: stopped at step 3 of 6 and saved in {directory}; the same command continues\n"
    assert ", from step 3\n" in command(tmp_path)[0][1]
    assert outcome(directory) == undisturbed


@pytest.mark.slow
def test_asked_to_stop_at_the_last_step(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    (status, said), other = command(tmp_path, Plan(1, 6, signal.SIGTERM, save_seconds=1e9))
    assert (status, other) == (1, (1, ""))
    assert "stopped at step 6 of 6" in sentence(said)
    assert command(tmp_path)[0][0] == 0
    assert outcome(tmp_path / "runs" / SPEC.digest) == undisturbed


def test_what_the_first_cannot_write_ends_all(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    ends = command(tmp_path, Plan(full_at=3, save_seconds=1e9))  # after env.json and spec.json
    directory = tmp_path / "runs" / SPEC.digest
    assert ends[1] == (1, "")
    assert ends[0][0] == 1
    assert sentence(ends[0][1]).startswith(
        f"foresee: the disk is full: {directory / 'metrics.jsonl'} could not be written"
    )
    (directory / "spec.json").write_bytes(b"{")
    ends = command(tmp_path)
    assert (ends[0][0], ends[1]) == (2, (2, ""))
    assert "spec.json is damaged" in sentence(ends[0][1])
    (directory / "spec.json").write_bytes(undisturbed["spec.json"])
    assert command(tmp_path)[0][0] == 0
    assert outcome(directory) == undisturbed


@pytest.mark.slow
def test_killed_and_continued_shards_end_as_if_undisturbed(tmp_path: Path) -> None:
    folder = tiny_checkpoints.save(tmp_path / "checkpoint")
    spec = tiny(OBJECTIVE, backbone=f"hf:{folder}", **SMALL, processes=2)
    (tmp_path / "whole").mkdir()
    assert [status for status, _ in command(tmp_path / "whole", spec=spec)] == [0, 0]
    (tmp_path / "cut").mkdir()
    statuses = [status for status, _ in command(tmp_path / "cut", Plan(1, update=4), spec)]
    assert statuses == [1, -signal.SIGKILL]
    first, second = command(tmp_path / "cut", spec=spec)
    assert (first[0], second) == (0, (0, ""))
    assert ", from step 3\n" in first[1]
    whole, cut = (outcome(tmp_path / name / "runs" / spec.digest) for name in ("whole", "cut"))
    assert whole == cut
