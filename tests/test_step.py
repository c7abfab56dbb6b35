"""One update: parts that are read one after the other add up to the whole batch."""

from __future__ import annotations

import pytest
import torch
from tiny import TASK, tiny

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.seeds import stream
from foresee.objectives.base import Objective
from foresee.training.loop import train
from foresee.training.optimizer import adamw
from foresee.training.settings import Settings
from foresee.training.step import parts_of, update

PAIRED = f"{TASK},goals=all"


def updated(spec: Settings, batch: Batch) -> tuple[Objective, dict[str, torch.Tensor], torch.Tensor]:
    objective = spec.build_objective(spec.build_task())
    out = update(objective, adamw(objective, spec), batch, spec, 0)
    gradients = {name: value.grad for name, value in objective.named_parameters() if value.grad is not None}
    parts = torch.stack(list(out.parts.values())).sum()
    torch.testing.assert_close(parts, out.total)
    assert out.per_token.shape == batch.tokens.shape
    return objective, gradients, torch.cat([out.total.detach()[None], out.per_token.flatten()])


@pytest.mark.parametrize("objective", ["next-token", "teacherless"])
@pytest.mark.parametrize("task", [TASK, PAIRED])
@pytest.mark.parametrize("ragged", [False, True])
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
    torch.testing.assert_close(outcomes[1][2], outcomes[0][2])
    assert outcomes[0][1].keys() == outcomes[1][1].keys()
    for name, gradient in outcomes[0][1].items():
        torch.testing.assert_close(outcomes[1][1][name], gradient, msg=name, atol=1e-6, rtol=1e-4)


def test_parts_keep_what_their_rows_share() -> None:
    built = tiny(task=PAIRED).build_task()
    parts = parts_of(built.sample(12, stream("parts")).sharing(2, built.shared_prefix), 3)
    assert [(len(part), part.layout.group, part.layout.shared) for part in parts] == [(4, 2, built.shared_prefix)] * 3


def test_parts_must_be_whole() -> None:
    with pytest.raises(RequestError, match="batch=16 must be a multiple of accumulate=3"):
        tiny(batch=16, accumulate=3)


def test_parts_must_not_split_groups(tmp_path: object) -> None:
    with pytest.raises(RequestError, match="would split groups of 2 rows"):
        train(tiny(task=PAIRED, batch=6, accumulate=2), str(tmp_path))


def test_saving_memory_is_another_run_but_older_runs_keep_their_names() -> None:
    plain = tiny()
    assert len({plain.digest, tiny(accumulate=2).digest, tiny(recompute=True).digest}) == 3
