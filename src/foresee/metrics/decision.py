"""Free-running answers taken apart: the decision, and whether the rest is what the decision that was taken implies."""

from __future__ import annotations

import torch

from foresee.core.batch import NOTHING
from foresee.metrics.base import Metric, Rows, Subject, metrics
from foresee.metrics.intervals import share


@metrics.register("decision")
class Decision(Metric):
    """``decision``: the share of free-running answers whose token at the place of the decision is the right one;
    ``rest``: the share in which every other token is what the decision that was taken implies.

    What a decision implies is the task's to say (``Task.implied``). Where it does not, the other tokens are compared
    with the true answer's; an objective that decides in parallel may agree with either. The last token may be the true
    one instead, a goal copied from the prompt, as for ``follow``. An impossible decision implies nothing, and its
    answer does not count. Both are absent where the task has no decision, ``rest`` where it is the whole answer.
    """

    summary = "free-running answers: the decision alone, and all but the decision"

    def measure(self, subject: Subject) -> Rows:
        rows = subject.decided
        if not len(rows):
            return {}
        batch = subject.test
        answers, place = batch.padded_answers(), batch.facts["branch"].clamp(min=0)[:, None]
        width = answers.shape[1]
        written = subject.predictions[:, :width]
        written = torch.nn.functional.pad(written, (0, width - written.shape[1]), value=NOTHING)
        taken = written.gather(1, place)
        problems = subject.problems[rows]
        found: Rows = {"decision": share((taken == answers.gather(1, place))[rows, 0], problems)}
        implied = subject.task.implied(batch, taken.squeeze(1))
        expected = [] if implied is None else [implied]
        if implied is None or subject.objective.order == "parallel":
            expected.append(answers)
        columns = torch.arange(width, device=answers.device)
        free, last = columns == place, columns == (batch.answer_len - 1)[:, None]
        goes_on = torch.zeros_like(place[:, 0], dtype=torch.bool)
        for rest in expected:
            fits = (written == rest) | (last & (written == answers)) | free
            goes_on |= fits.all(1) & (rest != NOTHING).any(1)
        others = batch.answer_len[rows] > 1
        if bool(others.any()):
            found["rest"] = share(goes_on[rows][others], problems[others])
        return found
