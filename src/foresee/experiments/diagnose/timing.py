"""How many steps fit into a time: what a step and an evaluation take here, and what runs cost each other."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.metrics.measure import measure_quickly
from foresee.tasks.base import Task
from foresee.training.data import TrainingData
from foresee.training.distributed import Model, World
from foresee.training.loop import train_steps
from foresee.training.optimizer import autocast
from foresee.training.settings import Settings
from foresee.training.step import Training

UNTIMED = 2
"""First steps of a warm-up, in which memory is allocated."""
FEWEST_TIMED, MOST_TIMED, TIMING_SHARE = 4, 40, 0.02
"""Steps that are timed of each objective, and the share of the whole time that this should take."""

LEAST_STEPS, MOST_STEPS = 40, 100_000
MOST_EVALUATIONS, FEWEST_EVALUATIONS = 24, 6
EVALUATION_SHARE = 0.2
"""Share of the time that the evaluations during training may take while there are more than the fewest."""
MARGIN = 0.88
"""Share of the time left that is planned with: steps are not equally fast all through a run."""
FINAL_MEASUREMENTS = 2.0
"""What measuring a trained model on test and training examples takes, in evaluations. We measure it once more."""
PAGE_SECONDS, WORKER_SECONDS = 6.0, 8.0
"""For writing the page, and for starting the processes in which runs go beside each other."""
CROWD_SIZE, CROWD_SECONDS = 256, 0.4
"""Of the matrix products that tell how much slower a core is while others work."""

Clock = Callable[[], float]


@dataclass(frozen=True)
class Speed:
    """Seconds of one objective: a training step, and one evaluation on the watched examples."""

    step: float
    evaluation: float


def measure_speed(
    run: Settings,
    task: Task,
    data: TrainingData,
    watched: Batch,
    seconds: float,
    clock: Clock = time.perf_counter,
    slower: float = 1.0,
) -> Speed:
    """Seconds of a step and of an evaluation here and now, where all of the work may take ``seconds``: a short warm-up
    that is thrown away. Both count ``slower`` times as much."""
    objective = run.build_objective(task)
    training = Training(run, task, data, Model(objective, run.device, World()))
    train_steps(training, UNTIMED)
    began, steps = clock(), 0
    while steps < FEWEST_TIMED or (steps < MOST_TIMED and clock() - began < TIMING_SHARE * seconds):
        train_steps(training, UNTIMED + steps + 1)
        steps += 1
    a_step = (clock() - began) / steps
    began = clock()
    with autocast(run):
        measure_quickly(task, objective, watched)
    return Speed(slower * a_step, slower * (clock() - began))


def measure_crowding(beside: int, clock: Clock = time.perf_counter) -> float:
    """How many times as long work takes on one thread while ``beside`` threads do the same, at least 1: threads of one
    core share it, and others may be at work already."""
    if beside == 1:
        return 1.0
    matrix = torch.ones(CROWD_SIZE, CROWD_SIZE)

    def multiply(times: int) -> None:
        for _ in range(times):
            matrix @ matrix

    began, times = clock(), 0
    while times < 2 or clock() - began < CROWD_SECONDS:
        multiply(1)
        times += 1
    alone = clock() - began
    began = clock()
    with ThreadPoolExecutor(beside) as pool:
        list(pool.map(multiply, [times] * beside))
    return max(1.0, (clock() - began) / alone)


def fit_steps(speeds: Mapping[str, Speed], seeds: int, left: float, beside: int = 1) -> tuple[int, int, float]:
    """The most steps, the same for all runs, whose training and measuring fit into ``left`` seconds with ``beside``
    runs at a time; steps between evaluations; and the seconds that all of it should take. Raises ``RequestError``, with
    the time that would do, where fewer than ``LEAST_STEPS`` fit."""
    an_evaluation = seeds * sum(speed.evaluation for speed in speeds.values())
    fixed = PAGE_SECONDS + an_evaluation + (WORKER_SECONDS if beside > 1 else 0.0)
    usable = left * MARGIN - fixed

    def time_of(steps: int, evaluations: float) -> float:
        """Runs start in their order, each as soon as there is room."""
        rooms = [0.0] * beside
        for each in [*speeds.values()] * seeds:
            first = rooms.index(min(rooms))
            rooms[first] += steps * each.step + (evaluations + FINAL_MEASUREMENTS) * each.evaluation
        return max(rooms)

    wanted = int(usable * EVALUATION_SHARE / max(time_of(0, 1) - time_of(0, 0), 1e-9))
    evaluations = min(MOST_EVALUATIONS, max(FEWEST_EVALUATIONS, wanted))
    steps = bisect_right(range(1, MOST_STEPS + 1), usable, key=lambda steps: time_of(steps, evaluations))
    if steps < LEAST_STEPS:
        least = (time_of(LEAST_STEPS, FEWEST_EVALUATIONS) + fixed) / MARGIN
        raise RequestError(
            f"the budget is too small: {max(0.0, left):.0f} s are left for {seeds * len(speeds)} runs, which need "
            f"about {least:.0f} s for {LEAST_STEPS} steps each, and a verdict takes more; give --minutes "
            f"{math.ceil(least / 60) + 1} at the least, fewer --seeds or a smaller --backbone"
        )
    eval_every = max(1, -(-steps // evaluations))
    return steps, eval_every, time_of(steps, -(-steps // eval_every)) + fixed
