"""Each measurement where prompts or answers differ in length, and where answers close with an end symbol."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy
import pytest
import torch
from scripted import Babbler, Follower, Planner, Slipping
from torch import Tensor

from foresee.core import seeds
from foresee.core.batch import NOTHING, Batch
from foresee.core.vocabulary import Vocabulary
from foresee.metrics.accuracy import compounded, right_answers
from foresee.metrics.base import Row, Rows, Subject
from foresee.metrics.decision import Decision
from foresee.metrics.measure import measure_all, measure_quickly
from foresee.metrics.passes import predict_answers, score_answers, stop_at_end
from foresee.objectives.base import LossOut, Objective
from foresee.tasks.base import Task
from foresee.tasks.path_star import PathStar
from foresee.tasks.star import Star

MIXED = PathStar(degree=2, length=5, nodes=30, sizes="mixed", goals="one")
STOPS = PathStar(degree=3, length=5, nodes=30, generalised="path", goals="one")


def drawn(task: PathStar, n: int = 600) -> Batch:
    return task.sample(n, seeds.stream("lengths", task.degree, task.sizes, task.generalised))


def examined(objective: Objective, task: Task, batch: Batch, chunk: int = 50) -> Subject:
    return Subject(
        task, objective.eval(), batch, batch.rows(slice(0, 40)), lambda name: seeds.torch_stream("lengths", name), chunk
    )


def one(rows: Rows, name: str) -> Row:
    row = rows[name]
    assert isinstance(row, dict)
    return row


def each(rows: Rows, name: str) -> list[Row]:
    row = rows[name]
    assert isinstance(row, list)
    return row


def mean_of(rows: Sequence[Row], weights: Sequence[int] = ()) -> Any:
    """Of their values, each as often as it was counted."""
    counts = weights or [row["n"] for row in rows]
    return pytest.approx(sum(row["value"] * n for row, n in zip(rows, counts, strict=True)) / sum(counts))


def test_a_planner_of_mixed_sizes_is_right_everywhere() -> None:
    batch = drawn(MIXED)
    rows = measure_all(examined(Planner(MIXED), MIXED, batch))
    having = [int((batch.answer_len > place).sum()) for place in range(5)]
    assert having[0] == having[1] == 600 > having[2] > having[4] > 0
    for name in ("free", "forced"):
        assert [(row["value"], row["n"]) for row in each(rows, name)] == [(1.0, n) for n in having]
    counts = {"exact": 600, "branch": 600, "rest": 600, "decision": 600, "train_branch": 40, "compounded": 600}
    counts["child"] = int((batch.answer_len - 1).sum())
    for name, n in counts.items():
        assert (round(one(rows, name)["value"], 9), one(rows, name)["n"]) == (1.0, n), name
    assert one(rows, "margin")["value"] == pytest.approx(6.0, abs=1e-5)
    # Arms of one edge leave nothing to walk, and of two nothing between the decision and the end.
    assert (one(rows, "follow_to_end")["n"], one(rows, "follow")["n"]) == (having[2], having[3])
    assert one(rows, "follow")["value"] == 0.0


def test_counts_are_those_of_each_length_added_up() -> None:
    batch, script = drawn(MIXED), Slipping(MIXED, sure=0.8)
    together = measure_all(examined(script, MIXED, batch))
    parts = [part for _, part in batch.uniform_parts()]
    apart = [measure_all(examined(script, MIXED, part)) for part in parts]
    assert len(apart) == 4
    for name in ("exact", "branch", "child", "margin"):
        rows, row = [one(part, name) for part in apart], one(together, name)
        assert (row["value"], row["n"]) == (mean_of(rows), sum(part["n"] for part in rows))
    for name in ("free", "forced"):
        for place, row in enumerate(each(together, name)):
            rows = [each(part, name)[place] for part in apart if len(each(part, name)) > place]
            assert (row["value"], row["n"]) == (mean_of(rows), sum(part["n"] for part in rows))
    tokens = [int(part.answer_len.sum()) for part in parts]
    assert one(together, "plateau")["value"] == mean_of([one(rows, "plateau") for rows in apart], tokens)


def test_a_follower_of_mixed_sizes_walks_each_arm_to_its_own_end() -> None:
    rows = measure_all(examined(Follower(MIXED), MIXED, drawn(MIXED)))
    for name, least in (("follow", 4), ("follow_to_end", 3)):
        walked = int((drawn(MIXED).answer_len >= least).sum())
        assert (one(rows, name)["value"], one(rows, name)["n"]) == (1.0, walked)
    assert one(rows, "child")["value"] == 1.0
    assert one(rows, "branch")["low"] < 0.5 < one(rows, "branch")["high"]


def test_where_answers_stop_at_the_goal_a_wrong_arm_is_walked_as_far() -> None:
    batch = drawn(STOPS)
    rows = measure_all(examined(Follower(STOPS), STOPS, batch))
    left = batch.answer_len - 2
    assert set(left.tolist()) == {0, 1, 2, 3}
    for name, least in (("follow", 2), ("follow_to_end", 1)):
        assert (one(rows, name)["value"], one(rows, name)["n"]) == (1.0, int((left >= least).sum()))


def test_where_the_way_taken_ends_early_what_is_written_after_it_is_no_fault() -> None:
    """Paths of a star differ in length: a walker is told the right one's, and must write something after a shorter."""
    task = Star(degree=3, shortest=3, longest=6, plan=2, nodes=20)
    batch = task.sample(400, seeds.stream("walker"))

    class Walker(Objective):
        order, needs_length = "parallel", True

        def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
            raise NotImplementedError

        def generate(self, prompt: Tensor, n: int) -> Tensor:
            written = []
            for row in prompt.tolist():
                before, ways, _ = task._walk(row)
                written.append([*before, *ways[sum(row) % 3], *[0] * n][:n])
            return torch.tensor(written)

        def forced(self, batch: Batch) -> None:
            return None

    walker = Walker(cast(Any, torch.nn.LayerNorm(1)), task.vocab)
    rows = Decision().measure(examined(walker, task, batch))
    assert one(rows, "rest")["value"] == 1.0
    assert one(rows, "decision")["low"] < 1 / 3 < one(rows, "decision")["high"]


