"""How much memory a run will need, before it begins."""

from __future__ import annotations

from dataclasses import dataclass

from torch.nn import Module

from foresee.backbones.base import backbones
from foresee.backbones.capabilities import Cap
from foresee.core.seeds import torch_stream
from foresee.core.spec import resolve
from foresee.objectives.base import objectives
from foresee.tasks.base import Task
from foresee.training.data import FreshData
from foresee.training.examples import require_whole_parts, training_data
from foresee.training.settings import Settings


@dataclass(frozen=True)
class Size:
    """A checkpoint that was loaded once: the numbers that it holds and trains, and what it can do."""

    held: int
    trained: int
    width: int
    layers: int
    longest: int | None
    has: frozenset[Cap]


def count_parameters(settings: Settings, task: Task, checkpoints: dict[str, Size]) -> tuple[int, int, int]:
    """How many numbers a run's model holds and trains, and its width. Raises ``RequestError`` where it cannot be built.

    A checkpoint, which takes seconds to load, is loaded once: further objectives are built on a narrow network of its
    depth that can do as much, and what they add is reckoned in proportion.
    """
    size = checkpoints.get(settings.backbone)
    if size is None:
        objective = settings.build_objective(task)
        held, network = count(objective), objective.backbone
        trained = held - count(objective, frozen=True)
        if settings.backbone_digest and network.layer_count is not None:
            own = count(network)
            checkpoints[settings.backbone] = Size(
                own, own - count(network, frozen=True), network.width, network.layer_count, network.longest, network.has
            )
        return held, trained, network.width
    vocab = task.vocab.extended(resolve(objectives, settings.objective).cls.symbols)
    context = "" if size.longest is None else f",context={size.longest}"
    spec = resolve(backbones, f"transformer:layers={size.layers},width=8,heads=1{context}")
    network = spec.build(vocab, torch_stream("memory"))
    network.has = size.has
    held = size.held * count(settings.build_objective(task, network)) // count(network)
    return held, size.trained + held - size.held, size.width


def count(module: Module, *, frozen: bool = False) -> int:
    """Parameters of a module, or the frozen ones among them."""
    return sum(each.numel() for each in module.parameters() if not (frozen and each.requires_grad))


def estimate_memory(settings: Settings, checkpoints: dict[str, Size] | None = None) -> int:
    """Bytes that a run needs at its peak, measurements included; errs on the large side. Builds the run's task, model
    and first batch, and raises ``RequestError`` where they cannot be built; ``checkpoints`` are those that were loaded
    before, by their specs."""
    task = settings.build_task()
    held, trained, width = count_parameters(settings, task, {} if checkpoints is None else checkpoints)
    # A file's lines are all read, since any may be wrong; generated examples need not all be drawn to be checked.
    generated = settings.data_examples
    data = training_data(settings, task) if generated is None else FreshData(task, settings.task, settings.seed)
    require_whole_parts(settings, task, data)
    rows, columns = data.batch_at(0, settings.batch // settings.accumulate).tokens.shape
    # A matrix product of n inputs and m outputs has n * m parameters, and n is about the width. The backward pass needs
    # each output, and about three times as much of norms, activation functions and residuals.
    activations = 16 * rows * columns * held / width
    layers = max(1.0, held / (12 * width * width))  # of a Transformer of this width
    activations += 12 * rows * columns * columns * layers * max(1, width // 64)  # attention scores, weights, gradients
    stored = 2 * 8 * columns * ((generated or 0) + settings.test)
    # A process with PyTorch; and each trained parameter with its gradient, two moments, and as much for a checkpoint.
    held_bytes = (350 << 20) + 32 * trained + 4 * (held - trained)
    return int(held_bytes + activations * (0.4 if settings.recompute else 1.0) + stored)
