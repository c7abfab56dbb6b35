"""The time budget: arithmetic on measured seconds, and measuring them by a clock that is made up."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny

from foresee.core.errors import RequestError
from foresee.experiments.diagnose.budget import FINAL_MEASUREMENTS, LEAST_STEPS, MARGIN, Budget, Speed, fit, planned
from foresee.experiments.diagnose.speed import measure_speed
from foresee.training.data import FixedData, draw

SPEEDS = {"next-token": Speed(0.1, 1.0), "reversed": Speed(0.1, 1.0), "teacherless": Speed(0.2, 0.5)}

seconds = st.floats(0.001, 2.0)


@given(st.lists(st.tuples(seconds, seconds), min_size=1, max_size=5), st.integers(1, 4), st.floats(60, 3600))
def test_what_is_planned_fits(pairs: list[tuple[float, float]], seeds: int, left: float) -> None:
    speeds = {str(number): Speed(*pair) for number, pair in enumerate(pairs)}
    try:
        budget = fit(speeds, seeds, left)
    except RequestError:
        least = seeds * sum(
            LEAST_STEPS * speed.step + FINAL_MEASUREMENTS * speed.evaluation for speed in speeds.values()
        )
        assert least > left * MARGIN / 3  # a refusal where there was plenty of time would be wrong
        return
    assert budget.seconds <= left * MARGIN * (1 + 1e-9)
    assert budget.steps >= LEAST_STEPS
    assert 1 <= budget.eval_every <= budget.steps


def test_more_time_gives_more_steps_and_more_seeds_fewer() -> None:
    assert fit(SPEEDS, 1, 600).steps > fit(SPEEDS, 1, 300).steps > fit(SPEEDS, 2, 300).steps


def test_most_of_the_time_is_spent_on_steps() -> None:
    budget = fit(SPEEDS, 1, 600)
    assert budget.steps * 0.4 > 0.7 * 600 * MARGIN


def test_a_budget_too_small_for_anything_says_so() -> None:
    with pytest.raises(
        RequestError, match=r"budget is too small: 20 s are left for 3 runs, which need about .* --minutes"
    ):
        fit(SPEEDS, 1, 20)
    with pytest.raises(RequestError, match="0 s are left"):
        fit(SPEEDS, 1, -5)


def test_a_plan_by_hand() -> None:
    found = planned({"a": Speed(0.5, 2.0)}, 2, 100, evaluations=10)
    assert found == Budget(100, 10, 2 * (100 * 0.5 + (10 + FINAL_MEASUREMENTS) * 2.0) + 6.0)


def test_speed_is_measured_by_the_clock_that_is_given() -> None:
    spec = tiny(batch=8)
    task = spec.build_task()
    batch = draw(task, spec.task, "train", 64, 0)
    # Read once before the steps, at the fourth and fifth to see whether the time is up, and once after: at 0, 1, 2, 3.
    ticks = itertools.count(0, 1.0)
    speed = measure_speed(spec, task, FixedData(batch, spec.task, 0), batch, 100.0, lambda: next(ticks))
    assert speed.step == pytest.approx(3 / 5)
    assert speed.evaluation == 1.0
