"""Training throughput beside the transformers library's GPT-2 of the same size, in one run.

    python benchmarks/against_transformers.py

Everyone trains 6 layers of width 384 with 6 heads and 256 positions on the same G(2,5) batches of 256: fetch the batch,
loss on the answer tokens, backward pass, clipping, fused AdamW. Each contender is a process of its own, since the
setting of the memory allocator belongs to a process; they take turns for a few seconds each, round after round, after
one call that is not counted.

foresee                as ``foresee train`` runs it
transformers           GPT2LMHeadModel with its defaults: float32, sdpa attention, tanh GELU, cache on; labels of -100
                       on the prompt
transformers, tuned    bf16 autocast, eager attention, no cache, logits at the answer alone
... + dropout          the first with the library's own default of 0.1; everyone else trains without dropout, in the
                       library's favour
... + allocator        the same two, with foresee's setting of the memory allocator (foresee.memory)
... + gelu             the tuned one with the exact GELU as well: quicker on a CPU, and what foresee computes
matrix products        the best rate of three shapes, as in ``foresee bench``

Together the processes hold about 18 GB.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch
from common import Target, parser, write
from torch.nn import functional

from foresee.backbones.base import backbones
from foresee.core.isolation import keep_large_blocks
from foresee.core.spec import resolve
from foresee.experiments.bench import TrainingStep, matrix_products, seconds_of, tokens_read
from foresee.training.examples import batch_of
from foresee.training.optimizer import autocast
from foresee.training.process import environment
from foresee.training.settings import Settings

TASK = "path-star:degree=2,length=5,nodes=50,goals=one"
OURS, DEFAULT, TUNED, MATRIX = "foresee", "transformers", "transformers, tuned", "matrix products"
DROPOUT, KEPT, GELU = " + dropout", " + allocator", " + gelu"
CONTENDERS = (OURS, DEFAULT, TUNED, DEFAULT + DROPOUT, DEFAULT + KEPT, TUNED + KEPT, TUNED + KEPT + GELU, MATRIX)
"""The first three and the last decide the targets; the others show what makes the difference."""


def run_spec(quick: bool) -> Settings:
    """Of our own contender; its batches serve all."""
    backbone = "transformer:layers=1,width=32,heads=2" if quick else "transformer:layers=6,width=384,heads=6"
    return Settings.of(
        TASK, "next-token", backbone, batch=8 if quick else 256, data=f"fixed:{256 if quick else 20_000}", device="cpu"
    )


# In a contender's process ---------------------------------------------------------------------------------------------


def library_step(spec: Settings, name: str) -> Callable[[], object]:
    """One training step of the library's model a call."""
    from transformers import AutoModelForCausalLM, GPT2Config

    ours = TrainingStep(spec)
    steps = itertools.count()
    layout = ours.batch().layout
    tuned = name.startswith(TUNED)
    dropout = 0.1 if name.endswith(DROPOUT) else 0.0
    shape = resolve(backbones, spec.backbone).options
    config = GPT2Config(
        vocab_size=len(ours.task.vocab),
        n_positions=256,
        n_embd=shape["width"],
        n_layer=shape["layers"],
        n_head=shape["heads"],
        activation_function="gelu" if name.endswith(GELU) else "gelu_new",
        resid_pdrop=dropout,
        embd_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=None,
        eos_token_id=None,
    )
    attention = "eager" if tuned else "sdpa"
    model: Any = AutoModelForCausalLM.from_config(config, attn_implementation=attention)  # type: ignore[no-untyped-call]
    model.loss_type = "ForCausalLM"  # what it falls back to anyway, but with a warning
    optimiser = torch.optim.AdamW(model.parameters(), lr=spec.lr, weight_decay=spec.weight_decay, fused=True)

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        if not tuned:
            labels = tokens.clone()
            labels[:, : layout.first] = -100
            total: torch.Tensor = model(input_ids=tokens, labels=labels).loss
            return total
        with autocast(spec):
            out = model(input_ids=tokens[:, :-1], use_cache=False, logits_to_keep=layout.width)
        return functional.cross_entropy(out.logits.flatten(0, 1).float(), tokens[:, layout.first :].flatten())

    def step() -> None:
        tokens = batch_of(ours.data, ours.task, spec, next(steps)).tokens
        optimiser.zero_grad()
        loss(tokens).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), spec.clip, foreach=True)
        optimiser.step()

    return step


