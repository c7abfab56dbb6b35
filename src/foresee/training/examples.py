"""Which examples a run trains on and is tested on."""

from __future__ import annotations

import dataclasses
import math
import warnings
from pathlib import Path

import numpy
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.files import hash_file
from foresee.core.fingerprints import Fingerprints
from foresee.datasets.sources import FEW, other_fields, parts_left_out
from foresee.metrics.accuracy import holds_unknown
from foresee.metrics.verdict import SOLVED
from foresee.tasks.base import Task
from foresee.tasks.data import Data
from foresee.tasks.example_files import read_examples
from foresee.training.data import (
    EpochData,
    FixedData,
    FreshData,
    StoredData,
    TrainingData,
    concatenate,
    draw,
    group_rows,
    require_groups,
)
from foresee.training.settings import Settings

LEAST_LEFT = 100
"""Test problems that a user's training file must leave."""

NO_PROBLEMS: Fingerprints = numpy.empty(0, numpy.uint64)

WATCHED = 1000
"""Test examples that the evaluations during training look at; the final measurements use others."""


def batch_of(data: TrainingData, task: Task, spec: Settings, step: int) -> Batch:
    """The batch that update ``step`` (from 0) learns from. Facts are left out: no objective may read them."""
    batch = data.batch_at(step, spec.batch).sharing(task.group, task.shared_prefix)
    return dataclasses.replace(batch, facts={})


def rank_batch(batch: Batch, spec: Settings, rank: int) -> tuple[Batch, float]:
    """The rows of ``batch_of`` that one of the run's processes learns from, on its device, and their share of the
    batch's answer tokens. The device is not asked for anything."""
    if spec.processes == 1:
        return batch.to(spec.device), 1.0
    own = split_batch(batch, spec.processes)[rank].trimmed()
    share = len(own) / len(batch)
    if not batch.layout.uniform:
        share = int(own.answer_len.sum()) / int(batch.answer_len.sum())
    return own.to(spec.device), share


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """The batch in as many parts of as many rows, groups that share a prefix kept whole."""
    rows, layout = len(batch) // parts, batch.layout
    pieces = [batch.rows(slice(start, start + rows)) for start in range(0, len(batch), rows)]
    return [piece.sharing(layout.group, layout.shared) for piece in pieces]


def part_share(part: Batch, whole: Batch) -> float | Tensor:
    """A part's share of the answer tokens of the whole, by which its mean loss counts in the whole's."""
    return len(part) / len(whole) if whole.layout.uniform else part.answer_len.sum() / whole.answer_len.sum()


def training_data(spec: Settings, task: Task) -> TrainingData:
    """Where the run's batches come from. Raises ``RequestError`` where a file cannot be used or has changed."""
    if spec.data_file is not None:
        if isinstance(task, Data):
            raise RequestError(
                f"data={spec.data_file}: task data reads a file of its own; ask for data:path=FILE alone"
            )
        for file, digest in ((spec.data_file, spec.data_digest), (Path(spec.test_data), spec.test_data_digest)):
            if digest and hash_file(file)[:16] != digest:
                raise RequestError(f"{file} has changed since this run was asked for; ask for a new run")
        batch = read_examples(spec.data_file, task)
        require_groups(task, batch, str(spec.data_file))
        return FixedData(batch, spec.task, spec.seed, task.group)
    if isinstance(task, Data):
        if spec.data_examples is None:
            raise RequestError(
                f"data=fresh: the examples of {spec.task} are those of its file; give a number, of which it takes at "
                "most so many rows"
            )
        return StoredData(task, spec.task, spec.seed, spec.data_examples)
    if spec.data_examples is not None:
        drawn = draw(task, spec.task, "train", spec.data_examples, spec.seed)
        return FixedData(drawn, spec.task, spec.seed, task.group)
    return FreshData(task, spec.task, spec.seed)


