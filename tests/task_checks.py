"""What every task must keep, as checks on a batch that it drew; for the battery, path-star's variants and plug-ins."""

from __future__ import annotations

import numpy
import torch
from torch.nn import functional

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.tasks import Task
from foresee.tasks.data import Data


def check_all(task: Task, batch: Batch, rng: numpy.random.Generator, *, one: bool = True) -> None:
    """Every check below. ``one`` says that every prompt has one right answer, which ``sample`` gives."""
    check_sizes(task, batch)
    check_answers(task, batch, one)
    check_changed_answers(task, batch, rng, one)
    check_facts(task, batch)
    check_padding(task, batch, rng)
    check_lines(task, batch)
    check_bad_lines(task, batch, rng)


def check_sizes(task: Task, batch: Batch) -> None:
    """Lengths and tokens are within what the task reports."""
    assert batch.tokens.dtype == torch.int64
    assert 1 <= int(batch.prompt_len.min()) <= int(batch.prompt_len.max()) <= task.prompt_length
    assert 1 <= int(batch.answer_len.min()) <= int(batch.answer_len.max()) <= task.answer_length
    assert 0 <= int(batch.tokens.min()) <= int(batch.tokens.max()) < len(task.vocab)
    assert 0 <= task.chance <= 1
    assert task.plateau is None or task.plateau >= 0
    for prompt, answer in batch.pairs():
        if task.end is not None:
            assert answer.index(task.end) == len(answer) - 1
        else:
            assert task.answer_length_of(prompt) == len(answer)


def check_answers(task: Task, batch: Batch, one: bool) -> None:
    """``solve``, which shares no code with ``sample``, and ``verify`` agree with it."""
    for prompt, answer in batch.pairs():
        solved = task.solve(prompt)
        assert task.verify(prompt, answer)
        assert task.verify(prompt, solved)
        assert not one or solved == answer


def check_changed_answers(task: Task, batch: Batch, rng: numpy.random.Generator, one: bool) -> None:
    """With one right answer every change of one symbol is wrong; with several, most changes are."""
    accepted = tried = 0
    for prompt, answer in batch.pairs():
        for place, right in enumerate(answer):
            other = int(rng.integers(len(task.vocab) - 1))
            changed = [*answer[:place], other + (other >= right), *answer[place + 1 :]]
            accepted += task.verify(prompt, changed)
            tried += 1
        for wrong in ([], [*answer, answer[-1]], answer[:-1]):
            assert not task.verify(prompt, wrong)
    assert accepted <= (0 if one else tried / 2)


def check_facts(task: Task, batch: Batch) -> None:
    """Facts can be worked out from tokens."""
    found = task.facts_of(Batch(batch.tokens, batch.prompt_len, batch.answer_len, batch.layout))
    assert {name: (fact.shape, fact.dtype) for name, fact in found.items()} == {
        name: (fact.shape, fact.dtype) for name, fact in batch.facts.items()
    }
    if "branch" in batch.facts:
        assert torch.equal(found["branch"], batch.facts["branch"])
        assert bool((batch.facts["branch"] < batch.answer_len).all())


def check_padding(task: Task, batch: Batch, rng: numpy.random.Generator) -> None:
    """What comes after the answers, and whether it is there, changes neither problems nor splits nor facts."""
    noise = torch.from_numpy(rng.integers(len(task.vocab), size=(len(batch), batch.tokens.shape[1] + 3)))
    padding = torch.arange(noise.shape[1]) >= (batch.prompt_len + batch.answer_len)[:, None]
    wide = torch.where(padding, noise, functional.pad(batch.tokens, (0, 3)))
    padded = Batch(wide, batch.prompt_len, batch.answer_len, batch.layout)
    assert numpy.array_equal(task.identity(padded), task.identity(batch))
    assert numpy.array_equal(task.held_out(padded), task.held_out(batch))
    found = task.facts_of(padded)
    for row in range(0, len(batch), task.group * 7):
        end, here = int(batch.prompt_len[row] + batch.answer_len[row]), slice(row, row + 1)
        alone = Batch.of(batch.tokens[here, :end], batch.prompt_len[here], batch.answer_len[here])
        assert task.identity(alone).tolist() == task.identity(batch)[here].tolist()
        assert task.held_out(alone).tolist() == task.held_out(batch)[here].tolist()
        for name, fact in task.facts_of(alone).items():
            assert torch.equal(fact, found[name][here])


def check_lines(task: Task, batch: Batch) -> None:
    """The text form is read back."""
    for prompt, answer in batch.pairs():
        line, start = task.write_line(prompt, answer), task.write_line(prompt, [])
        assert isinstance(task, Data) or line.startswith(start)  # a user's rows are JSON objects
        assert "\n" not in line
        assert task.read_line(line) == (prompt, answer)
        assert task.read_line(start) == (prompt, [])


def check_bad_lines(task: Task, batch: Batch, rng: numpy.random.Generator) -> None:
    """A line with one character changed, left out or put in is still an example, or is refused in one sentence."""
    refused = 0
    characters = sorted({*"0123456789,;|=/-+ x²\t", *task.write_line(*next(batch.pairs()))})
    for pair in batch.pairs():
        line = task.write_line(*pair)
        at, kind = int(rng.integers(len(line))), int(rng.integers(3))
        put = "" if kind == 0 else characters[rng.integers(len(characters))]
        changed = line[:at] + put + line[at + (kind < 2) :]
        try:
            prompt, answer = task.read_line(changed)
        except RequestError as error:
            reason = str(error)
        else:
            reason = ""
        refused += bool(reason)
        assert not reason or (len(reason) > 10 and "\n" not in reason)
        if reason:
            continue
        if not isinstance(task, Data):  # any text may be a user's response
            assert task.write_line(prompt, answer) == changed.strip()
            assert not answer or task.verify(prompt, answer), changed
    assert refused or len(batch) < 24
