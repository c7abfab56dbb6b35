"""The example plug-ins do what docs/extending.md says, through nothing but the public interface."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import foresee
from foresee.backbones import backbones
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.registry import Registry, load_plugin_file
from foresee.core.seeds import stream, torch_stream
from foresee.metrics import metrics
from foresee.objectives import Objective, objectives
from foresee.tasks import Task, tasks

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
REGISTRIES: list[Registry[Any]] = [tasks, backbones, objectives, metrics]


@pytest.fixture(autouse=True)
def _examples(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Loads every example, and forgets it afterwards."""
    before = set(sys.modules)
    for registry in REGISTRIES:
        registry.discover()
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    for path in sorted(EXAMPLES.glob("*.py")):
        load_plugin_file(path)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("foresee_plugin_"):
            del sys.modules[name]


def test_every_example_registers_something() -> None:
    modules = {cls.__module__ for registry in REGISTRIES for cls in registry._classes.values()}
    assert {f"foresee_plugin_{path.stem}" for path in EXAMPLES.glob("*.py")} <= modules


# running_parity.py


@pytest.mark.parametrize("bits", [2, 5, 12, 60])
def test_running_parity_agrees_with_itself(bits: int) -> None:
    task = foresee.task(f"running-parity:bits={bits}")
    batch = task.sample(64, stream("test", bits))
    assert torch.equal(batch.tokens, task.sample(64, stream("test", bits)).tokens)
    assert batch.prompts.shape == (64, task.prompt_length)
    assert batch.answers.shape == (64, task.answer_length)
    for prompt, answer in zip(batch.prompts.tolist(), batch.answers.tolist(), strict=True):
        assert task.solve(prompt) == answer
        assert task.verify(prompt, answer)
        assert not task.verify(prompt, [1 - answer[0], *answer[1:]])
        assert task.read_line(task.write_line(prompt, answer)) == (prompt, answer)
    facts = task.facts_of(batch)
    assert facts.keys() == batch.facts.keys()
    assert torch.equal(facts["branch"], batch.facts["branch"])


def test_running_parity_by_hand() -> None:
    task = foresee.task("running-parity:bits=4")
    # 0110: parities of the prefixes 0, 01, 011 and 0110 are 0, 1, 0, 0; longest first that is 0010.
    assert task.read_line("0110=0010\n") == ([0, 1, 1, 0, 2], [0, 0, 1, 0])
    assert task.read_line("0110=") == ([0, 1, 1, 0, 2], [])
    assert task.plateau == pytest.approx(math.log(2) / 4)


def test_running_parity_tells_problems_apart() -> None:
    task = foresee.task("running-parity:bits=60")
    rows = torch.zeros(61, 121, dtype=torch.int64)
    rows[torch.arange(60), torch.arange(60)] = 1
    identities = task.identity(Batch.of(rows, 61, 60, {}))
    assert len(set(identities.tolist())) == 61
    assert identities.dtype == "uint64"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("0110", "there is no '=' after the bits"),
        ("01a0=0010", "the bits '01a0' hold something other than 0 and 1"),
        ("0110=0,0", "the parities '0,0' hold something other than 0 and 1"),
        ("011=010", "there are 3 bits, but bits=4"),
        ("0110=0011", "the parities are 0011, but those of 0110 are 0010"),
    ],
)
def test_running_parity_refuses_a_bad_line(line: str, reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        foresee.task("running-parity:bits=4").read_line(line)


@pytest.mark.parametrize("bits", [1, 61])
def test_running_parity_refuses_a_size(bits: int) -> None:
    with pytest.raises(RequestError, match="must be from 2 to 60"):
        foresee.task(f"running-parity:bits={bits}")


# word_dropout.py


def on_path_star(objective: str) -> tuple[Task, Objective]:
    """A small untrained model of an objective: every one has the same weights."""
    task = foresee.task("path-star:degree=2,length=4,nodes=10")
    net = foresee.backbone("transformer:layers=1,width=16,heads=2", vocab_size=len(task.vocab))
    return task, foresee.objective(objective, net, task.vocab)


def test_word_dropout_without_dropout_is_next_token() -> None:
    task, plain = on_path_star("next-token")
    _, dropped = on_path_star("word-dropout:share=0")
    batch = task.sample(8, stream("test"))
    expected, got = (model.loss(batch, torch_stream("loss")) for model in (plain, dropped))
    assert torch.equal(expected.total, got.total)
    assert torch.equal(expected.per_token, got.per_token)
    assert got.parts.keys() == {"word-dropout"}


def test_word_dropout_of_everything_is_teacherless() -> None:
    task, blind = on_path_star("teacherless")
    _, dropped = on_path_star("word-dropout:share=1")
    batch = task.sample(8, stream("test"))
    expected, got = (model.loss(batch, torch_stream("loss")) for model in (blind, dropped))
    assert torch.equal(expected.total, got.total)


def test_word_dropout_draws_from_its_own_stream_alone() -> None:
    task, model = on_path_star("word-dropout:share=0.5")
    batch = task.sample(8, stream("test"))
    first, again, other = (model.loss(batch, torch_stream("loss", key)).total for key in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_word_dropout_hides_nothing_after_training() -> None:
    task, plain = on_path_star("next-token")
    _, dropped = on_path_star("word-dropout:share=0.9")
    batch = task.sample(8, stream("test"))
    forced, expected = dropped.forced(batch), plain.forced(batch)
    assert forced is not None
    assert expected is not None
    assert torch.equal(forced, expected)
    assert torch.equal(dropped.generate(batch.prompts, 4), plain.generate(batch.prompts, 4))


def test_word_dropout_refuses_what_is_no_share() -> None:
    with pytest.raises(RequestError, match=r"share=1\.5 must be a share from 0 to 1"):
        on_path_star("word-dropout:share=1.5")


def test_an_example_task_can_be_trained_on(tmp_path: Path) -> None:
    run = foresee.train(
        "running-parity:bits=12",
        objective="word-dropout",
        backbone="transformer:layers=1,width=16,heads=2",
        root=tmp_path,
        steps=2,
        batch=16,
        data="200",
        test=32,
        eval_every=1,
        warmup=1,
    )
    assert {"exact", "free", "forced", "branch"} <= run.rows.keys()
    assert "follow" not in run.rows
    assert run.dir.parent == tmp_path