def require_whole_parts(spec: Settings, task: Task, data: TrainingData) -> None:
    """Raises ``RequestError`` where a batch, or a part of it, would split rows that belong together."""
    data.batch_at(0, spec.batch)
    if (spec.batch // spec.processes // spec.accumulate) % task.group:
        of_processes = f" on processes={spec.processes}" if spec.processes > 1 else ""
        raise RequestError(
            f"batch={spec.batch} in accumulate={spec.accumulate} parts{of_processes} would split groups of "
            f"{task.group} rows of one problem; each part needs a multiple of {task.group} rows"
        )


def watched_and_measured(test: Batch, spec: Settings, task: Task) -> tuple[Batch, Batch]:
    """``test_examples`` in two: those that the evaluations during training look at, and those of the final measurement.

    Groups of rows stay whole, and no problem is in both but of an open-ended task, or where there is one problem alone.
    Where there are so few that the latter would be less than half of what was asked for, and of ``WATCHED``, each is a
    half.
    """
    group = task.group
    few = len(test) < WATCHED + min(spec.test, WATCHED) // 2
    watched = max(1, (len(test) // 2 if few else WATCHED) // group) * group
    measured = max(1, spec.test // group) * group
    seen, rest = test.rows(slice(0, watched)), test.rows(slice(watched, watched + measured))
    if isinstance(task, Data):  # a prompt may stand in several rows of a file
        fresh = ~numpy.isin(task.identity(rest), task.identity(seen))
        rest = rest.rows(group_rows(fresh.nonzero()[0], 1)) if fresh.any() else rest
    return seen, rest


def test_examples(spec: Settings, task: Task, data: TrainingData) -> Batch:
    """The watched examples, then the ones of the final measurement, each problem once: the same for every seed, so that
    runs can be paired.

    A user's file may hold problems of the test split; test examples whose problem is in it are left out.
    """
    if spec.data_file is None:
        test = draw_problems(task, spec.task, WATCHED + max(spec.test, task.group), 0)
        if len(test) < 2 * task.group:
            why = "has one test problem, but a run takes at least 2; give more rows, a larger task or a test file"
            raise RequestError(f"{spec.task} {why}")
        return test
    assert isinstance(data, FixedData)
    trained = task.identity(data.batch)
    if spec.test_data:
        return _read_test(spec, task, trained)
    test = draw_problems(task, spec.task, WATCHED + max(spec.test, task.group), 0, trained)
    if len(test) < LEAST_LEFT:
        raise RequestError(
            f"{spec.data} holds nearly every problem of {spec.task}: {len(test)} are left to test on, and a run takes "
            f"at least {LEAST_LEFT}; give fewer examples, or a file of test examples (test_data)"
        )
    return test


def _read_test(spec: Settings, task: Task, trained: Fingerprints) -> Batch:
    """The user's test examples, each problem once, without those of ``trained``; warns of these."""
    batch = read_examples(spec.test_data, task)
    require_groups(task, batch, spec.test_data)
    problems, first = numpy.unique(task.identity(batch)[:: task.group], return_index=True)
    found = numpy.sort(first[~numpy.isin(problems, trained)])
    if left := len(problems) - len(found):
        warnings.warn(
            f"{left:,} of {len(problems):,} problems of {spec.test_data} are in the training file too and are not "
            "tested on",
            ForeseeWarning,
            stacklevel=4,
        )
    if len(found) < 2:
        raise RequestError(f"{spec.test_data} holds fewer than 2 problems that are not trained on; give another file")
    return batch.rows(group_rows(found, task.group))


def warn_of_rows(task: Task, test: Batch) -> None:
    """Warns of what is not read of a user's rows, of an answer that is right for nearly all of them, and of test
    answers that cannot be right because they hold the task's ``unknown`` token."""
    if left := say_unread(task):
        warnings.warn(left, ForeseeWarning, stacklevel=3)
    if isinstance(task, Data) and task.chance >= SOLVED:
        warnings.warn(
            f"one answer is that of {task.chance:.1%} of the rows, so a model that always gives it counts as solved, "
            "and knows nothing; give more rows of the others",
            ForeseeWarning,
            stacklevel=3,
        )
    if unknown := int(holds_unknown(task, test).sum()):
        warnings.warn(
            f"{unknown:,} of {len(test):,} test answers hold a token that is not among the {len(task.vocab):,} of the "
            "vocabulary, and nothing counts as right for them; give it more (vocabulary=N), or use characters or bytes",
            ForeseeWarning,
            stacklevel=3,
        )


def say_unread(task: Task) -> str:
    """What of a user's rows is not read, in a sentence: splits and files of a folder, and fields; empty for nothing."""
    if not isinstance(task, Data):
        return ""
    parts = parts_left_out(task.path) if task.test_file is None else []
    names = other_fields(task.stored.files, task.fields)
    fields = [f"field {name}" for name in names[:FEW]] + [f"{len(names) - FEW} more fields"] * (len(names) > FEW)
    remedy = "; prompt, answer or template says which fields are" if fields else ""
    return f"{task.path}: not read: {', '.join(parts + fields)}{remedy}" if parts or fields else ""


def draw_problems(task: Task, task_text: str, n: int, seed: int, without: Fingerprints = NO_PROBLEMS) -> Batch:
    """Test rows of different problems, none of them in ``without``: the first ``n`` of ``draw``, or all there are where
    the task has fewer. Rows of one group count as many as they are, and stay together. An open-ended task, whose test
    examples share one prompt, and one that owns its examples give the ``n`` rows of ``draw``, less those in
    ``without``."""
    if task.open_ended or isinstance(task, Data):
        drawn = draw(task, task_text, "test", n, seed)
        known = numpy.isin(task.identity(drawn), without)
        return drawn.rows(group_rows((~known).nonzero()[0], 1)) if known.any() else drawn
    wanted, found, problems, before = max(1, n // task.group), numpy.empty(0, numpy.int64), NO_PROBLEMS, -1
    asked = wanted
    # Twice what was drawn, until it holds enough different problems or adds none.
    while len(found) < wanted and len(problems) != before:
        before = len(problems)
        drawn = draw(task, task_text, "test", asked * task.group, seed)
        problems, first = numpy.unique(task.identity(drawn)[:: task.group], return_index=True)
        found = numpy.sort(first[~numpy.isin(problems, without)])[:wanted]
        asked *= 2
    return drawn.rows(group_rows(found, task.group))


def problems_trained(task: Task, data: TrainingData, spec: Settings, steps: int) -> Fingerprints:
    """The identities of all problems that a run of ``steps`` steps saw, each once. Where data is fresh, it is drawn
    again, step by step."""
    if isinstance(data, EpochData):
        steps = min(steps, math.ceil(len(data) / spec.batch))
    seen = [numpy.unique(task.identity(data.batch_at(step, spec.batch))) for step in range(steps)]
    return numpy.unique(numpy.concatenate(seen))


def first_trained(data: TrainingData, spec: Settings, steps: int, n: int) -> Batch:
    """The first ``n`` training examples that a run of ``steps`` steps saw, none of them twice."""
    if isinstance(data, EpochData):
        n = min(n, len(data))
    taken = min(steps, math.ceil(n / spec.batch))
    seen = concatenate([data.batch_at(step, spec.batch) for step in range(taken)])
    return seen.rows(slice(0, n))
