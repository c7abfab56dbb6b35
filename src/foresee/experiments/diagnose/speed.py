"""How fast each objective trains and is evaluated here and now: a short warm-up of each, thrown away."""

from __future__ import annotations

import time
from collections.abc import Callable

from foresee.core.batch import Batch
from foresee.experiments.diagnose.budget import Speed
from foresee.metrics.measure import measure_quickly
from foresee.tasks.base import Task
from foresee.training.data import TrainingData
from foresee.training.distributed import Model, World
from foresee.training.loop import Training, train_steps
from foresee.training.optimizer import autocast
from foresee.training.settings import Settings

Clock = Callable[[], float]

UNTIMED = 2
"""First steps, in which memory is allocated."""
LEAST_STEPS, MOST_STEPS = 4, 40
SHARE = 0.02
"""Share of the whole time that timing one objective's steps should take."""


def measure_speed(
    spec: Settings, task: Task, data: TrainingData, watched: Batch, seconds: float, clock: Clock = time.perf_counter
) -> Speed:
    """Seconds of a step and of an evaluation of a run, where all of the work may take ``seconds``."""
    objective = spec.build_objective(task)
    training = Training(spec, task, data, Model(objective, spec.device, World()))
    train_steps(training, UNTIMED)
    began, steps = clock(), 0
    while steps < LEAST_STEPS or (steps < MOST_STEPS and clock() - began < SHARE * seconds):
        train_steps(training, UNTIMED + steps + 1)
        steps += 1
    a_step = (clock() - began) / steps
    began = clock()
    with autocast(spec):
        measure_quickly(task, objective, watched)
    return Speed(a_step, clock() - began)
