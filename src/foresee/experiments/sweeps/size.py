"""How large a run is, found by building it, which also checks that it can be run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from foresee.core.errors import RequestError
from foresee.training.data import FreshData
from foresee.training.examples import training_data
from foresee.training.progress import title
from foresee.training.settings import Fixed, Settings, parse_data

PROCESS = 350 << 20
"""Bytes of a process that has PyTorch and this package in memory, and their allocators' slack."""
PER_TRAINED = 32
"""Bytes for each trained parameter: itself, gradient, Adam's two moments, and as much again while a checkpoint of
weights and moments is put together."""
PER_ACTIVATION = 16
"""Bytes for each output of a matrix product that the backward pass needs: itself and what norms, activation functions
and residuals keep beside it."""
PER_SCORE = 12
"""Bytes for each attention weight: scores, weights and their gradient."""


@dataclass(frozen=True)
class Size:
    """What a run asks of a machine, estimated from its shape."""

    memory: int
    """Bytes at its peak, measurements included: an estimate that errs on the large side."""
    work: float
    """Floating-point operations of one training step."""


def checked(specs: Sequence[Settings]) -> list[Size]:
    """The sizes of runs, each of which is built once to see that it can be. Raises ``RequestError`` that names the run
    where one cannot."""
    found: dict[tuple[object, ...], Size] = {}
    sizes: list[Size] = []
    for spec in specs:
        # What decides whether a run can be built, and its size; not its seed, learning rate and the like.
        shape = (spec.task, spec.objective, spec.backbone, spec.backbone_digest, spec.data, spec.data_digest,
                 spec.batch, spec.accumulate, spec.recompute, spec.test)  # fmt: skip
        if shape not in found:
            try:
                found[shape] = size_of(spec)
            except RequestError as error:
                raise RequestError(f"{title(spec)}: {error}") from None
        sizes.append(found[shape])
    return sizes


def size_of(spec: Settings) -> Size:
    """Builds a run's task, model and first batch. Raises ``RequestError`` where it cannot be run."""
    task = spec.build_task()
    objective = spec.build_objective(task)
    source = parse_data(spec.data)
    # A file's lines are all read, since any may be wrong; generated examples need not all be drawn to be checked.
    data = FreshData(task, spec.task, spec.seed) if isinstance(source, Fixed) else training_data(spec, task)
    batch = data.batch_at(0, spec.batch // spec.accumulate)
    examples = source.examples if isinstance(source, Fixed) else 0
    rows, columns = batch.tokens.shape
    trained = sum(each.numel() for each in objective.parameters() if each.requires_grad)
    held = sum(each.numel() for each in objective.parameters())
    width = objective.backbone.width
    # A matrix product of n inputs and m outputs has n * m parameters, and n is about the width.
    outputs = rows * columns * held / width
    layers = max(1.0, held / (12 * width * width))  # of a Transformer of this width
    scores = rows * columns * columns * layers * max(1, width // 64)
    activations = (PER_ACTIVATION * outputs + PER_SCORE * scores) * (0.4 if spec.recompute else 1.0)
    stored = 2 * 8 * columns * (examples + spec.test)  # token numbers, and facts of about the same size
    memory = PROCESS + PER_TRAINED * trained + 4 * (held - trained) + activations + stored
    return Size(int(memory), 6.0 * held * rows * columns * spec.accumulate)