def test_the_objective_is_never_shown_padding_or_rows_of_two_lengths() -> None:
    class Watches(Planner):
        def forced(self, batch: Batch) -> Tensor | None:
            assert batch.tokens.shape[1] == batch.layout.last
            assert batch.layout.uniform
            seen.append(len(batch))
            return super().forced(batch)

    seen: list[int] = []
    batch = drawn(MIXED, 200)
    padded = Batch.of(torch.nn.functional.pad(batch.tokens, (0, 7)), batch.prompt_len, batch.answer_len, batch.facts)
    assert measure_quickly(MIXED, Watches(MIXED), padded, chunk=30) == measure_quickly(MIXED, Planner(MIXED), batch)
    assert sum(seen) == 200
    assert max(seen) == 30


def test_chunks_change_nothing_where_lengths_differ() -> None:
    whole, pieces = (
        measure_all(examined(Slipping(MIXED, sure=0.7), MIXED, drawn(MIXED, 300), chunk)) for chunk in (500, 7)
    )
    for name in whole:
        assert whole[name] == (pieces[name] if isinstance(whole[name], list) else pytest.approx(pieces[name]))


def test_scores_and_answers_are_put_back_in_their_places() -> None:
    batch, script = drawn(MIXED, 100), Babbler(MIXED).eval()
    closing = int(batch.padded_answers()[0, 1])
    found, wrote = score_answers(script, batch, 7, end=closing), predict_answers(script, batch, 7)
    assert found is not None
    assert found.stops is not None
    assert found.mask.tolist() == (wrote != NOTHING).tolist() == batch.answer_mask().tolist()
    assert not found.right[~found.mask].any()
    assert not found.loss[~found.mask].any()
    for row in range(100):
        alone = batch.rows(slice(row, row + 1)).trimmed()
        length = int(alone.answer_len)
        assert torch.equal(predict_answers(script, alone, 1)[0], wrote[row, :length])
        again = score_answers(script, alone, 1)
        assert again is not None
        assert torch.equal(again.loss[0], found.loss[row, :length])
        assert torch.equal(again.right[0], found.right[row, :length])
        with torch.inference_mode():
            log_probs = script.forced(alone)
        assert log_probs is not None
        stop = log_probs[0, :, closing].exp()
        here = torch.where(alone.answers[0] == closing, stop, 1 - stop).clamp(min=1e-6)
        torch.testing.assert_close(found.stops[row, :length], -here.log(), rtol=1e-3, atol=1e-5)
    assert found.mean_loss() == pytest.approx(float(found.loss.double().sum() / found.mask.sum()))


