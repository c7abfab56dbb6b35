"""Training steps of state space models, beside the transformers library's Mamba without its CUDA kernels.

    python benchmarks/mamba.py [--batch 64 --rounds 3]

Training steps of G(2,5) (31 tokens a sequence) at 6 layers and width 384: forward and backward pass, clipping, AdamW.
Every contender is a process of its own, and they take turns:

* foresee's ``mamba`` and ``mamba2``, as ``foresee train`` runs them;
* ``mamba`` with its scan replaced by a plain loop over time under autograd, all else the same;
* the library's ``MambaForCausalLM`` with its defaults: float32, and logits of every position;
* the same tuned: foresee's autocast, and logits at the answer alone;
* both with foresee's allocator setting as well, which alone saves it more than half of its time.

A library step takes many seconds: one call a turn, after one on a few rows that is not counted.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any
from unittest import mock

import torch
from common import Target, parser, write
from torch import Tensor
from torch.nn import functional

from foresee.backbones import backbones
from foresee.backbones.mamba.mamba import MambaLayer
from foresee.core.isolation import keep_large_blocks
from foresee.core.spec import resolve
from foresee.experiments.bench import TrainingStep, seconds_of
from foresee.training.examples import batch_of
from foresee.training.optimizer import autocast
from foresee.training.process import environment
from foresee.training.settings import Settings

TASK = "path-star:degree=2,length=5,nodes=50,goals=one"
OURS, DUAL = "foresee mamba", "foresee mamba2"
LOOP, DEFAULT, TUNED, KEPT = "plain loop over time", "transformers", "transformers, tuned", " + allocator"
CONTENDERS = (OURS, DUAL, LOOP, DEFAULT, TUNED, DEFAULT + KEPT, TUNED + KEPT)

Work = Callable[[], object]


def run_spec(kind: str, quick: bool, batch: int) -> Settings:
    """Of a training run of ``kind``, "mamba" or "mamba2"."""
    shape = "layers=1,width=64" if quick else "layers=6,width=384"
    return Settings.of(
        TASK, "next-token", f"{kind}:{shape}", batch=batch, data=f"fixed:{256 if quick else 20_000}", device="cpu"
    )


# In a contender's process ---------------------------------------------------------------------------------------------


def loop_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor) -> Tensor:
    """``selective_scan`` as one would first write it: states [B, D, N], and autograd for the rest."""
    x, B, C = x.float(), B.float(), C.float()
    state = x.new_zeros(len(x), *A.shape)
    outputs = []
    for t in range(x.shape[1]):
        state = torch.exp(dt[:, t, :, None] * A) * state + (dt[:, t] * x[:, t])[..., None] * B[:, t, None]
        outputs.append((state * C[:, t, None]).sum(-1))
    return torch.stack(outputs, 1) + D * x


def loop_step(spec: Settings) -> Work:
    """A training step with ``loop_scan``."""
    step = TrainingStep(spec)

    def work() -> None:
        with mock.patch.object(MambaLayer, "scan", MambaLayer.scan._replace(outputs=loop_scan)):
            step()

    return work


def library_step(spec: Settings, tuned: bool) -> Callable[[int], None]:
    """One training step of the library's model a call, on that many rows."""
    from transformers import MambaConfig, MambaForCausalLM

    ours = TrainingStep(spec)
    steps = itertools.count()
    shape = ours.objective.backbone
    first = ours.batch().layout.first
    config = MambaConfig(
        vocab_size=len(ours.task.vocab), hidden_size=shape.width, num_hidden_layers=resolve_layers(spec),
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    model: Any = MambaForCausalLM(config).train()
    model.loss_type = "ForCausalLM"  # what it falls back to anyway, but with a warning
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, fused=True)

    def loss(tokens: Tensor) -> Tensor:
        if not tuned:
            labels = tokens.clone()
            labels[:, :first] = -100
            total: Tensor = model(input_ids=tokens, labels=labels).loss
            return total
        with autocast(spec):
            out = model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=tokens.shape[1] - first)
        return functional.cross_entropy(out.logits.flatten(0, 1).float(), tokens[:, first:].flatten())

    def step(rows: int) -> None:
        tokens = batch_of(ours.data, ours.task, spec, next(steps)).tokens[:rows]
        optimiser.zero_grad()
        torch.autograd.backward(loss(tokens))
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip, foreach=True)
        optimiser.step()

    return step


