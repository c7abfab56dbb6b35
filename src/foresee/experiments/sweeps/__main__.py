"""``python -m foresee.experiments.sweeps``: a worker of a sweep (``worker.py``)."""

from foresee.experiments.sweeps.worker import main

main()