def test_compounded_is_the_mean_over_answers_of_their_own_positions() -> None:
    forced: list[Row] = [{"value": value, "n": 1} for value in (0.9, 0.5, 0.1)]
    assert compounded(forced, torch.tensor([1, 3, 3, 2])) == pytest.approx((0.9 + 0.045 + 0.045 + 0.45) / 4)
    # Of one length it is the product itself, to the last bit.
    thirds: list[Row] = [{"value": 1 / 3, "n": 1}, {"value": 2 / 7, "n": 1}]
    assert compounded(thirds, torch.tensor([2] * 7)) == math.prod([1 / 3, 2 / 7])


# Answers that close with an end symbol


@dataclass(frozen=True, kw_only=True)
class Counting(Task):
    """A digit n, answered by n, n - 1, ..., 0 and a full stop, or by the full stop alone after any of them."""

    summary = "test"
    vocab = Vocabulary((*"01234", "."))
    chance, prompt_length, answer_length, end = 1.0, 1, 6, 5
    lenient: bool = False

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        return self.of(rng.integers(0, 5, n).tolist())

    def of(self, digits: Sequence[int]) -> Batch:
        rows = [[digit, *self.solve([digit])] for digit in digits]
        tokens = torch.tensor([row + [0] * (7 - len(row)) for row in rows])
        return Batch.of(tokens, torch.ones(len(rows), dtype=torch.int64), torch.tensor([len(row) - 1 for row in rows]))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        return [*range(prompt[0], -1, -1), 5]

    def verify(self, prompt: Sequence[int], answer: Sequence[int]) -> bool:
        right = self.solve(prompt)
        return list(answer) == right or (self.lenient and list(answer[:-1]) == right[: len(answer) - 1])

    def read_line(self, line: str) -> tuple[list[int], list[int]]:
        return self.vocab.encode(line[:1]), self.vocab.encode(line[1:])


class Counts(Objective):
    """Counts down from the prompt's digit and writes a full stop ``late`` tokens late; then zeros."""

    summary = "test"

    asked: list[tuple[int, int]]

    def __init__(self, late: int = 0) -> None:
        super().__init__(torch.nn.Identity(), Counting().vocab)  # type: ignore[arg-type]  # it has no backbone
        self.late, self.asked = late, []

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        raise NotImplementedError

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        self.asked.append((len(prompt), n))
        left = prompt - torch.arange(n)
        return torch.where(left + self.late == -1, 5, left.clamp(min=0))

    def forced(self, batch: Batch) -> None:
        return None


def test_a_forward_objective_stops_at_the_end_symbol_and_is_not_told_the_length() -> None:
    task, objective = Counting(), Counts()
    batch = task.of([0, 3, 1, 4])
    wrote = examined(objective, task, batch).predictions
    assert wrote.tolist() == [
        [0, 5, *[NOTHING] * 4],
        [3, 2, 1, 0, 5, NOTHING],
        [1, 0, 5, *[NOTHING] * 3],
        [4, 3, 2, 1, 0, 5],
    ]
    assert objective.asked == [(4, 6)]
    assert right_answers(task, batch, wrote).all()
    twice = torch.tensor([[1, 5, 5, 2], [5, 0, 5, 1], [1, 2, 3, 4]])
    assert stop_at_end(twice, 5).tolist() == [[1, 5, -1, -1], [5, -1, -1, -1], [1, 2, 3, 4]]
    told = Counts()
    told.order = "parallel"  # an objective of another order is told the length
    assert examined(told, task, task.of([0, 3, 3])).predictions.shape == (3, 5)
    assert told.asked == [(1, 2), (2, 5)]


def test_without_the_end_in_place_nothing_is_right_but_a_valid_answer_of_another_length_is() -> None:
    for task in (Counting(), Counting(lenient=True)):
        batch = task.of([0, 3, 1, 4])
        rows = measure_all(examined(Counts(late=1), task, batch))
        assert (one(rows, "exact")["value"], one(rows, "exact")["n"]) == (0.0, 4)
        # Every digit is right; only the full stops are missing.
        assert [row["value"] for row in each(rows, "free")] == [1.0, 3 / 4, 2 / 3, 1.0, 1 / 2, 0.0]
        early = torch.tensor([[3, 2, 5], [2, 0, 5]])
        assert right_answers(task, task.of([3, 2]), early).tolist() == [task.lenient, False]
