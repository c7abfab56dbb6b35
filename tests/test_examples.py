"""The example plug-ins do what docs/extending.md says, through nothing but the public interface."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from task_checks import check_all, check_changed_answers, check_lines, check_sizes
from tiny import tiny

import foresee
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.plugins import load_plugin_file
from foresee.core.seeds import stream, torch_stream
from foresee.experiments.catalogue import all_registries
from foresee.objectives import LossOut, Objective
from foresee.tasks import Task
from foresee.training.batched import train_batched
from foresee.training.data import draw
from foresee.training.loop import train

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
PLUGINS = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("plugins/*.py")])


@pytest.fixture(autouse=True)
def _examples(forget_plugins: None) -> None:
    """Loads every example, each of which registers something."""
    for path in PLUGINS:
        load_plugin_file(path)
    modules = {cls.__module__ for registry in all_registries().values() for cls in registry._classes.values()}
    assert {f"foresee_plugin_{path.stem}" for path in PLUGINS} <= modules


# running_parity.py


@pytest.mark.parametrize("bits", [2, 5, 12, 60])
def test_running_parity_agrees_with_itself(bits: int) -> None:
    task = foresee.task(f"running-parity:bits={bits}")
    batch = task.sample(64, stream("test", bits))
    assert torch.equal(batch.tokens, task.sample(64, stream("test", bits)).tokens)
    check_all(task, batch, stream("changes", bits))
    # 0110: parities of the prefixes 0, 01, 011 and 0110 are 0, 1, 0, 0; longest first that is 0010.
    task = foresee.task("running-parity:bits=4")
    assert task.read_line("0110=0010\n") == ([0, 1, 1, 0, 2], [0, 0, 1, 0])
    assert task.plateau == pytest.approx(math.log(2) / 4)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0110", "there is no '=' where the problem ends; a line reads 0110=0010"),
        ("01a0=0010", "bit 'a' in the prompt is not a whole number written in plain digits"),
        ("0110=0,0", "bit ',' in the answer is not a whole number"),
        ("011=010", "a prompt is 4 bits and '='"),
        ("0110=0011", "symbol 4 of the answer is 1, but a right answer has 0 there"),
    ],
)
def test_running_parity_refuses_a_bad_line(line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        foresee.task("running-parity:bits=4").read_line(line)


# word_dropout.py


def on_path_star(objective: str) -> tuple[Task, Objective]:
    """A small untrained model of an objective: every one has the same weights."""
    task = foresee.task("path-star:degree=2,length=4,nodes=10,goals=one")
    net = foresee.backbone("transformer:layers=1,width=16,heads=2", vocab_size=len(task.vocab))
    return task, foresee.objective(objective, net, task.vocab)


def test_word_dropout_without_dropout_is_next_token_and_weighs_tokens_whose_predecessor_is_masked() -> None:
    def loss(objective: str) -> LossOut:
        return on_path_star(objective)[1].loss(batch, torch_stream("loss"))

    batch = on_path_star("next-token")[0].sample(8, stream("test"))
    expected, got = loss("next-token"), loss("word-dropout:share=0")
    assert torch.equal(expected.total, got.total)
    assert torch.equal(expected.per_token, got.per_token)
    assert got.parts.keys() == {"word-dropout"}
    first, out = loss("word-dropout:share=0.5"), loss("word-dropout:share=0.5,emphasis=3")
    masked = (torch.rand(batch.tokens.shape, generator=torch_stream("loss")) < 0.5) & batch.in_answer()
    weights = 1 + 2 * torch.nn.functional.pad(masked, (1, 0))[:, :-1]
    assert torch.equal(out.per_token, first.per_token)
    torch.testing.assert_close(out.total, (first.per_token * weights).sum() / batch.answer_len.sum())


def test_word_dropout_trains_as_one_program_of_several_seeds_each_with_draws_of_its_own(tmp_path: Path) -> None:
    asked = [tiny("word-dropout", seed=seed, steps=4, eval_every=2, test=40, precision="float32") for seed in (0, 1)]
    for run, spec in zip(train_batched(asked, tmp_path / "together"), asked, strict=True):
        alone = train(spec, tmp_path / "alone")
        assert [line["loss"] for line in run.metrics] == pytest.approx([line["loss"] for line in alone.metrics], 1e-5)


def test_an_example_task_can_be_trained_on_and_an_example_metric_measured(tmp_path: Path) -> None:
    run = foresee.train(
        "running-parity:bits=12", "word-dropout", "transformer:layers=1,width=16,heads=2", runs=tmp_path, steps=2,
        batch=16, data="200", test=32, eval_every=1, warmup=1,
    )  # fmt: skip
    assert {"exact", "free", "forced", "branch", "follow"} <= run.rows.keys()  # a flipped parity implies all later ones
    assert run.dir.parent == tmp_path
    entropy = run.rows["entropy"]
    assert isinstance(entropy, list)
    assert [row["n"] for row in entropy] == [32] * 12
    for row in entropy:
        assert 0 <= row["low"] <= row["value"] <= row["high"] <= math.log(4) + 0.1


# mate_in_two.py


OWN = EXAMPLES / "mate_in_two.csv"
LADDER = "8/8/8/R3K3/8/8/k3Q3/8 b - - 0 1,a2b3 e5d4 b3b4 e2b5"
HEADER = "FEN,Moves\n"
SOLVED = "8/8/8/R3K3/8/1k6/4Q3/8 w=e5d4 b3b4 e2b5"


def written(tmp_path: Path, text: str, name: str = "puzzles.csv") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def puzzles_of(path: Path, bad: str = "refuse") -> list[list[int]]:
    """Tokens of each puzzle of a file."""
    task: Any = foresee.task(f"mate-in-two:path={path},bad={bad}")
    tokens: list[list[int]] = task.puzzles.tolist()
    return tokens


def test_mate_in_two_agrees_with_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    task = foresee.task(f"mate-in-two:path={OWN}")
    assert len(puzzles_of(OWN)) == 48  # of 49 rows; one has another theme
    batch = task.sample(48, stream("mate"))
    assert hashlib.sha256(batch.tokens.numpy().tobytes()).hexdigest()[:16] == "82e9db3f4a614d1a"
    few = batch.rows(slice(0, 6))
    check_sizes(task, few)
    check_changed_answers(task, few, stream("changes"), one=False)
    check_lines(task, few)
    prompt, answer = next(few.pairs())
    assert not task.verify(prompt, [*answer[:6], answer[8], *answer[6:8]])  # written alike, but other tokens
    test, train = (draw(task, "mate", split, 40, 0) for split in ("test", "train"))
    assert not set(task.identity(test).tolist()) & set(task.identity(train).tolist())
    assert 0.02 < task.chance < 0.5
    monkeypatch.setitem(sys.modules, "chess", None)
    with pytest.raises(RequestError, match="install it with: pip install chess"):
        puzzles_of(OWN)


def test_the_opponents_move_comes_first(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + LADDER + "\n")
    task = foresee.task(f"mate-in-two:path={path}")
    prompt, answer = task.read_line(SOLVED)
    assert puzzles_of(path) == [prompt + answer]
    assert task.write_line(prompt, answer) == SOLVED
    pair = {"prefix": ["8/8/8/R,3,K,3/8/1,k,6/4,Q,3/8 w"], "target": ["e5d4 b3b4 e2b5"]}
    assert puzzles_of(written(tmp_path, json.dumps(pair), "puzzles.json")) == [prompt + answer]
    assert task.verify(prompt, task.solve(prompt))
    with pytest.raises(RequestError, match="e2d1 does not force mate in two"):
        task.read_line("8/8/8/R3K3/8/1k6/4Q3/8 w=e2d1 b3b4 e2b5")


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("8/8/8/R3K3/8/8/k3Q3/8 b - - 0 1,a2b3 e5d4", "there are 2 moves"),
        ("8/8/8/R3K3/8/8/k3Q3 b - - 0 1,a2b3 e5d4 b3b4 e2b5", "is not a FEN"),
        ("8/8/8/R3K3/8/8/4Q3/8 b,e5d4 b3b4 e2b5", "breaks the rules of chess"),
        ("8/8/8/R3K3/8/1k6/4Q3/8 w,e5d4 b3b4 e2x5", "is not a move"),
        ("8/8/8/R3K3/8/1k6/4Q3/8,e5d4 b3b4 e2b5", "does not say who is to move"),
    ],
)
def test_bad_rows_give_file_row_and_reason(tmp_path: Path, row: str, reason: str) -> None:
    text = f"{HEADER}{LADDER}\n{row}\n"
    with pytest.raises(RequestError, match=f"puzzles.csv, row 3: .*{reason}"):
        puzzles_of(written(tmp_path, text))
    assert len(puzzles_of(written(tmp_path, text), "skip")) == 1
    with pytest.raises(RequestError, match=f"puzzles.csv, row 2: .*{reason}"):
        puzzles_of(written(tmp_path, f"{HEADER}{row}\n"), "skip")


def test_colours_and_left_and_right_are_not_part_of_the_problem() -> None:
    lines = [
        "8/8/8/R3K3/8/1k6/4Q3/8 w=",
        "8/8/8/3K3R/8/6k1/3Q4/8 w=",
        "8/4q3/1K6/8/r3k3/8/8/8 b=",
        "8/4q3/1K6/8/r3k3/8/8/8 w=",
    ]
    task = foresee.task(f"mate-in-two:path={OWN}")
    prompts = torch.tensor([task.read_line(line)[0] for line in lines])
    batch = Batch.of(torch.cat([prompts, torch.zeros(4, 9, dtype=torch.int64)], 1), 66, 9)
    first, *same, other = task.identity(batch).tolist()
    assert same == [first, first]
    assert other != first
