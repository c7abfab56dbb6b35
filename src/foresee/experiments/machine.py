"""How many cores and how much memory this process may use, control groups (containers) included; and how much memory a
run will need, before it begins."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a worker, which asks for its cores, starts without PyTorch
    from torch.nn import Module

    from foresee.backbones.capabilities import Cap
    from foresee.tasks.base import Task
    from foresee.training.settings import Settings

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def cores(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Cores that this process may run on, or whole cores of its control group's quota where that is less; at least 1.

    ``proc`` and ``cgroup`` are where the kernel shows itself.
    """
    found = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    for group in _groups("cpu", proc, cgroup):
        bound = _numbers(group / "cpu.max") or [
            *_numbers(group / "cpu.cfs_quota_us"), *_numbers(group / "cpu.cfs_period_us")
        ]  # fmt: skip
        if len(bound) == 2 and all(bound):
            found = min(found, bound[0] / bound[1])
    return max(1, int(found))


def free_memory(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Bytes of memory that are free now, caches counted as free: the machine's, or its control group's where less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = [_named(proc / "meminfo").get("MemAvailable:", machine // 1024) * 1024]
    for group in _groups("memory", proc, cgroup):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            if bound := _numbers(group / limit):
                # Files that the kernel could drop are in use only on paper.
                idle = _named(group / "memory.stat")
                dropped = idle.get("inactive_file", idle.get("total_inactive_file", 0))
                free.append(bound[0] - max(0, sum(_numbers(group / used)) - dropped))
    return max(0, min(free))


def slots(device: str) -> int:
    """How many runs on this device may go beside each other: a core each, or a GPU."""
    return max(1, len(gpus())) if device == "cuda" else cores()


def gpus() -> list[str]:
    """The names by which ``CUDA_VISIBLE_DEVICES`` knows the GPUs that this process may use."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _groups(controller: str, proc: Path, cgroup: Path) -> Iterator[Path]:
    """The folders of this process's control groups that may limit ``controller``, from its own up to the root: of the
    unified hierarchy (version 2) and of the controller's own (version 1)."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, names, place = line.split(":", 2)
        if not names or controller in names.split(","):
            top = cgroup / controller if names else cgroup
            here = top / place.strip("/")
            yield from (group for group in (here, *here.parents) if group == top or top in group.parents)


def _named(path: Path) -> dict[str, int]:
    """The whole numbers of a file that has a name and a number a line."""
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _numbers(path: Path) -> list[int]:
    """The whole numbers of a file of one line; empty where it is missing or says that there is no limit."""
    words = _text(path).split()
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


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
    from foresee.backbones.base import backbones
    from foresee.core.seeds import torch_stream
    from foresee.core.spec import resolve
    from foresee.objectives.base import objectives

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
    from foresee.backbones.base import backbones
    from foresee.core.spec import resolve
    from foresee.training.data import FreshData
    from foresee.training.evaluate import rows_at_a_time
    from foresee.training.examples import WATCHED, require_whole_parts, training_data

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
    heads = resolve(backbones, settings.backbone).options.get("heads") or max(1, width // 64)
    activations += 12 * rows * columns * columns * layers * heads  # attention scores, weights, gradients
    # An evaluation reads many rows at once, whatever the batch: the scores of one layer's attention, and the logits.
    read = min(rows_at_a_time(task, len(task.vocab)), max(settings.test, WATCHED))
    measuring = 12 * read * (task.prompt_length + task.answer_length) ** 2 * heads
    measuring += 12 * read * task.answer_length * len(task.vocab)
    stored = 2 * 8 * columns * ((generated or 0) + settings.test)
    # A process with PyTorch; and each trained parameter with its gradient, two moments, and as much for a checkpoint.
    held_bytes = (350 << 20) + 32 * trained + 4 * (held - trained)
    return int(held_bytes + max(activations * (0.4 if settings.recompute else 1.0), measuring) + stored)
