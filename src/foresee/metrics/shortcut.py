"""The shortcut, measured alone: put on a wrong arm, does the model walk it to its end whatever the goal?

The paper reports an accuracy of the Clever Hans cheat, but its formula is not known to us. This one is our own:
a forced wrong first step, then the rest of that arm.

The last token is a case of its own. The prompt names the goal, so on the true path the last token can be copied from
the prompt as well as looked up, and a network with absolute positions learns to copy it before it learns any look-up.
Put on a wrong arm, such a network walks the arm and then writes the goal. That is the same failure by two short cuts
instead of one: no token is decided by looking ahead. So ``follow`` lets the last token be either, and
``follow_to_end`` beside it asks for the arm's own end.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from foresee.core.batch import NOTHING, Batch
from foresee.metrics.base import Metric, Rows, Subject, metrics
from foresee.metrics.intervals import share

FACTS = frozenset({"arms", "goal_arm", "branch"})


def wrong_arms(goal_arm: Tensor, degree: int, rng: torch.Generator) -> Tensor:
    """[B] -> [B]: for each row an arm drawn uniformly among the ``degree - 1`` that do not lead to the goal."""
    draw = torch.randint(degree - 1, goal_arm.shape, generator=rng, device=rng.device).to(goal_arm.device)
    return draw + (draw >= goal_arm)


@metrics.register("shortcut")
class Shortcut(Metric):
    """``follow``: the share of wrong arms that are walked edge by edge; ``follow_to_end``: to the arm's own end too.

    The prompt is continued by the true answer up to the branch token and by the first node of an arm drawn uniformly
    among the wrong ones. For ``follow_to_end``, what the objective then writes freely must be exactly the rest of that
    arm. For ``follow`` the last token may be the goal instead, provided that a node before it was walked: where the
    last token is all that is left to write (length 3), the two rows are the same.

    Where answers differ in length, a wrong arm counts as ending where an answer of the row's own length would: at its
    end where graphs differ in size, and before it where the answer stops at a goal on the way. Rows with nothing left
    to walk are left out.

    Absent for objectives that do not decide forwards (they cannot be put on an arm), for tasks without arms, with one
    arm only (no wrong one), and with arms that end at their first node (nothing left to walk).
    """

    summary = "put on a wrong arm, walks it edge by edge whatever the goal"

    def measure(self, subject: Subject) -> Rows:
        facts = subject.test.facts
        if subject.objective.order != "forward" or not facts.keys() >= FACTS or facts["arms"].shape[1] < 2:
            return {}
        wrong = wrong_arms(facts["goal_arm"], facts["arms"].shape[1], subject.rng)
        left = left_to_walk(subject.test)
        test = replace(subject.test, facts={**facts, "wrong_arm": wrong})
        walked: list[tuple[Tensor, Tensor]] = []
        # One prefix length and one number of steps at a time; on path-star of one size there is only one of each.
        for at, steps in sorted(set(zip(facts["branch"].tolist(), left.tolist(), strict=True))):
            if steps >= 1:
                for _, part in test.rows((facts["branch"] == at) & (left == steps)).uniform_parts():
                    walked.extend(walks(subject, piece, at, steps) for piece in subject.chunks(part))
        if not walked:
            return {}
        follow, to_end = (share(torch.cat(rows)) for rows in zip(*walked, strict=True))
        return {"follow": follow, "follow_to_end": to_end}


def left_to_walk(batch: Batch) -> Tensor:
    """[B]: how many nodes follow the first of an arm, to its end or as far as the answer goes."""
    nodes = (batch.facts["arms"][:, 0] != NOTHING).sum(1)
    return torch.minimum(nodes - 2, batch.answer_len - batch.facts["branch"] - 1)


@torch.inference_mode()
def walks(subject: Subject, batch: Batch, at: int, steps: int) -> tuple[Tensor, Tensor]:
    """[B] bool, twice: rows whose objective, put on the ``wrong_arm`` of a uniform batch at answer index ``at``, walks
    ``steps`` more nodes of it and ends at its end or at the goal; and those that end at its end."""
    arms = batch.facts["arms"]
    arm = arms[torch.arange(len(batch), device=arms.device), batch.facts["wrong_arm"]]
    begun = torch.cat([batch.answers[:, :at], arm[:, 1:2]], 1)
    rest = arm[:, 2 : 2 + steps]
    predictions = subject.objective.continue_answer(batch.prompts, begun, steps)
    on_edges = predictions == rest
    to_end = on_edges.all(1)
    if steps == 1:
        return to_end, to_end
    copied_goal = predictions[:, -1] == batch.answers[:, -1]
    return on_edges[:, :-1].all(1) & (on_edges[:, -1] | copied_goal), to_end
