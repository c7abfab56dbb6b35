"""The shortcut, measured alone: begun with a wrong decision, does the model go on as that decision implies?

The paper reports an accuracy of the Clever Hans cheat, but its formula is not known to us. This one is our own: the
task begins an answer with a wrong decision (``Task.wrong_turn``: a step onto a wrong arm, a flipped parity), and the
rest is decoded freely.

The last token is a case of its own. On path-star the prompt names the goal, so on the true path the last token can be
copied from the prompt as well as looked up, and a network with absolute positions learns to copy it before it learns
any look-up. Put on a wrong arm, such a network walks the arm and then writes the goal. That is the same failure by two
short cuts instead of one: no token is decided by looking ahead. So ``follow`` lets the last token be either, and
``follow_to_end`` beside it asks for the implied one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from foresee.core.batch import NOTHING
from foresee.metrics.base import Metric, Rows, Subject, metrics
from foresee.metrics.intervals import share
from foresee.tasks.base import WrongTurn


@metrics.register("shortcut")
class Shortcut(Metric):
    """``follow``: the share of answers begun wrongly that go on as the wrong decision implies, where at least one token
    lies between the decision and the last; ``follow_to_end``: with the implied last token too.

    Absent for objectives that do not decide forwards (they cannot be put on a wrong way), for tasks without a wrong
    turn, ``follow`` where nothing lies between decision and end, ``follow_to_end`` where nothing follows the decision.
    """

    summary = "begun with a wrong decision, goes on as that decision implies"

    def measure(self, subject: Subject) -> Rows:
        if subject.objective.order != "forward":
            return {}
        turn = subject.task.wrong_turn(subject.test, subject.stream("shortcut"))
        if turn is None:
            return {}
        left = (turn.answers != NOTHING).sum(1) - turn.place - 1
        follow, to_end, pieces = [], [], []
        # One prompt length, place and number of tokens at a time; on path-star of one size there is only one of each.
        lengths = torch.stack((subject.test.prompt_len[turn.rows], turn.place, left), 1)
        for kind in torch.unique(lengths[left >= 1], dim=0).tolist():
            chosen = (lengths == lengths.new_tensor(kind)).all(1).nonzero().flatten()
            for piece in torch.split(chosen, subject.chunk):
                between, end = continue_wrongly(subject, turn, piece, *kind)
                follow.append(between & end.any(1))
                to_end.append(between & end[:, 0])
                pieces.append(piece)
        if not pieces:
            return {}
        order = torch.cat(pieces)
        problems, left = subject.problems[turn.rows[order]], left[order]
        found: Rows = {}
        if bool((left > 1).any()):
            found["follow"] = share(torch.cat(follow)[left > 1], problems[left > 1])
        found["follow_to_end"] = share(torch.cat(to_end), problems)
        return found


@torch.inference_mode()
def continue_wrongly(
    subject: Subject, turn: WrongTurn, piece: Tensor, prompt_length: int, place: int, left: int
) -> tuple[Tensor, Tensor]:
    """Rows ``piece`` of the turn, decoded on for ``left`` tokens: [K] bool, all but the last token is implied; and
    [K, 2] bool, the last token is the implied one, and it is the true answer's."""
    batch = subject.test
    prompts, answers = batch.tokens[turn.rows[piece], :prompt_length], turn.answers[piece]
    written = subject.objective.continue_answer(prompts, answers[:, : place + 1], left)
    as_implied = written == answers[:, place + 1 : place + 1 + left]
    last = batch.padded_answers()[turn.rows[piece], place + left]
    return as_implied[:, :-1].all(1), torch.stack((as_implied[:, -1], written[:, -1] == last), 1)
