"""Reading a shared prefix once changes what training costs and nothing else."""

from __future__ import annotations

import pytest
import torch
from support import numbered

from foresee.backbones.transformer import Transformer
from foresee.core.seeds import stream, torch_stream
from foresee.objectives.next_token import NextToken
from foresee.objectives.reversed import Reversed
from foresee.objectives.teacher_forcing import can_share_prefix
from foresee.objectives.teacherless import Teacherless
from foresee.tasks.path_star import PathStar

OBJECTIVES = [NextToken, Reversed, Teacherless]


def network(positions: str) -> Transformer:
    return Transformer(numbered(24), torch_stream("test"), layers=2, width=16, heads=2, positions=positions)  # type: ignore[arg-type]


@pytest.mark.parametrize("objective_class", OBJECTIVES)
@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize("degree", [2, 3])
def test_losses_and_gradients_are_those_of_separate_rows(
    objective_class: type[NextToken | Teacherless], positions: str, degree: int
) -> None:
    task = PathStar(degree=degree, length=4, nodes=20, goals="all")
    batch = task.sample(4 * degree, stream("test", degree))
    backbone = network(positions)
    objective = objective_class(backbone, task.vocab, torch_stream("test"))
    together = batch.sharing(task.group, task.shared_prefix)
    assert can_share_prefix(backbone, together.layout, len(together))
    parameters = [parameter for name, parameter in backbone.named_parameters()]
    results = []
    for each in (batch, together):
        out = objective.loss(each, torch_stream("test"))
        results.append((out.per_token, torch.autograd.grad(out.total, parameters)))
    (apart_losses, apart_gradients), (joint_losses, joint_gradients) = results
    torch.testing.assert_close(joint_losses, apart_losses, rtol=1e-5, atol=1e-5)
    for joint, apart in zip(joint_gradients, apart_gradients, strict=True):
        torch.testing.assert_close(joint, apart, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("degree", [2, 3])
def test_the_declared_prefix_is_shared_and_no_longer_one_is(degree: int) -> None:
    task = PathStar(degree=degree, length=4, nodes=20, goals="all")
    tokens = task.sample(50 * degree, stream("test")).tokens.view(50, degree, -1)
    same = (tokens == tokens[:, :1]).all(1).all(0)
    assert same[: task.shared_prefix].all()
    assert not same[task.shared_prefix]
    assert PathStar(degree=degree, length=4, nodes=20).shared_prefix == 0


def test_a_backbone_without_positions_reads_rows_apart() -> None:
    task = PathStar(degree=2, length=3, nodes=20, goals="all")
    layout = task.sample(4, stream("test")).sharing(2, task.shared_prefix).layout
    assert not can_share_prefix(network("none"), layout, 4)
    assert not can_share_prefix(network("learned"), layout, 3)


def test_chosen_rows_claim_no_groups() -> None:
    task = PathStar(degree=2, length=3, nodes=20, goals="all")
    batch = task.sample(8, stream("test")).sharing(2, task.shared_prefix)
    chosen = batch.rows(torch.tensor([0, 3, 4, 7]))
    assert (chosen.layout.group, chosen.layout.shared) == (1, 0)
