"""Graphs of arms: the path that a first step leads along, and first steps onto wrong arms."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import NOTHING, Batch
from foresee.tasks.base import Lure, WrongTurn


def follow_arms(batch: Batch, decisions: Tensor, right: str = "goal_arm") -> Tensor | None:
    """``Task.implied`` where ``decisions`` [B] are nodes of arms at the place ``branch`` [B] and the facts hold
    ``arms`` [B, d, l], of which the fact ``right`` numbers the one with the goal.

    An arm is followed as far as an answer of the row's own length goes. Rows whose fact ``branch`` is negative hold no
    decision. None without the facts of plain arms.
    """
    if not {"arms", right, "branch"} <= batch.facts.keys():
        return None
    arms, rows = batch.facts["arms"], torch.arange(len(batch), device=batch.tokens.device)
    is_first = arms.take_along_dim(batch.facts["branch"].clamp(min=1)[:, None, None], 2)[..., 0] == decisions[:, None]
    path = arms[rows, is_first.int().argmax(1)][:, : batch.longest_answer]
    path = torch.nn.functional.pad(path, (0, batch.longest_answer - path.shape[1]), value=NOTHING)
    path = path.masked_fill(~batch.answer_mask(), NOTHING)
    known = is_first.any(1) & (batch.facts["branch"] >= 0)
    return path.masked_fill(~known[:, None], NOTHING)


def draw_wrong_arms(batch: Batch, rng: torch.Generator) -> WrongTurn | None:
    """``Task.wrong_turn`` on a graph of arms: for each row an arm drawn uniformly among those without the goal.

    None without the facts of plain arms, and where there is one arm alone.
    """
    if not {"arms", "goal_arm", "branch"} <= batch.facts.keys() or batch.facts["arms"].shape[1] < 2:
        return None
    arms, goal_arm = batch.facts["arms"], batch.facts["goal_arm"]
    drawn = torch.randint(arms.shape[1] - 1, goal_arm.shape, generator=rng, device=rng.device).to(goal_arm.device)
    wrong = drawn + (drawn >= goal_arm)
    everyone = torch.arange(len(batch), device=arms.device)
    answers = follow_arms(batch, arms[everyone, wrong, batch.facts["branch"].clamp(min=1)])
    assert answers is not None
    rows = (batch.facts["branch"] >= 0).nonzero().flatten()
    return WrongTurn(rows, batch.facts["branch"][rows], answers[rows])


def draw_lures(
    batch: Batch, edges_in: Callable[[NDArray[numpy.int64]], NDArray[numpy.int64]], rng: torch.Generator
) -> Lure | None:
    """``Task.lure`` on a graph of arms of one length: the nodes that two edges enter change places.

    ``edges_in`` gives a view [B, E] of the nodes that edges enter, of tokens [B, T]. At a depth drawn uniformly beyond
    the first step, the critical edit exchanges the ends of the goal arm's edge and of another arm's, so that the other
    arm leads to the goal; the safe one those of two other arms, so that nothing changes for the answer. None without
    the facts of plain arms, with fewer than three of them, and where an arm is one step long.
    """
    if not {"arms", "goal_arm"} <= batch.facts.keys() or not batch.layout.uniform:
        return None
    arms, goal_arm = batch.facts["arms"].cpu().numpy(), batch.facts["goal_arm"].cpu().numpy()
    rows, (degree, length) = numpy.arange(len(arms)), arms.shape[1:]
    if degree < 3 or length < 3:
        return None

    def draw(choices: int) -> NDArray[numpy.int64]:
        drawn: NDArray[numpy.int64] = (
            torch.randint(choices, (len(arms),), generator=rng, device=rng.device).cpu().numpy()
        )
        return drawn

    depth = 2 + draw(length - 2)
    # Two other arms, in random order: the first takes part in both edits.
    first = (goal_arm + 1 + draw(degree - 1)) % degree
    second = (goal_arm + 1 + draw(degree - 2)) % degree
    second = numpy.where((second - goal_arm) % degree >= (first - goal_arm) % degree, (second + 1) % degree, second)

    def exchange(one: NDArray[numpy.int64], other: NDArray[numpy.int64]) -> NDArray[numpy.int64]:
        tokens = batch.tokens.cpu().numpy().copy()
        entered = edges_in(tokens)
        a, b = arms[rows, one, depth], arms[rows, other, depth]
        at_a, at_b = (entered == a[:, None]).argmax(1), (entered == b[:, None]).argmax(1)
        entered[rows, at_a], entered[rows, at_b] = b, a
        return tokens

    critical, safe = exchange(goal_arm, first), exchange(first, second)
    before = numpy.arange(length) < depth[:, None]
    answers = numpy.where(before, arms[rows, first], arms[rows, goal_arm])
    critical[:, batch.layout.first : batch.layout.last] = answers[:, : batch.layout.width]

    def edited(tokens: NDArray[numpy.int64]) -> Batch:
        return Batch.of(torch.from_numpy(tokens).to(batch.tokens.device), batch.layout.first, batch.layout.width)

    return Lure(edited(critical), edited(safe))
