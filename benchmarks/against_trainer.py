"""Fine-tuning a checkpoint beside the transformers library's own ``Trainer``, in one run.

    python benchmarks/against_trainer.py [--backbone hf:smollm2] [--task path-star:...]

The same checkpoint, batches, precision (bf16 autocast where ours is), loss on the answer tokens (the Trainer's by
labels of -100 on the prompt), clipping and fused AdamW. Each is a process of its own, in turn, on one thread; the first
step is not counted. Examples are counted by the second of processor time, so that other work on the machine does not
decide; the peak is the process's largest resident size.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from typing import Any

import torch
from common import Target, parser, write

from foresee.core.isolation import keep_large_blocks
from foresee.experiments.bench import TrainingStep
from foresee.training.process import environment
from foresee.training.settings import Settings

TASK = "path-star:degree=2,length=5,nodes=50,goals=all,labels=words"
OURS, THEIRS = "foresee", "Trainer"
LEAST_RATIO = 1.2


def run_spec(given: Any) -> Settings:
    """Of our own contender; its batches serve both."""
    return Settings.of(
        given.task, "next-token", given.backbone, batch=given.batch, data="fresh", lr=1e-5, warmup=0, device="cpu"
    )


def train_ours(spec: Settings, steps: int) -> list[float]:
    """Seconds of processor time of each step."""
    keep_large_blocks()
    step = TrainingStep(spec)
    return [seconds_of(step) for _ in range(steps)]


def seconds_of(work: Any) -> float:
    """Of processor time."""
    began = time.process_time()
    work()
    return time.process_time() - began


def train_theirs(spec: Settings, steps: int) -> list[float]:
    """The same of the Trainer's steps, from the end of one to the end of the next."""
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

    ours = TrainingStep(spec)
    ids, first = torch.tensor(ours.objective.backbone.counterpart_ids()), ours.batch().layout.first
    tokens = torch.cat([ids[ours.batch().tokens] for _ in range(steps)])
    labels = tokens.masked_fill(torch.arange(tokens.shape[1]) < first, -100)
    rows = [{"input_ids": row, "labels": wanted} for row, wanted in zip(tokens, labels, strict=True)]
    backbone: Any = ours.objective.backbone
    auto: Any = AutoModelForCausalLM
    model = auto.from_pretrained(backbone.folder, dtype=torch.float32)
    del ours, backbone
    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *given: Any, **named: Any) -> None:
            ends.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, per_device_train_batch_size=spec.batch, max_steps=steps, learning_rate=spec.lr,
            weight_decay=spec.weight_decay, max_grad_norm=spec.clip, optim="adamw_torch_fused", use_cpu=True,
            bf16=spec.precision == "bf16", report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True,
            lr_scheduler_type="constant",
        )  # fmt: skip
        began = time.process_time()
        Trainer(model, arguments, train_dataset=rows, callbacks=[Clock()]).train()  # type: ignore[arg-type]
    return [end - start for start, end in zip([began, *ends], ends, strict=False)]


def tiny_checkpoint(folder: str) -> str:
    """Makes one of fresh weights for ``--quick``."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=None, eos_token_id=None)
    GPT2LMHeadModel(config).save_pretrained(folder)
    return f"hf:{folder},symbols=first"


def measure(given: Any, name: str) -> dict[str, float]:
    """Examples a second and the peak of one contender, in a process of its own."""
    own = ["--contender", name, "--task", given.task, "--backbone", given.backbone]
    command = [sys.executable, __file__, *own, "--batch", str(given.batch), "--steps", str(given.steps)]
    environ = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environ)
    measured = json.loads(done.stdout.splitlines()[-1])
    counted = measured["seconds"][1:]
    return {"examples a second": given.batch * len(counted) / sum(counted), "peak GiB": measured["peak"] / 2**30}


def main() -> None:
    """Lets both train, and compares."""
    options = parser(__doc__)
    options.add_argument("--backbone", default="hf:smollm2")
    options.add_argument("--task", default=TASK)
    options.add_argument("--batch", type=int, default=16)
    options.add_argument("--steps", type=int, default=4)
    options.add_argument("--contender", choices=(OURS, THEIRS), help="used by the script itself")
    given = options.parse_args()
    if given.contender:
        torch.set_num_threads(1)
        seconds = (train_ours if given.contender == OURS else train_theirs)(run_spec(given), given.steps)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
        print(json.dumps({"seconds": seconds, "peak": peak}))
        return
    with tempfile.TemporaryDirectory() as folder:
        if given.quick:
            given.task, given.backbone = TASK.removesuffix(",labels=words"), tiny_checkpoint(folder)
        found = {name: measure(given, name) for name in (OURS, THEIRS)}
    ratio = found[OURS]["examples a second"] / found[THEIRS]["examples a second"]
    memory = found[OURS]["peak GiB"] / found[THEIRS]["peak GiB"]
    targets = [
        Target("examples a second of processor time, over the Trainer's", ratio, least=LEAST_RATIO),
        Target("peak memory, over the Trainer's", memory, most=1.0),
    ]
    lines = [
        f"{name}: {each['examples a second']:.2f} examples a second, peak {each['peak GiB']:.2f} GiB"
        for name, each in found.items()
    ]
    write(given.json, {"contenders": found, "environment": environment()}, lines, targets)


if __name__ == "__main__":
    main()
