"""The one real decision: known when it must be written, taken in free-running answers, by distance, and under edits."""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.core.batch import NOTHING, Batch
from foresee.metrics.accuracy import right_answers
from foresee.metrics.base import Metric, Row, Rows, Subject, metrics, number_problems
from foresee.metrics.intervals import mean, share
from foresee.metrics.passes import predict_answers, score_answers
from foresee.tasks.base import Task

MOST_EDITED = 2000
"""Test examples that the lure edits."""


def select_branch(values: Tensor, batch: Batch) -> Tensor:
    """[B, A] -> [rows that hold a decision]: the entry of each at its branch token."""
    branch = batch.facts["branch"]
    decided = branch >= 0
    return values[decided].gather(1, branch[decided, None]).squeeze(1)


def share_of_decision(task: Task, flags: Tensor, problems: Tensor) -> Row:
    """``share`` of rows that take the decision rightly, beside what a guess does where that is not ``chance``."""
    row = share(flags, problems)
    return row if task.branch_chance == task.chance else {**row, "reference": task.branch_chance}


@metrics.register("branch")
class Branch(Metric):
    """``branch``, ``margin`` and ``train_branch``; all absent where the task has no branch token or the objective
    cannot be forced. Rows that hold no decision (the fact ``branch`` is negative) are left out.

    * ``branch``: the branch token has the largest logit given the true prefix.
    * ``margin``: mean of the branch token's logit minus the best other one's, in nats; absent where it is not finite.
    * ``train_branch``: ``branch`` on training examples; absent where there are none to compare with.

    The prefix is what the objective sees before the branch token in its own order. For a ``forward`` objective that is
    the answer's earlier tokens, and the token is a decision. A ``backward`` objective sees the later ones, so its
    branch token is the parent of a known node, a look-up: its ``branch`` shows that the look-up works, not that
    anything was planned.

    Where a guess takes it rightly more often than ``Task.chance`` (``Task.branch_chance``), rates have that beside them
    as ``reference``.
    """

    summary = "the decision token given the true prefix: on test and training examples, and its margin"

    def measure(self, subject: Subject) -> Rows:
        scores, problems = subject.scores, subject.problems[subject.decided]
        if scores is None or not len(problems):
            return {}
        rows: Rows = {"branch": share_of_decision(subject.task, select_branch(scores.right, subject.test), problems)}
        margins = select_branch(scores.margin, subject.test)
        if bool(torch.isfinite(margins).all()):
            rows["margin"] = mean(margins, problems)
        train = subject.train
        if train is not None and len(train) and "branch" in train.facts:
            learned = score_answers(subject.objective, train, subject.chunk)
            decided = train.facts["branch"] >= 0
            if learned is not None and bool(decided.any()):
                problems = number_problems(subject.task, train)[decided]
                rows["train_branch"] = share_of_decision(subject.task, select_branch(learned.right, train), problems)
        return rows


@metrics.register("decision")
class Decision(Metric):
    """``decision``: the share of free-running answers whose token at the place of the decision is the right one;
    ``rest``: the share in which every other token is what the decision that was taken implies.

    What a decision implies is the task's to say (``Task.implied``). Where it does not, the other tokens are compared
    with the true answer's; an objective that decides in parallel may agree with either. The last token may be the true
    one instead, a goal copied from the prompt, as for ``follow``. Where the way taken ends before the answer does,
    nothing is asked of what is written after it. An impossible decision implies nothing, and its answer does not count.
    Both are absent where the task has no decision, ``rest`` where it is the whole answer.
    """

    summary = "free-running answers: the decision alone, and all but the decision"

    def measure(self, subject: Subject) -> Rows:
        rows = subject.decided
        if not len(rows):
            return {}
        batch = subject.test
        answers, place = batch.padded_answers(), batch.facts["branch"].clamp(min=0)[:, None]
        width = answers.shape[1]
        written = subject.predictions[:, :width]
        written = torch.nn.functional.pad(written, (0, width - written.shape[1]), value=NOTHING)
        taken = written.gather(1, place)
        problems = subject.problems[rows]
        right = (taken == answers.gather(1, place))[rows, 0]
        found: Rows = {"decision": share_of_decision(subject.task, right, problems)}
        implied = subject.task.implied(batch, taken.squeeze(1))
        expected = [] if implied is None else [implied]
        if implied is None or subject.objective.order == "parallel":
            expected.append(answers)
        columns = torch.arange(width, device=answers.device)
        free, last = columns == place, columns == (batch.answer_len - 1)[:, None]
        goes_on = torch.zeros_like(place[:, 0], dtype=torch.bool)
        for rest in expected:
            over = (rest == NOTHING) & batch.answer_mask()
            fits = (written == rest) | (last & (written == answers)) | free | over
            goes_on |= fits.all(1) & (rest != NOTHING).any(1)
        others = batch.answer_len[rows] > 1
        if bool(others.any()):
            found["rest"] = share(goes_on[rows][others], problems[others])
        return found


def share_by_distance(flags: Tensor, distance: Tensor, problems: Tensor) -> list[Row]:
    """[B] bool, distances and problems -> a rate for each distance that occurs, ascending, the distance beside it."""
    here = [(each, distance == each) for each in torch.unique(distance).tolist()]
    return [{"distance": each, **share(flags[rows], problems[rows])} for each, rows in here]


@metrics.register("by-distance")
class ByDistance(Metric):
    """``exact_by_distance`` and ``branch_by_distance``: ``exact`` and ``branch`` on the examples of each ``distance``.

    A list holds one rate a distance that occurs, in ascending order; its key ``distance`` says which. Both are absent
    where the task gives no fact ``distance`` [B], and ``branch_by_distance`` where ``branch`` is; rows that hold no
    decision are left out of it. After the curves over
    planning distance of Ye et al. (2024, MGDM).
    """

    summary = "whole answers and the decision, apart for each planning distance"

    def measure(self, subject: Subject) -> Rows:
        distance = subject.test.facts.get("distance")
        if distance is None:
            return {}
        right = right_answers(subject.task, subject.test, subject.predictions)
        rows: Rows = {"exact_by_distance": share_by_distance(right, distance, subject.problems)}
        if subject.scores is not None and "branch" in subject.test.facts:
            chosen, decided = select_branch(subject.scores.right, subject.test), subject.decided
            rows["branch_by_distance"] = share_by_distance(chosen, distance[decided], subject.problems[decided])
        return rows


@metrics.register("lure")
class LureProbe(Metric):
    """``heeds``: the share of examples where the decision follows an edit that changes which way is right and ignores
    a matched one that does not (``Task.lure``). A guess that the edits do not sway does so once in ``d * d``, at most.
    After the Lure-Star edits of stevenybuilder/nextlat_forgetting; the score is our own.

    Absent where the task has no such edits; up to 2,000 test examples are edited.
    """

    summary = "the decision follows an edit that matters and ignores a matched one that does not"

    def measure(self, subject: Subject) -> Rows:
        rows = subject.decided[:MOST_EDITED]
        lure = subject.task.lure(subject.test.rows(rows), subject.stream("lure")) if len(rows) else None
        if lure is None:
            return {}
        place = subject.test.facts["branch"][rows][:, None]

        def decided(batch: Batch) -> Tensor:
            predictions = predict_answers(subject.objective, batch, subject.chunk, subject.task)
            return (predictions.gather(1, place) == batch.answers.gather(1, place))[:, 0]

        return {"heeds": share(decided(lure.critical) & decided(lure.safe), subject.problems[rows])}
