"""Many runs: on this machine beside each other, or on a Ray cluster.

``run_all(specs, root, engine=Local(), progress=...)`` trains what is not finished and gives all runs in the order
asked. The run directories are the only state, so a sweep that was killed continues by being asked for again.
"""

from foresee.experiments.sweeps.engine import Ending, Engine, InterruptedSweepError, Job
from foresee.experiments.sweeps.in_turn import InTurn
from foresee.experiments.sweeps.local import Local
from foresee.experiments.sweeps.progress import SweepProgress
from foresee.experiments.sweeps.run_all import SweepError, run_all

__all__ = ["Ending", "Engine", "InTurn", "InterruptedSweepError", "Job", "Local", "SweepError", "SweepProgress",
           "run_all"]  # fmt: skip
