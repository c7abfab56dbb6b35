"""Creativity counted by hand, and answers drawn at a temperature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy
import pytest
import torch
from data_files import write_jsonl
from support import SMALL, Stub, build, transformer
from tiny import tiny
from torch import Tensor, nn

from foresee import train
from foresee.backbones import Backbone
from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.spec import brief, resolve
from foresee.experiments.compare import compare
from foresee.metrics.base import Rows, Subject
from foresee.metrics.creativity import Creativity
from foresee.objectives.base import LossOut, Objective
from foresee.objectives.decoding import choose_at, decode, decode_greedily
from foresee.tasks import Task, tasks
from foresee.tasks.conditioning import Conditioned
from foresee.tasks.discovery import SiblingDiscovery
from foresee.tasks.harness import is_right
from foresee.tasks.path_star import PathStar
from foresee.training.data import draw
from foresee.training.examples import problems_trained, training_data

TASK = SiblingDiscovery(parents=2, siblings=3)
RIGHT = ["b0,c0,a0", "b0,c1,a0", "b4,c5,a1", "b3,c3,a1"]
WRONG = ["b0,c3,a0", "b0,c0,a1", "c0,b0,a0"]


class Lister(Objective):
    """Writes a list of answers, one a prompt, over and over; greedily the first of them alone, without seeds."""

    summary = "a list"

    def __init__(self, task: Task, lines: list[str], draws: bool = True) -> None:
        super().__init__(cast(Backbone, nn.Identity()), task.vocab)
        self.lines = torch.tensor([self.vocab.encode(line.split(",")) for line in lines])
        self.draws, self.asked = draws, 0
        self.temperatures: set[float] = set()

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        raise NotImplementedError

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        if prompt.shape[1] == 1:
            return self.lines[:1, :n].expand(len(prompt), -1)
        return self._next(len(prompt))

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        self.temperatures.add(temperature)
        return self._next(len(prompt)) if self.draws else None

    def _next(self, n: int) -> Tensor:
        index = (self.asked + torch.arange(n)) % len(self.lines)
        self.asked += n
        return self.lines[index]

    def forced(self, batch: Batch) -> None:
        return None


def subject(task: Task, objective: Objective, n: int, trained: list[str] | None, chunk: int = 4) -> Subject:
    """``n`` test prompts, and the training examples of these lines."""
    batch = task.sample(n, seeds.stream("test"))
    known: numpy.ndarray | None = None
    if trained is not None:
        tokens = [TASK.vocab.encode(["=", *line.split(",")]) for line in trained]
        known = TASK.identity(Batch.of(torch.tensor(tokens, dtype=torch.int64).view(-1, 4), 1, 3))
    found = None if known is None else (lambda: known)
    return Subject(task, objective, batch, None, lambda name: torch.Generator(), chunk, cast(Any, found))


def values(rows: Rows) -> dict[str, float]:
    return {name: row["value"] for name, row in rows.items() if isinstance(row, dict)}


def test_creativity_counts_what_is_right_new_and_different() -> None:
    # Of ten answers seven are right; two of these were trained on; the other five are three different ones.
    lines = [*WRONG, RIGHT[0], RIGHT[0], RIGHT[1], RIGHT[1], RIGHT[2], RIGHT[3], RIGHT[3]]
    rows = Creativity().measure(subject(TASK, Lister(TASK, lines), 10, [RIGHT[0], "b5,c5,a1"]))
    assert list(rows) == ["valid", "diversity", "novel", "distinct", "creativity"]
    assert values(rows) == pytest.approx(
        {"valid": 0.7, "diversity": 0.4, "novel": 5 / 7, "distinct": 3 / 5, "creativity": 0.3}
    )
    product = values(rows)["valid"] * values(rows)["novel"] * values(rows)["distinct"]
    assert values(rows)["creativity"] == pytest.approx(product)
    assert [cast(Any, rows[name])["n"] for name in ("valid", "novel", "distinct", "creativity")] == [10, 7, 5, 10]


@pytest.mark.parametrize(
    ("lines", "n", "trained", "expected"),
    [
        (WRONG, 6, [], {"valid": 0.0, "diversity": 0.0, "creativity": 0.0}),
        (RIGHT, 8, RIGHT, {"valid": 1.0, "diversity": 0.5, "novel": 0.0, "creativity": 0.0}),
        (RIGHT, 4, None, {"valid": 1.0, "diversity": 1.0}),  # nothing is said of novelty
    ],
)
def test_shares_of_nothing_are_absent(
    lines: list[str], n: int, trained: list[str] | None, expected: dict[str, float]
) -> None:
    assert values(Creativity().measure(subject(TASK, Lister(TASK, lines), n, trained))) == expected


def test_absent_where_it_has_no_meaning_and_greedy_with_seeds() -> None:
    assert Creativity().measure(subject(TASK, Lister(TASK, RIGHT, draws=False), 4, [])) == {}
    closed = PathStar(degree=2, length=3, nodes=10, goals="one")
    assert Creativity().measure(subject(closed, Lister(closed, ["0,1,2"]), 4, None)) == {}
    graph = resolve(tasks, "triangle-discovery:nodes=40").build()  # its training lines are edges and triangles
    lines = replace(subject(graph, Lister(TASK, RIGHT), 4, None), test=draw(graph, "triangles", "train", 64, 0))
    assert not lines.test.layout.uniform
    assert Creativity().measure(lines) == {}
    task = Conditioned(TASK, seed_length=2)
    lister = Lister(task, RIGHT)
    rows = Creativity().measure(subject(task, lister, 4, RIGHT[:1]))
    assert values(rows) == {"valid": 1.0, "diversity": 1.0, "novel": 0.75, "distinct": 1.0, "creativity": 0.75}
    assert lister.temperatures == set()


# What was trained on


def test_the_problems_of_a_run_are_all_those_it_saw() -> None:
    text = "sibling-discovery:parents=2,siblings=30,kinds=2"
    for data, steps in (("fixed:100", 1), ("fixed:100", 2), ("fixed:100", 9), ("fresh", 3)):
        spec = tiny(task=text, data=data, batch=64)
        task = spec.build_task()
        source: Any = training_data(spec, task)
        seen = {int(word) for step in range(steps) for word in task.identity(source.batch_at(step, 64))}
        assert problems_trained(task, source, spec, steps).tolist() == sorted(seen)


@pytest.mark.parametrize("seed", ["", pytest.param(",seed_length=2", marks=pytest.mark.slow)])
def test_a_run_reports_creativity(tmp_path: Path, seed: str) -> None:
    task = f"sibling-discovery:parents=2,siblings=20{seed}"
    spec = tiny(task=task, steps=4, eval_every=4, test=64)
    groups = compare(spec, ["next-token", "teacherless"], 1, tmp_path, engine="in-process")
    for group in groups.groups:
        rows = group.runs[0].rows
        assert {"valid", "diversity", "creativity"} <= rows.keys()
        assert cast(Any, rows["creativity"])["n"] == 64


# Drawing at a temperature


def test_draws_have_the_probabilities_of_the_softmax_and_are_a_function_of_their_stream() -> None:
    logits = torch.tensor([0.0, 1.0, 2.0, -30.0]).expand(40_000, -1)
    for temperature in (0.5, 1.0, 3.0):
        tokens = choose_at(temperature, seeds.torch_stream("draws", str(temperature)))(logits)
        shares = torch.bincount(tokens, minlength=4) / 40_000
        assert torch.allclose(shares, (logits[0] / temperature).softmax(-1), atol=0.012)
    objective: Any = build("next-token", "recurrent").eval()
    prompt = torch.zeros(50, 3, dtype=torch.int64)
    first, again, other = (objective.sample(prompt, 4, 2.0, seeds.torch_stream("draw", n)) for n in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len(torch.unique(first, dim=0)) > 10


def test_a_low_temperature_is_greedy() -> None:
    net = transformer()
    prompt = torch.randint(13, (6, 5), generator=seeds.torch_stream("prompt"))
    cold = decode(net, net.embed(prompt), 4, choose_at(1e-6, seeds.torch_stream("cold")))
    assert torch.equal(cold, decode_greedily(net, prompt, 4))
    assert decode(net, net.embed(prompt), 0, choose_at(1.0, seeds.torch_stream("none"))).shape == (6, 0)
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(RequestError, match="must be above 0; decoding without chance is greedy"):
            choose_at(temperature, torch.Generator())


@pytest.mark.parametrize(
    "name",
    ["next-token", "reversed", "teacherless", "token-masking", "multi-token", "registers", "future-bag", "any-order",
     "belief-state", "joint-multi-token", "plan-tokens", "future-insertion"],
)  # fmt: skip
@torch.no_grad()
def test_drawn_answers_are_in_the_task_s_own_order(name: str) -> None:
    """An objective that writes something else first draws nothing."""
    objective: Any = build(name, next(iter(SMALL))).eval()
    prompt = torch.randint(10, (8, 6), generator=seeds.torch_stream("prompt"))
    cold = objective.sample(prompt, 4, 1e-6, seeds.torch_stream("cold"))
    assert torch.equal(cold, objective.generate(prompt, 4))
    planned = build("future-insertion:plan=true", next(iter(SMALL))).eval()
    assert planned.sample(prompt, 4, 1.0, torch.Generator()) is None


def test_a_drawn_token_is_what_the_next_one_follows() -> None:
    # After 0 comes 1 or 2, each with one half; after 1 always 3, after 2 always 4.
    table = torch.full((5, 5), -1e9)
    for before, after in ((0, 1), (0, 2), (1, 3), (2, 4), (3, 3), (4, 4)):
        table[before, after] = 0.0

    class Table(Stub):
        def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, Tensor]:
            return x[:, -1], x

        def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
            return x, state

    net, prompt = Table(table, "token"), torch.zeros(200, 1, dtype=torch.int64)
    wrote = decode(net, net.embed(prompt), 2, choose_at(1.0, seeds.torch_stream("t")))
    assert set(map(tuple, wrote.tolist())) == {(1, 3), (2, 4)}


# Seed-conditioning: an option of every task that changes nothing where it is not given


PLAIN = "path-star:degree=2,length=3,nodes=10,goals=one"
G23 = PathStar(degree=2, length=3, nodes=10, goals="one")
LINE = "1,2|1,3|2,4|3,5/1,4="


def test_without_a_seed_nothing_changes(tmp_path: Path) -> None:
    resolved = resolve(tasks, f"{PLAIN},seed_length=0,seed_symbols=36")
    assert resolved.text == PLAIN
    assert resolved.build() == G23
    assert brief(tasks, PLAIN) == PLAIN.replace("degree=2,", "")
    path = write_jsonl(tmp_path / "rows.jsonl", [(f"{n} is", f"{n + 1}") for n in range(40)])
    with pytest.raises(RequestError, match="an option of tasks that draw their examples, not of rows that are stored"):
        resolve(tasks, f"data:path={path},tokenizer=words,seed_length=2").build()


def test_the_inner_task_is_all_there_after_the_seed() -> None:
    task = Conditioned(G23, seed_length=4, seed_symbols=3)
    batch, inner = task.sample(300, seeds.stream("test")), G23.sample(300, seeds.stream("test"))
    assert torch.equal(batch.tokens[:, 4:], inner.tokens)
    assert torch.equal(task.unseeded(batch).tokens, inner.tokens)
    assert task.unseeded(batch).layout == inner.layout
    assert torch.equal(batch.facts["arms"], inner.facts["arms"])
    assert numpy.array_equal(task.identity(batch), G23.identity(inner))
    seeds_drawn = batch.tokens[:, :4]
    assert set(seeds_drawn.flatten().tolist()) == {14, 15, 16}
    assert len(torch.unique(seeds_drawn, dim=0)) > 70
    assert task.vocab.symbols[14:] == ("[a]", "[b]", "[c]")
    assert (task.chance, task.plateau, task.answer_length) == (G23.chance, G23.plateau, 3)


def test_seeds_of_training_and_test_examples_and_of_rows_of_a_group_differ() -> None:
    task = Conditioned(G23, seed_length=10)
    drawn = [draw(task, "seeds", split, 500, 0).tokens[:, :10] for split in ("train", "test")]
    assert len(torch.unique(torch.cat(drawn), dim=0)) == 1000
    grouped = Conditioned(PathStar(degree=2, length=3, nodes=10, goals="all"), seed_length=6)
    assert (grouped.group, grouped.shared_prefix) == (2, 0)
    batch = grouped.sample(20, seeds.stream("test"))
    assert len(torch.unique(batch.tokens[:, :6], dim=0)) == 20
    identity = grouped.identity(batch)
    assert (identity[::2] == identity[1::2]).all()


def test_the_text_form_has_the_seed_in_brackets() -> None:
    task = Conditioned(G23, seed_length=3)
    prompt, answer = task.read_line(f"[b0a]{LINE}1,2,4")
    assert task.vocab.decode(prompt[:3]) == ["[b]", "[0]", "[a]"]
    assert (prompt[3:], answer) == G23.read_line(f"{LINE}1,2,4")
    assert task.write_line(prompt, answer) == f"[b0a]{LINE}1,2,4"
    with pytest.raises(RequestError, match="does not begin with the 3 symbols of a seed"):
        task.solve(prompt[3:])


def test_what_a_model_wrote_after_a_seeded_prompt_is_scored_and_its_edits_keep_the_seed() -> None:
    plain = PathStar(degree=3, length=4, nodes=12, goals="one")
    task = Conditioned(plain, seed_length=3)
    batch = task.sample(40, seeds.stream("seeded"))
    prompt, answer = next(batch.pairs())
    line, right = task.write_prompt(prompt), task.write_answer(answer)
    assert is_right(task, line, right, right)
    assert not is_right(task, line, right, right[::-1])
    lure: Any = task.lure(batch, seeds.torch_stream("lure"))
    inner: Any = plain.lure(task.unseeded(batch), seeds.torch_stream("lure"))
    for edited, own in ((lure.critical, inner.critical), (lure.safe, inner.safe)):
        assert torch.equal(edited.tokens[:, :3], batch.tokens[:, :3])
        assert torch.equal(task.unseeded(edited).tokens, own.tokens)
        assert torch.equal(edited.answers, own.answers)


def test_train_and_compare_work_with_seeds(tmp_path: Path) -> None:
    spec = tiny(task=f"{PLAIN},seed_length=2,seed_symbols=4", steps=4, eval_every=2, test=50)
    groups = compare(spec, ["next-token"], 1, tmp_path, engine="in-process").groups
    assert [group.objective for group in groups] == ["next-token", "reversed"]
    run = groups[0].runs[0]
    assert run.spec.task == f"{PLAIN},seed_length=2,seed_symbols=4"
    assert {"exact", "branch", "follow_to_end"} <= run.rows.keys()
    assert len(run.generate(f"[ab]{LINE}").split(",")) == 3
    kept = ("backbone", "steps", "batch", "data", "test", "eval_every", "warmup")
    settings: dict[str, Any] = {name: getattr(spec, name) for name in kept}
    assert train(Conditioned(G23, seed_length=2, seed_symbols=4), runs=tmp_path, **settings).dir == run.dir


def test_what_one_may_verify_otherwise_is_verified_so_with_seeds() -> None:
    class Lenient(PathStar):
        def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
            return len(answer) > 0

    plain = Lenient(degree=2, length=3, nodes=10, goals="one")
    task = Conditioned(plain, seed_length=3)
    ((prompt, answer),) = task.sample(1, seeds.stream("lenient")).pairs()
    assert task.verify(prompt, answer[::-1])
    assert task.fault(prompt, answer[::-1]) is not None
