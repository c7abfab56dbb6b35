"""How fast training, decoding and drawing data run on this machine, beside the rate of its matrix products.

Everything is timed in short bursts, one kind after the other and round after round, so that a slow moment of the
machine falls on all kinds alike. Figures are medians over rounds, with the slowest and the quickest round beside them.

Model FLOP/s are ``6 * Backbone.flops_per_token() * tokens``: two operations for each parameter in a matrix product,
once forward and twice backward. Attention's own products are not counted, and neither are norms and the optimiser; what
a backbone leaves out because nothing needs it (the last layer away from the answer) is counted as if it were done.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.core.seeds import torch_stream
from foresee.objectives.decoding import decode_greedily
from foresee.training.data import WINDOW, draw
from foresee.training.distributed import Model, World
from foresee.training.examples import batch_of, training_data
from foresee.training.loop import train_steps
from foresee.training.optimizer import autocast
from foresee.training.process import environment
from foresee.training.settings import Settings
from foresee.training.step import Training

Work = Callable[[], object]

DRAWN = 50_000
"""Training examples that are drawn at a time, about: whole groups of the task."""


def seconds_of(work: Work, device: str, calls: int = 1) -> float:
    """Wall-clock seconds of that many calls, to their end on the device."""
    _wait(device)
    began = time.perf_counter()
    for _ in range(calls):
        work()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def interleaved(works: Mapping[str, Work], device: str, rounds: int, burst: float) -> dict[str, list[float]]:
    """Seconds a call of every work in every round. In each round every work is called for about ``burst`` seconds, at
    least once, after two calls each that are not counted."""
    calls = {}
    for name, work in works.items():
        work()
        calls[name] = max(1, math.ceil(burst / max(seconds_of(work, device), 1e-6)))
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            seconds[name].append(seconds_of(work, device, calls[name]) / calls[name])
    return seconds


class TrainingStep:
    """Training steps of a run, one a call: the very ones of the training loop, data included."""

    def __init__(self, spec: Settings) -> None:
        self.spec = spec
        self.task = spec.build_task()
        self.objective = spec.build_objective(self.task)
        self.data = training_data(spec, self.task)
        self.training = Training(spec, self.task, self.data, Model(self.objective, spec.device, World()))

    @property
    def step(self) -> int:
        """Steps taken."""
        return self.training.position.step

    def __call__(self) -> None:
        train_steps(self.training, self.step + 1)

    def batch(self) -> Batch:
        """The batch of the step to come."""
        return batch_of(self.data, self.task, self.spec, self.step).to(self.spec.device)

    def tokens(self) -> int:
        """Tokens read in a step, of the kind that ``tokens_read`` counts; where rows differ in length, the mean over a
        window of batches."""
        batch = self.batch()
        if batch.layout.uniform and batch.layout.last == self.task.prompt_length + self.task.answer_length:
            return tokens_read(batch)
        window = [batch_of(self.data, self.task, self.spec, step) for step in range(WINDOW)]
        return round(statistics.mean(map(tokens_read, window)))

    def flops(self) -> int:
        """Of one step."""
        return 6 * self.objective.backbone.flops_per_token() * self.tokens()


def tokens_read(batch: Batch) -> int:
    """Tokens that training has to put through the model: each row without its last token and without padding, and a
    prefix that a group of rows shares once."""
    layout, rows = batch.layout, len(batch)
    repeated = min(layout.shared, layout.first - 1) * (rows - rows // layout.group)
    if layout.uniform:
        return rows * (layout.last - 1) - repeated
    return int((batch.prompt_len + batch.answer_len - 1).sum()) - repeated


def matrix_products(spec: Settings, tokens: int, width: int) -> dict[str, tuple[Work, int]]:
    """Matrix products and their operations by shape: a large square one, and those of an MLP on that many tokens."""
    dtype = torch.bfloat16 if spec.precision == "bf16" else torch.float32
    side = 8192 if spec.device == "cuda" else 2048
    made: dict[str, tuple[Work, int]] = {}
    for m, k, n in ((side, side, side), (tokens, width, 4 * width), (tokens, 4 * width, width)):
        name = f"{m} x {k} x {n}"
        rng = torch_stream("bench", name)
        left, right = (torch.randn(*shape, generator=rng).to(spec.device, dtype) for shape in ((m, k), (n, k)))

        def multiply(left: Tensor = left, right: Tensor = right) -> Tensor:
            with torch.inference_mode():
                return functional.linear(left, right)

        made[name] = (multiply, 2 * m * k * n)
    return made


def recomputing(backbone: Backbone, prompt: Tensor, n: int) -> Tensor:
    """What ``decode_greedily`` gives, with the whole sequence read anew for each token: [B, P] -> [B, n]."""
    read = prompt
    for _ in range(n):
        hidden = backbone(backbone.embed(read), keep=slice(read.shape[1] - 1, read.shape[1]))
        read = torch.cat((read, backbone.logits(hidden).argmax(-1)), 1)
    return read[:, prompt.shape[1] :]


def decoding(training: TrainingStep, decode: Callable[[Backbone, Tensor, int], Tensor], asked: Batch) -> Work:
    """Work that writes an answer to each prompt of a uniform batch with the backbone as it then is."""
    backbone = training.objective.backbone

    def write() -> Tensor:
        backbone.eval()
        with torch.inference_mode(), autocast(training.spec):
            return decode(backbone, asked.prompts, asked.layout.width)

    return write


def spread(values: list[float]) -> dict[str, float]:
    """Median, slowest and quickest of rates."""
    return {"value": statistics.median(values), "low": min(values), "high": max(values)}


def bench(
    *,
    task: str,
    backbone: str,
    objective: str = "next-token",
    batch: int = 256,
    device: str = "auto",
    rounds: int = 5,
    burst: float = 0.7,
) -> dict[str, Any]:
    """Rates a second, each ``{"value", "low", "high"}`` over rounds: examples and model FLOPs of ``training``, FLOPs of
    ``matrix_products`` by shape, examples of ``decoding`` (prompts read once, and everything read anew for each token),
    ``data`` drawn. ``share`` is the model FLOP rate over ``matrix_rate``, the best shape's: the denominator that
    flatters training least. Where rows differ in length, ``tokens_a_step`` is a mean over batches, and decoding is
    measured on the commonest lengths of one.

    ``rounds`` and ``burst`` (seconds) are as in ``interleaved``. Raises ``RequestError`` on a spec that cannot be run.
    """
    group = Settings.of(task, objective, backbone).build_task().group
    drawn = max(1, DRAWN // group) * group
    spec = Settings.of(task, objective, backbone, batch=batch, data=f"fixed:{drawn}", device=device)
    training = TrainingStep(spec)
    first = training.batch()
    _, asked = max(first.uniform_parts(), key=lambda part: len(part[1]))
    tokens, flops = training.tokens(), training.flops()
    products = matrix_products(spec, tokens, training.objective.backbone.width)
    works: dict[str, Work] = {name: work for name, (work, _) in products.items()}
    works["training"] = training
    works["cached"] = decoding(training, decode_greedily, asked)
    works["recomputed"] = decoding(training, recomputing, asked)
    works["data"] = draw_all = partial(draw, training.task, spec.task, "train", drawn, 0)
    seconds = interleaved(works, spec.device, rounds, burst)

    def rate(name: str, amount: float) -> dict[str, float]:
        return spread([amount / each for each in seconds[name]])

    matrix = {name: rate(name, operations) for name, (_, operations) in products.items()}
    matrix_rate = max(each["value"] for each in matrix.values())
    model_flops = rate("training", flops)
    cached, recomputed = rate("cached", len(asked)), rate("recomputed", len(asked))
    return {
        "task": spec.task, "objective": spec.objective, "backbone": spec.backbone, "batch": batch,
        "device": spec.device, "precision": spec.precision, "rounds": rounds,
        "training": {
            "examples": rate("training", batch),
            "milliseconds_a_step": 1000 * statistics.median(seconds["training"]),
            "tokens_a_step": tokens,
            "flops_a_token": 6 * training.objective.backbone.flops_per_token(),
            "model_flops": model_flops,
        },
        "matrix_products": matrix,
        "matrix_rate": matrix_rate,
        "share": model_flops["value"] / matrix_rate,
        "decoding": {"cached": cached, "recomputed": recomputed, "ratio": cached["value"] / recomputed["value"]},
        "data": rate("data", len(draw_all())),  # a file may hold fewer
        "environment": environment(),
    }  # fmt: skip


def show(measured: Mapping[str, Any], console: Console) -> None:
    """Prints what ``bench`` gave."""
    where = measured["environment"]
    hardware = where["gpu"] if measured["device"] == "cuda" else f"{where['processor']}, {where['threads']} threads"
    console.print(f"{measured['objective']} on {measured['task']} with {measured['backbone']}", highlight=False)
    console.print(f"batch {measured['batch']}, {measured['precision']}, {hardware}", highlight=False)
    table = Table("", "a second", "slowest to quickest round")
    giga = 1e-9

    def add(name: str, rate: Mapping[str, float], scale: float = 1.0, unit: str = "examples") -> None:
        value, low, high = (f"{scale * rate[key]:,.0f}" for key in ("value", "low", "high"))
        table.add_row(name, f"{value} {unit}", f"{low} to {high}")

    training, decoded = measured["training"], measured["decoding"]
    add("training", training["examples"])
    add("training, model operations", training["model_flops"], giga, "GFLOP")
    for name, rate in measured["matrix_products"].items():
        add(f"matrix product {name}", rate, giga, "GFLOP")
    add("decoding, prompts read once", decoded["cached"])
    add("decoding, all read anew", decoded["recomputed"])
    add("drawing data", measured["data"])
    console.print(table)
    console.print(
        f"a training step takes {training['milliseconds_a_step']:.1f} ms, {measured['share']:.0%} of the best "
        f"matrix-product rate; reading prompts once makes decoding {decoded['ratio']:.1f} times as fast",
        highlight=False,
    )
