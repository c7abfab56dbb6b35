"""What the ``hf:`` backbone costs over the transformers library's GPT-2 called by hand.

    python benchmarks/hf_adapter.py [--layers 6 --width 384 --batch 64]

Both train the same architecture from fresh weights on the same G(2,5) batches: fetch the batch, read embeddings of the
task's rows (``inputs_embeds``), score the answer positions on those rows, loss, backward pass, clipping, fused AdamW in
two groups; the same autocast and the same default attention. One is a training step as ``foresee train`` runs it, the
other is written out here without foresee's backbone, objective and loop. They take turns.
"""

from __future__ import annotations

import itertools
import os
import statistics
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from common import Target, parser, write
from torch.nn import functional

from foresee.core.isolation import keep_large_blocks
from foresee.experiments.bench import TrainingStep, interleaved
from foresee.training.examples import batch_of
from foresee.training.optimizer import autocast
from foresee.training.process import environment
from foresee.training.settings import Settings

TASK = "path-star:degree=2,length=5,nodes=50,goals=one"
MOST_RATIO = 1.05
ADAPTER, BY_HAND = "hf backbone", "by hand"


def by_hand(spec: Settings, config: Any) -> Callable[[], None]:
    """One training step of the library's model a call."""
    from transformers import AutoModelForCausalLM

    ours = TrainingStep(spec)  # for its batches alone
    steps = itertools.count()
    auto: Any = AutoModelForCausalLM
    model = auto.from_config(config, dtype=torch.float32).transformer
    table = torch.nn.Parameter(model.wte.weight[: len(ours.task.vocab)].detach().clone())
    model.wte = None
    parameters = [table, *model.parameters()]
    groups = [
        {"params": [each for each in parameters[1:] if each.dim() >= 2], "weight_decay": spec.weight_decay},
        {"params": [table, *(each for each in parameters if each.dim() < 2)], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(groups, lr=spec.lr, betas=(0.9, spec.beta2), fused=True)
    first = ours.batch().layout.first

    def step() -> None:
        tokens = batch_of(ours.data, ours.task, spec, next(steps)).tokens
        with autocast(spec):
            embedded = functional.embedding(tokens[:, :-1], table)
            hidden = model(inputs_embeds=embedded, use_cache=False).last_hidden_state
            logits = functional.linear(hidden[:, first - 1 :], table)
            loss = functional.cross_entropy(logits.flatten(0, 1).float(), tokens[:, first:].flatten())
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, spec.clip, foreach=True)
        optimiser.step()

    return step


def main() -> None:
    """Lets the two take turns, and compares."""
    from transformers import GPT2Config

    options = parser(__doc__)
    options.add_argument("--layers", type=int, default=6)
    options.add_argument("--width", type=int, default=384)
    options.add_argument("--batch", type=int, default=64)
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--burst", type=float, default=2.0, help="seconds of training a turn")
    arguments = options.parse_args()
    if arguments.quick:
        arguments.layers, arguments.width, arguments.batch, arguments.rounds, arguments.burst = 1, 32, 8, 1, 0.0
    keep_large_blocks()
    config = GPT2Config(
        n_layer=arguments.layers, n_embd=arguments.width, n_head=max(1, arguments.width // 64),
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        spec = Settings.of(
            TASK, "next-token", f"hf:{folder},random=true,symbols=first", batch=arguments.batch, device="cpu",
            data=f"fixed:{256 if arguments.quick else 20_000}",
        )  # fmt: skip
        works: dict[str, Callable[[], object]] = {ADAPTER: TrainingStep(spec), BY_HAND: by_hand(spec, config)}
        seconds = interleaved(works, "cpu", arguments.rounds, arguments.burst)
    ratios = [ours / theirs for ours, theirs in zip(seconds[ADAPTER], seconds[BY_HAND], strict=True)]
    lines = [
        f"{name}: {statistics.median(each):.4f} s a step ({min(each):.4f} to {max(each):.4f})"
        for name, each in seconds.items()
    ]
    lines.append(f"ratio by round: {', '.join(f'{ratio:.3f}' for ratio in ratios)}")
    measured = {
        "task": TASK, "layers": arguments.layers, "width": arguments.width, "batch": arguments.batch,
        "precision": spec.precision, "threads": torch.get_num_threads(), "seconds": seconds, "ratios": ratios,
        "environment": environment(), "load": os.getloadavg(),
    }  # fmt: skip
    target = Target("hf backbone against the model called by hand", statistics.median(ratios), most=MOST_RATIO)
    write(arguments.json, measured, lines, [target])


if __name__ == "__main__":
    main()