def resolve_layers(spec: Settings) -> int:
    """How many layers the backbone of ``spec`` has."""
    layers = resolve(backbones, spec.backbone).options["layers"]
    assert isinstance(layers, int)
    return layers


def serve(name: str, quick: bool, batch: int) -> None:
    """Answers each number of calls on standard input with the seconds that one took."""
    if KEPT in name or not name.startswith(DEFAULT):
        keep_large_blocks()
    spec = run_spec("mamba2" if name == DUAL else "mamba", quick, batch)
    if name.startswith(DEFAULT):
        step = library_step(spec, tuned=name.startswith(TUNED))
        step(2)
        work: Work = partial(step, batch)
    else:
        work = loop_step(spec) if name == LOOP else TrainingStep(spec)
        work()
    for line in sys.stdin:
        print(json.dumps(seconds_of(work, "cpu", int(line)) / int(line)), flush=True)


# In the parent --------------------------------------------------------------------------------------------------------


class Contender:
    """A process that trains when told to."""

    def __init__(self, name: str, quick: bool, batch: int) -> None:
        command = [sys.executable, __file__, "--contender", name, "--batch", str(batch)]
        command += ["--quick"] if quick else []
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def seconds(self, calls: int) -> float:
        """Of one step, over that many."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a contender ended early, with status {self.process.wait()}")
        return float(json.loads(answer))

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def training(quick: bool, batch: int, rounds: int, burst: float) -> dict[str, list[float]]:
    """Seconds a step of every contender in every round."""
    contenders = {name: Contender(name, quick, batch) for name in CONTENDERS}
    calls = {
        name: 1 if name.startswith(DEFAULT) else max(1, round(burst / each.seconds(1)))
        for name, each in contenders.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, each in contenders.items():
            seconds[name].append(each.seconds(calls[name]))
    for each in contenders.values():
        each.close()
    return seconds


def main() -> None:
    """Lets the contenders take turns, and compares."""
    options = parser(__doc__)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--burst", type=float, default=4.0, help="seconds of training a turn")
    options.add_argument("--contender", choices=CONTENDERS, help="used by the script itself")
    arguments = options.parse_args()
    quick = arguments.quick
    if arguments.contender:
        serve(arguments.contender, quick, arguments.batch)
        return
    batch, rounds, burst = (8, 1, 0.0) if quick else (arguments.batch, arguments.rounds, arguments.burst)
    seconds = training(quick, batch, rounds, burst)
    median = {name: statistics.median(each) for name, each in seconds.items()}
    lines = [f"{'a training step':32}{'seconds':>10}{'quickest to slowest':>24}{'this / foresee mamba':>24}"]
    lines += [
        f"{name:32}{median[name]:10.3f}{f'{min(each):.3f} to {max(each):.3f}':>24}{median[name] / median[OURS]:24.2f}"
        for name, each in seconds.items()
    ]
    targets = [
        Target("times the library with its defaults", median[DEFAULT] / median[OURS], least=20.0),
        Target("mamba2 against mamba", median[OURS] / median[DUAL], least=1.0),
    ]
    spec = run_spec("mamba", quick, batch)
    measured = {
        "task": TASK, "batch": batch, "backbone": spec.backbone, "precision": spec.precision,
        "threads": torch.get_num_threads(), "seconds": seconds, "environment": environment(), "load": os.getloadavg(),
    }  # fmt: skip
    write(arguments.json, measured, lines, targets)


if __name__ == "__main__":
    main()
