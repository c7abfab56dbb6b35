"""The phenomenon itself: on one graph next-token training walks arms and guesses which, and backwards it is solved."""

from __future__ import annotations

from pathlib import Path

import pytest

from foresee.experiments.demo import demo_settings
from foresee.experiments.runner import run_all


@pytest.mark.slow
def test_next_token_training_fails_where_the_budget_suffices(tmp_path: Path) -> None:
    """The demo's failure and its control, with fewer test rows: two minutes of one core, and less of the other."""
    settings = [each.replace(test=4000, eval_every=50) for each in demo_settings()[:2]]
    failure, control = run_all(settings, tmp_path, jobs=2)
    assert (control.verdict.name, control.spec.objective) == ("solved", "reversed")
    assert (failure.verdict.name, failure.verdict.doubts) == ("clever-hans", ())