def serve(name: str, quick: bool) -> None:
    """Answers each number of calls on standard input with the seconds that they took."""
    spec = run_spec(quick)
    if KEPT in name or name in (OURS, MATRIX):
        keep_large_blocks()
    products: dict[str, tuple[Callable[[], object], int]] = {}
    if name == MATRIX:
        ours = TrainingStep(spec)
        products = matrix_products(spec, tokens_read(ours.batch()), ours.objective.backbone.width)
        works = {shape: work for shape, (work, _) in products.items()}
    else:
        works = {name: TrainingStep(spec) if name == OURS else library_step(spec, name)}
    for line in sys.stdin:
        calls = int(line)
        # Matrix products are far shorter than training steps: more of them make up a burst.
        times = 1 if name != MATRIX else 10
        # Caches and pages went cold while the others had their turn; training never waits, so one call is not counted.
        for work in works.values():
            work()
        seconds = {each: seconds_of(work, spec.device, calls * times) / (calls * times) for each, work in works.items()}
        rates = {shape: operations / seconds[shape] for shape, (_, operations) in products.items()}
        print(json.dumps(rates or {name: seconds[name]}), flush=True)


# In the parent --------------------------------------------------------------------------------------------------------


class Contender:
    """A process that trains when told to."""

    def __init__(self, name: str, quick: bool) -> None:
        command = [sys.executable, __file__, "--contender", name, *(["--quick"] if quick else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.calls = 1

    def run(self) -> dict[str, float]:
        """Seconds a step, or for matrix products operations a second by shape, over one burst."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{self.calls}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"a contender ended early, with status {self.process.wait()}")
        result: dict[str, float] = json.loads(answer)
        return result

    def close(self) -> None:
        """Ends the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def measure(quick: bool, rounds: int, burst: float) -> dict[str, list[dict[str, float]]]:
    """What every contender answered in every round."""
    contenders = {name: Contender(name, quick) for name in CONTENDERS}
    answers: dict[str, list[dict[str, float]]] = {name: [] for name in CONTENDERS}
    for name, contender in contenders.items():
        contender.run()
        seconds = contender.run()
        contender.calls = 1 if quick else 3 if name == MATRIX else max(1, round(burst / seconds[name]))
    for _ in range(rounds):
        for name, contender in contenders.items():
            answers[name].append(contender.run())
    for contender in contenders.values():
        contender.close()
    return answers


def main() -> None:
    """Lets the contenders take turns, and compares."""
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--burst", type=float, default=4.0, help="seconds of training a turn")
    options.add_argument("--contender", choices=CONTENDERS, help="used by the script itself")
    arguments = options.parse_args()
    if arguments.contender:
        serve(arguments.contender, arguments.quick)
        return
    rounds = 1 if arguments.quick else arguments.rounds
    answers = measure(arguments.quick, rounds, arguments.burst)
    spec = run_spec(arguments.quick)
    rates = {name: [spec.batch / answer[name] for answer in answers[name]] for name in CONTENDERS if name != MATRIX}
    median = {name: statistics.median(each) for name, each in rates.items()}
    shapes = {shape: statistics.median(answer[shape] for answer in answers[MATRIX]) for shape in answers[MATRIX][0]}
    ours = TrainingStep(spec)
    model_flops = ours.flops() / spec.batch * median[OURS]
    share = model_flops / max(shapes.values())
    targets = [
        Target("times the library with its defaults", median[OURS] / median[DEFAULT], least=6.0),
        Target("times the library tuned", median[OURS] / median[TUNED], least=1.25),
        Target("share of the matrix-product rate", share, least=0.6),
    ]
    measured: dict[str, Any] = {
        "spec": {"task": spec.task, "backbone": spec.backbone, "batch": spec.batch, "precision": spec.precision},
        "examples_a_second": {name: {"value": median[name], "rounds": each} for name, each in rates.items()},
        "model_flops": model_flops, "matrix_products": shapes, "share": share,
        "environment": environment(), "load": os.getloadavg(),
    }  # fmt: skip
    lines = [f"{'examples a second':40}{'median':>10}{'slowest to quickest':>24}{'foresee / this':>18}"]
    lines += [
        f"{name:40}{median[name]:10,.0f}{f'{min(each):,.0f} to {max(each):,.0f}':>24}"
        f"{median[OURS] / median[name]:18.2f}"
        for name, each in rates.items()
    ]
    lines += [f"matrix product {shape}: {rate / 1e9:,.0f} GFLOP/s" for shape, rate in shapes.items()]
    lines.append(f"foresee: {model_flops / 1e9:,.0f} GFLOP/s, counted as 6 x parameters in matrix products x tokens")
    write(arguments.json, measured, lines, targets)


if __name__ == "__main__":
    main()
