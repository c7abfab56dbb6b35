"""One update: parts that are read one after the other add up to the whole batch."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from tiny import TASK, tiny

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import stream
from foresee.training.distributed import Model, World
from foresee.training.examples import require_whole_parts, split_batch, training_data
from foresee.training.loop import Training, train, train_steps
from foresee.training.settings import Settings

PAIRED = TASK.replace("goals=one", "goals=all")


@dataclass
class Held:
    """One batch, as training data."""

    batch: Batch

    def batch_at(self, step: int, size: int) -> Batch:
        return self.batch


def updated(spec: Settings, batch: Batch) -> tuple[dict[str, torch.Tensor], list[float]]:
    task = spec.build_task()
    objective = spec.build_objective(task)
    training = Training(spec, task, Held(batch), Model(objective, "cpu", World()))
    train_steps(training, 1)
    gradients = {name: value.grad for name, value in objective.named_parameters() if value.grad is not None}
    means = training.losses.means(1)
    assert sum(means[name] for name in means if name != "loss") == pytest.approx(means["loss"], rel=1e-5)
    return gradients, [means["loss"], *training.losses.by_position()]


@pytest.mark.parametrize(
    ("objective", "task", "ragged"),
    [
        ("next-token", TASK, False),
        ("next-token", PAIRED, True),
        ("teacherless", PAIRED, False),
        ("teacherless", TASK, True),
    ],
)
def test_parts_add_up_to_the_batch(objective: str, task: str, ragged: bool) -> None:
    built = tiny(task=task).build_task()
    batch = built.sample(12, stream("parts")).sharing(built.group, built.shared_prefix)
    if ragged:
        # The second half of the rows lacks its last answer token.
        cut = torch.arange(12) // 6
        batch = Batch.of(batch.tokens, batch.prompt_len, batch.answer_len - cut).sharing(built.group, 0)
    outcomes = [
        updated(tiny(objective, task, batch=12, accumulate=parts, precision="float32"), batch) for parts in (1, 3)
    ]
    assert outcomes[1][1] == pytest.approx(outcomes[0][1], rel=1e-5)
    assert outcomes[0][0].keys() == outcomes[1][0].keys()
    for name, gradient in outcomes[0][0].items():
        torch.testing.assert_close(outcomes[1][0][name], gradient, msg=name, atol=1e-6, rtol=1e-4)


def test_parts_keep_what_their_rows_share() -> None:
    built = tiny(task=PAIRED).build_task()
    parts = split_batch(built.sample(12, stream("parts")).sharing(2, built.shared_prefix), 3)
    assert [(len(part), part.layout.group, part.layout.shared) for part in parts] == [(4, 2, built.shared_prefix)] * 3


def test_neither_parts_nor_processes_may_split_groups(tmp_path: object) -> None:
    with pytest.raises(RequestError, match="in accumulate=2 parts would split groups of 2 rows"):
        train(tiny(task=PAIRED, batch=6, accumulate=2), str(tmp_path))
    spec = tiny(task=PAIRED, batch=6, processes=2)
    task = spec.build_task()
    with pytest.raises(RequestError, match="in accumulate=1 parts on processes=2 would split groups of 2 rows"):
        require_whole_parts(spec, task, training_data(spec, task))
