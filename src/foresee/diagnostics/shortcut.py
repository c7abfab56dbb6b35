"""The shortcut, measured alone: put on a wrong arm, does the model walk it to its end whatever the goal?

The paper reports an accuracy of the Clever Hans cheat, but its formula is not known to us. This one is our own:
a forced wrong first step, then the whole rest of that arm.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.batch import Batch
from foresee.diagnostics.base import Diagnostic, Rows, Subject, diagnostics
from foresee.diagnostics.passes import share

FACTS = frozenset({"arms", "goal_arm", "branch"})


def wrong_arms(goal_arm: Tensor, degree: int, rng: torch.Generator) -> Tensor:
    """[B] -> [B]: for each row an arm drawn uniformly among the ``degree - 1`` that do not lead to the goal."""
    draw = torch.randint(degree - 1, goal_arm.shape, generator=rng, device=rng.device).to(goal_arm.device)
    return draw + (draw >= goal_arm)


@diagnostics.register("shortcut")
class Shortcut(Diagnostic):
    """``follow``: the share of wrong arms that are walked to their own end.

    The prompt is continued by the true answer up to the branch token and by the first node of an arm drawn uniformly
    among the wrong ones; what the objective then writes freely must be exactly the rest of that arm, edge by edge.

    Absent for objectives that do not decide forwards (they cannot be put on an arm), for tasks without arms, with one
    arm only (no wrong one), and with arms that end at their first node (nothing left to walk).
    """

    summary = "put on a wrong arm, walks it to its end whatever the goal"

    def measure(self, subject: Subject) -> Rows:
        facts = subject.test.facts
        if subject.objective.order != "forward" or not facts.keys() >= FACTS:
            return {}
        degree, length = facts["arms"].shape[1:]
        if degree < 2 or length < 3:
            return {}
        walked: list[Tensor] = []
        for piece in subject.chunks(subject.test):
            # One prefix length at a time; on path-star there is only one.
            branch = piece.facts["branch"]
            walked.extend(walks(subject, piece.rows(branch == at), at) for at in sorted(set(branch.tolist())))
        return {"follow": share(torch.cat(walked))}


@torch.inference_mode()
def walks(subject: Subject, batch: Batch, at: int) -> Tensor:
    """[B] bool: rows whose objective, put on a wrong arm at answer index ``at``, walks that arm to its end."""
    arms = batch.facts["arms"]
    wrong = wrong_arms(batch.facts["goal_arm"], arms.shape[1], subject.rng)
    arm = arms[torch.arange(len(batch), device=arms.device), wrong]
    prefix = torch.cat([batch.prompts, batch.answers[:, :at], arm[:, 1:2]], 1)
    rest = arm[:, 2:]
    return (subject.objective.generate(prefix, rest.shape[1]) == rest).all(1)
