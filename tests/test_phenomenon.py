"""The phenomenon itself: on one graph next-token training fails, and is solved backwards, and forwards by a repair."""

from __future__ import annotations

from pathlib import Path

import pytest

from foresee.experiments.demo import demo_settings
from foresee.experiments.runner import run_all


@pytest.mark.slow
def test_next_token_training_fails_where_the_budget_suffices_and_a_repair_does_not(tmp_path: Path) -> None:
    """The demo's failure, control and repair, with fewer test rows: about three minutes of two cores."""
    settings = [each.replace(test=2000) for each in demo_settings()[:3]]
    failure, control, repair = run_all(settings, tmp_path, jobs=2)
    assert (failure.verdict.name, failure.verdict.doubts) == ("clever-hans", ())
    assert (control.spec.objective, control.verdict.name) == ("reversed", "solved")
    assert (repair.objective.order, repair.verdict.name) == ("forward", "solved")
