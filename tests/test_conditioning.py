"""Seed-conditioning: an option of every task that changes nothing where it is not given."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest
import torch
from tiny import tiny

from foresee import train
from foresee.core import seeds
from foresee.core.errors import RequestError
from foresee.core.spec import brief, describe, resolve
from foresee.experiments.compare import compare
from foresee.tasks import tasks
from foresee.tasks.conditioning import Conditioned
from foresee.tasks.path_star import PathStar
from foresee.training.data import draw

PLAIN = "path-star:degree=2,length=3,nodes=10,goals=one"
G23 = PathStar(degree=2, length=3, nodes=10, goals="one")
LINE = "1,2|1,3|2,4|3,5/1,4="


def test_without_a_seed_nothing_changes() -> None:
    resolved = resolve(tasks, f"{PLAIN},seed_length=0,seed_symbols=36")
    assert resolved.text == PLAIN
    assert resolved.build() == G23
    assert brief(tasks, PLAIN) == PLAIN.replace("degree=2,", "")


def test_a_seed_is_part_of_the_spec() -> None:
    resolved = resolve(tasks, f"{PLAIN},seed_length=4")
    assert resolved.text == f"{PLAIN},seed_length=4"
    assert resolved.build() == Conditioned(G23, seed_length=4)
    assert describe(tasks, Conditioned(G23, seed_length=4, seed_symbols=5)) == (f"{PLAIN},seed_length=4,seed_symbols=5")
    assert resolve(tasks, "sibling-mini:seed_length=2").build().prompt_length == 3


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


def test_seeds_of_training_and_test_examples_differ() -> None:
    task = Conditioned(G23, seed_length=10)
    drawn = [draw(task, "seeds", split, 500, 0).tokens[:, :10] for split in ("train", "test")]
    assert len(torch.unique(torch.cat(drawn), dim=0)) == 1000


def test_rows_of_a_group_have_seeds_of_their_own() -> None:
    task = Conditioned(PathStar(degree=2, length=3, nodes=10, goals="all"), seed_length=6)
    assert (task.group, task.shared_prefix) == (2, 0)
    batch = task.sample(20, seeds.stream("test"))
    assert len(torch.unique(batch.tokens[:, :6], dim=0)) == 20
    identity = task.identity(batch)
    assert (identity[::2] == identity[1::2]).all()


def test_the_text_form_has_the_seed_in_brackets() -> None:
    task = Conditioned(G23, seed_length=3)
    prompt, answer = task.read_line(f"[b0a]{LINE}1,2,4")
    assert task.vocab.decode(prompt[:3]) == ["[b]", "[0]", "[a]"]
    assert (prompt[3:], answer) == G23.read_line(f"{LINE}1,2,4")
    assert task.write_line(prompt, answer) == f"[b0a]{LINE}1,2,4"


def test_a_prompt_without_its_seed_is_refused() -> None:
    task = Conditioned(G23, seed_length=3)
    with pytest.raises(RequestError, match="does not begin with the 3 symbols of a seed"):
        task.solve(G23.read_line(LINE)[0])


def test_train_and_compare_work_with_seeds(tmp_path: Path) -> None:
    spec = tiny(task=f"{PLAIN},seed_length=2,seed_symbols=4", steps=4, eval_every=2, test=50)
    groups = compare(spec, ["next-token"], 1, tmp_path, engine="in-process").groups
    assert [group.objective for group in groups] == ["next-token", "reversed"]
    run = groups[0].runs[0]
    assert run.spec.task == f"{PLAIN},seed_length=2,seed_symbols=4"
    assert {"exact", "branch", "follow_to_end"} <= run.rows.keys()
    assert len(run.generate(f"[ab]{LINE}").split(",")) == 3
    again = train(
        Conditioned(G23, seed_length=2, seed_symbols=4),
        runs=tmp_path,
        backbone=spec.backbone,
        steps=4,
        batch=spec.batch,
        data=spec.data,
        test=50,
        eval_every=2,
        warmup=spec.warmup,
    )
    assert again.dir == run.dir


def test_rows_of_a_user_s_own_are_not_seeded(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"prompt": "{n} is", "response": "{n + 1}"}}\n' for n in range(40)))
    with pytest.raises(RequestError, match="an option of tasks that draw their examples, not of rows that are stored"):
        resolve(tasks, f"data:path={path},prompt=prompt,response=response,tokenizer=words,seed_length=2").build()
