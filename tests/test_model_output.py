"""Whatever tokens a model writes, ``verify`` says yes or no, and an answer can be shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foresee.core import seeds
from foresee.core.spec import resolve
from foresee.tasks import Task, tasks

SPECS = [
    "addition", "addition:digits=2,order=reversed", "copying:length=3", "countdown:numbers=3,largest=9,results=30",
    "minimal-planning:steps=2,nodes=6", "multiplication", "noisy-chain:length=4", "sorting:length=3,symbols=5",
    "sudoku", "three-sat:variables=3,clauses=4",
    f"mate-in-two:path={Path(__file__).with_name('mate_in_two.csv')}",
]  # fmt: skip


def likely_answers(task: Task, right: list[int]) -> st.SearchStrategy[list[int]]:
    """Any tokens, of any length; tokens of the vocabulary and the right length; the right answer with some changed."""
    known = st.integers(0, len(task.vocab) - 1)
    anything = st.one_of(known, st.integers(-(2**63), 2**63 - 1))
    changes = st.lists(st.tuples(st.integers(0, len(right) - 1), anything), max_size=3)
    return st.one_of(
        st.lists(anything, max_size=2 * len(right)),
        st.lists(known, min_size=len(right), max_size=len(right)),
        changes.map(lambda made: [dict(made).get(place, token) for place, token in enumerate(right)]),
    )


@pytest.mark.parametrize("spec", SPECS, ids=lambda text: text.partition(":")[0])
def test_verify_never_raises(spec: str) -> None:
    task = resolve(tasks, spec).build()
    batch = task.sample(1, seeds.stream("model output"))
    prompt, right = batch.prompts[0].tolist(), batch.answers[0].tolist()

    @settings(max_examples=60)
    @given(likely_answers(task, right))
    def check(answer: list[int]) -> None:
        accepted = task.verify(prompt, answer)
        assert isinstance(accepted, bool)
        assert accepted or answer != right
        assert isinstance(task.write_answer(answer), str)
        assert "\n" not in task.write_line(prompt, answer)

    check()
