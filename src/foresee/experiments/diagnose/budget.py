"""How many steps fit into the time that there is. Plain arithmetic on measured seconds; nothing here reads a clock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from foresee.core.errors import RequestError

MOST_EVALUATIONS, FEWEST_EVALUATIONS = 24, 6
EVALUATION_SHARE = 0.2
"""Share of the time that the evaluations during training may take while there are more than the fewest."""

MARGIN = 0.88
"""Share of the time left that is planned with: steps are not equally fast all through a run."""

LEAST_STEPS = 40
MOST_STEPS = 100_000

FINAL_MEASUREMENTS = 3.0
"""What measuring a trained model takes, in evaluations: test and training examples by ``train``, then by us."""

PAGE_SECONDS = 6.0


@dataclass(frozen=True)
class Speed:
    """Seconds of one objective: a training step, and one evaluation on the watched examples."""

    step: float
    evaluation: float


@dataclass(frozen=True)
class Budget:
    """Steps of every run, steps between evaluations, and the seconds that all of it should take."""

    steps: int
    eval_every: int
    seconds: float


def fit(speeds: Mapping[str, Speed], seeds: int, left: float) -> Budget:
    """The most steps, the same for all runs, whose training and measuring fit into ``left`` seconds.

    Raises ``RequestError``, with the time that would do, where fewer than ``LEAST_STEPS`` do.
    """
    a_step = seeds * sum(speed.step for speed in speeds.values())
    an_evaluation = seeds * sum(speed.evaluation for speed in speeds.values())
    usable = left * MARGIN - PAGE_SECONDS - FINAL_MEASUREMENTS * an_evaluation
    evaluations = int(usable * EVALUATION_SHARE / an_evaluation)
    evaluations = min(MOST_EVALUATIONS, max(FEWEST_EVALUATIONS, evaluations))
    steps = int((usable - evaluations * an_evaluation) / a_step)
    if steps < LEAST_STEPS:
        least = LEAST_STEPS * a_step + (FEWEST_EVALUATIONS + FINAL_MEASUREMENTS) * an_evaluation + PAGE_SECONDS
        raise RequestError(
            f"the budget is too small: {max(0.0, left):.0f} s are left for {seeds * len(speeds)} runs, "
            f"which need about "
            f"{least / MARGIN:.0f} s for {LEAST_STEPS} steps each; give more --minutes, fewer --seeds or a smaller "
            "--backbone"
        )
    steps = min(steps, MOST_STEPS)
    return planned(speeds, seeds, steps, evaluations)


def planned(speeds: Mapping[str, Speed], seeds: int, steps: int, evaluations: int = MOST_EVALUATIONS) -> Budget:
    """A budget of so many steps, with the seconds that it should take."""
    eval_every = max(1, -(-steps // evaluations))
    taken = -(-steps // eval_every)
    seconds = seeds * sum(
        steps * speed.step + (taken + FINAL_MEASUREMENTS) * speed.evaluation for speed in speeds.values()
    )
    return Budget(steps, eval_every, seconds + PAGE_SECONDS)
