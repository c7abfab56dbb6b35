"""Whether next-token training would cheat on a data set, where, and which objective learns the decisions.

Arrows point one way: ``question`` and ``budget`` know nothing of the others; ``plan`` settles the runs; ``measured``
looks at each; ``interval``, ``classes``, ``decisions`` and ``tables`` make rows of that; ``evidence`` condenses them,
``verdict`` reads the evidence alone; ``run_all`` ties them together, and ``page`` shows the ``result``.
"""

from __future__ import annotations

from foresee.experiments.diagnose.question import Question, task_of
from foresee.experiments.diagnose.result import Diagnosis
from foresee.experiments.diagnose.run_all import diagnose
from foresee.experiments.diagnose.verdict import NAMES, Verdict

__all__ = ["NAMES", "Diagnosis", "Question", "Verdict", "diagnose", "task_of"]
