"""Stars whose arms differ in length: the published form, what is refused, and wrong turns."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch

from foresee.core.seeds import stream, torch_stream
from foresee.core.spec import resolve
from foresee.tasks import tasks
from foresee.tasks.example_files import read_examples
from foresee.tasks.path_star_oracle import read_prompt
from foresee.tasks.star import Star

PUBLISHED = """\
9,6|9,0|0,19|12,15|18,17|3,9|17,13|6,12|9,18/9,13=9,18,17,13
6,18|8,16|14,4|8,6|16,10|7,9|4,8|8,7|18,13/8,9=8,7,9
15,9|11,12|7,0|4,9|9,16|18,15|9,13|13,7|9,11|16,5/4,0=4,9,13,7,0
16,12|6,3|7,18|12,15|5,7|18,15|15,0|14,15|19,8|15,19|0,17|15,6|8,4/5,3=5,7,18,15,6,3
"""
"""Four examples of the public star-medium in the paper's form."""


def star(spec: str) -> Star:
    built = resolve(tasks, spec).build()
    assert isinstance(built, Star)
    return built


def test_published_examples_are_read_with_the_place_and_the_depth_of_each_decision(tmp_path: Path) -> None:
    (tmp_path / "star.txt").write_text(PUBLISHED)
    task = star("star-medium")
    batch = read_examples(tmp_path / "star.txt", task)
    assert "".join(task.write_line(*pair) + "\n" for pair in batch.pairs()) == PUBLISHED
    assert batch.facts["branch"].tolist() == [1, 1, 2, 4]
    assert batch.facts["distance"].tolist() == [3, 2, 3, 2]
    assert (task.hops, task.chance) == (5, 1 / 3)


def test_wrong_turns_leave_the_centre_along_a_path_that_goes_on_long_enough() -> None:
    task = star("star-hard")
    batch = task.sample(300, stream("star"))
    wrong = task.wrong_turn(batch, torch_stream("star"))
    assert wrong is not None
    edges = [set(map(tuple, read_prompt(task, prompt)[0])) for prompt, _ in batch.pairs()]
    for row, place, answer in zip(wrong.rows.tolist(), wrong.place.tolist(), wrong.answers.tolist(), strict=True):
        (_, right), length = next(iter(batch.rows(slice(row, row + 1)).pairs())), int(batch.answer_len[row])
        assert answer[:place] == right[:place]
        assert answer[place] != right[place]
        assert all(step in edges[row] for step in pairwise(answer[:length]))
    taken = batch.padded_answers().gather(1, batch.facts["branch"][:, None])[:, 0]
    assert torch.equal(task.implied(batch, taken), batch.padded_answers())  # type: ignore[arg-type]  # it implies one
