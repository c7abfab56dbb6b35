"""Mate in two: files of both formats, rows that are bad, and every forced mate accepted.

The positions of mate_in_two.csv were made for these tests, by search among random ones with few pieces.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.spec import resolve
from foresee.tasks import tasks
from foresee.tasks.mate_in_two import MateInTwo

OWN = Path(__file__).with_name("mate_in_two.csv")
LADDER = "8/8/8/R3K3/8/8/k3Q3/8 b - - 0 1,a2b3 e5d4 b3b4 e2b5"
HEADER = "FEN,Moves\n"


def of(tmp_path: Path, text: str, name: str = "puzzles.csv", bad: str = "refuse") -> MateInTwo:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    task = resolve(tasks, f"mate-in-two:path={path},bad={bad}").build()
    assert isinstance(task, MateInTwo)
    return task


def test_the_opponents_move_comes_first_and_other_themes_are_left_out(tmp_path: Path) -> None:
    task = of(tmp_path, HEADER + LADDER + "\n")
    line = task.write_line(*split(task, 0))
    assert line == "8/8/8/R3K3/8/1k6/4Q3/8 w=e5d4 b3b4 e2b5"
    assert task.read_line(line) == split(task, 0)
    assert len(MateInTwo(path=str(OWN)).puzzles) == 48  # of 49 rows; one has another theme


def split(task: MateInTwo, row: int) -> tuple[list[int], list[int]]:
    tokens = task.puzzles[row].tolist()
    return tokens[:66], tokens[66:]


def test_the_original_repositorys_file_holds_the_same_puzzle(tmp_path: Path) -> None:
    pair = {"prefix": ["8/8/8/R,3,K,3/8/1,k,6/4,Q,3/8 w"], "target": ["e5d4 b3b4 e2b5"]}
    task = of(tmp_path, json.dumps(pair), "puzzles.json")
    assert task.puzzles.tolist() == of(tmp_path, HEADER + LADDER).puzzles.tolist()


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("8/8/8/R3K3/8/8/k3Q3/8 b - - 0 1,a2b3 e5d4 b3c4 e2b5", "b3c4 is not legal in"),
        ("8/8/8/R3K3/8/8/k3Q3/8 b - - 0 1,a2b3 e5d4 b3b4 e2e1", "e2e1 does not mate"),
        ("8/8/8/R3K3/8/8/k3Q3/8 b - - 0 1,a2b3 e5d4", "there are 2 moves"),
        ("8/8/8/R3K3/8/8/k3Q3 b - - 0 1,a2b3 e5d4 b3b4 e2b5", "is not a FEN"),
        ("8/8/8/R3K3/8/8/k3Q3 b,e5d4 b3b4 e2b5", "is not the placement of pieces on 8 ranks"),
        ("8/8/8/R3K3/8/8/4Q3/8 b,e5d4 b3b4 e2b5", "breaks the rules of chess"),
        ("8/8/8/R3K3/8/1k6/4Q3/8 w,e5d4 b3b4 e2x5", "is not a move"),
        ("8/8/8/R3K3/8/1k6/4Q3/8,e5d4 b3b4 e2b5", "does not say who is to move"),
    ],
)
def test_bad_rows_give_file_row_and_reason(tmp_path: Path, row: str, reason: str) -> None:
    text = f"{HEADER}{LADDER}\n{row}\n"
    with pytest.raises(RequestError, match=f"puzzles.csv, row 3: .*{reason}"):
        _ = of(tmp_path, text).puzzles
    assert len(of(tmp_path, text, bad="skip").puzzles) == 1
    with pytest.raises(RequestError, match=f"puzzles.csv, row 2: .*{reason}"):
        _ = of(tmp_path, f"{HEADER}{row}\n", bad="skip").puzzles


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("a.csv", "PuzzleId,Moves\n", "the header has no column FEN"),
        ("a.csv", HEADER, "the file holds no puzzles"),
        ("a.json", '{"prefix": []}', "not a JSON object"),
        ("a.json", "[" * 100_000, "not a JSON object"),
        ("a.json", '{"prefix": [1], "target": [2]}', "row 1: the prefix and the target must be strings"),
    ],
)
def test_bad_files_say_why(tmp_path: Path, name: str, text: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        _ = of(tmp_path, text, name).puzzles


def test_a_missing_file_is_named() -> None:
    with pytest.raises(RequestError, match=r"no-such\.csv: no such file"):
        _ = MateInTwo(path="no-such.csv").puzzles


def test_other_forced_mates_are_right_and_unforced_ones_are_not(tmp_path: Path) -> None:
    task = of(tmp_path, HEADER + LADDER)
    prompt, _ = split(task, 0)
    assert task.verify(prompt, task.solve(prompt))
    with pytest.raises(RequestError, match="e2d1 does not force mate in two"):
        task.read_line("8/8/8/R3K3/8/1k6/4Q3/8 w=e2d1 b3b4 e2b5")


def test_colours_and_left_and_right_are_not_part_of_the_problem(tmp_path: Path) -> None:
    lines = [
        "8/8/8/R3K3/8/1k6/4Q3/8 w=",
        "8/8/8/3K3R/8/6k1/3Q4/8 w=",
        "8/4q3/1K6/8/r3k3/8/8/8 b=",
        "8/4q3/1K6/8/r3k3/8/8/8 w=",
    ]
    task = MateInTwo(path=str(OWN))
    prompts = torch.tensor([task.read_line(line)[0] for line in lines])
    batch = Batch.of(torch.cat([prompts, torch.zeros(4, 9, dtype=torch.int64)], 1), 66, 9)
    first, *same, other = task.identity(batch).tolist()
    assert same == [first, first]
    assert other != first


def test_without_the_library_one_sentence_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "chess", None)
    with pytest.raises(RequestError, match="install it with: pip install 'foresee\\[chess\\]'"):
        _ = MateInTwo(path=str(OWN)).puzzles


def test_chance_is_that_of_guessing_the_first_move() -> None:
    task = MateInTwo(path=str(OWN))
    assert 0.02 < task.chance < 0.5
    assert len(task.sample(100, seeds.stream("rows"))) == 100
