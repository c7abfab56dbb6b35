"""Whether next-token training would cheat on a data set, where, and which objective learns the decisions.

Read in this order: ``plan`` settles the runs, ``measure`` looks at each, ``decisions`` finds where they lie,
``evidence`` condenses that, ``verdict`` reads the evidence alone; ``run`` ties them together to a ``result``.
"""

from __future__ import annotations

from foresee.experiments.diagnose.plan import DiagnosisSettings, read_task
from foresee.experiments.diagnose.result import Diagnosis
from foresee.experiments.diagnose.run import diagnose
from foresee.experiments.diagnose.verdict import NAMES, DiagnosisVerdict

__all__ = ["NAMES", "Diagnosis", "DiagnosisSettings", "DiagnosisVerdict", "diagnose", "read_task"]
