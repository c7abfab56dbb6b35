"""``python -m foresee.sweeps``: a worker of a sweep (``worker.py``)."""

from foresee.sweeps.worker import main

main()
