"""Memory that training takes: the arithmetic beside what two training steps were measured to take.

    python benchmarks/training_memory.py                       # an untrained GPT-2 Large (774 M parameters)
    python benchmarks/training_memory.py --backbone hf:PATH    # any backbone

Without --backbone a folder with GPT-2 Large's configuration is made in a temporary place, and weights are drawn
(``random=true``), so nothing is downloaded: memory does not depend on the weights' values. On a CPU the peak is the
process's largest resident size, interpreter and libraries included (about 0.5 GB); on a GPU it is the allocator's peak.
"""

from __future__ import annotations

import resource
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import Target, parser, write

from foresee.experiments.bench import TrainingStep
from foresee.training.settings import Settings

TASK = "path-star:degree=2,length=5,nodes=50,goals=one"
GIB = 2**30


def gpt2_large(folder: Path, quick: bool) -> str:
    """A folder with the configuration alone, as a backbone of fresh weights."""
    from transformers import GPT2Config

    sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4} if quick else {"n_embd": 1280, "n_layer": 36, "n_head": 20}
    GPT2Config(architectures=["GPT2LMHeadModel"], **sizes).save_pretrained(folder)
    return f"hf:{folder},random=true,symbols=first"


def main() -> None:
    """Prints the arithmetic and the measurement."""
    arguments = parser(__doc__)
    arguments.add_argument("--backbone", help="a backbone's spec; GPT-2 Large with fresh weights by default")
    arguments.add_argument("--batch", type=int, default=16)
    arguments.add_argument("--accumulate", type=int, default=1)
    arguments.add_argument("--keep-activations", action="store_true", help="without --recompute")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        backbone = given.backbone or gpt2_large(Path(folder), given.quick)
        spec = Settings.of(
            TASK, "next-token", backbone, batch=given.batch, accumulate=given.accumulate, data="fixed:1000", lr=1e-5,
            recompute=not given.keep_activations,
        )  # fmt: skip
        step = TrainingStep(spec)
        for _ in range(2):
            step()
    parameters = list(step.objective.parameters())
    trained = sum(each.numel() for each in parameters if each.requires_grad)
    held = sum(each.numel() * each.element_size() for each in parameters)
    cuda = spec.device == "cuda"
    # Linux counts in KiB.
    peak = torch.cuda.max_memory_allocated() if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found: dict[str, Any] = {
        "backbone": "GPT-2 Large, fresh weights" if given.backbone is None else backbone,
        "batch": given.batch, "accumulate": given.accumulate, "recompute": spec.recompute, "precision": spec.precision,
        "parameters": sum(each.numel() for each in parameters), "trained": trained,
        "weights_gib": held / GIB, "gradients_gib": 4 * trained / GIB, "moments_gib": 8 * trained / GIB,
        "peak_gib": peak / GIB, "device": spec.device,
    }  # fmt: skip
    moments = f"AdamW's two moments {8 * trained / GIB:.1f}"
    fixed = f"weights {held / GIB:.1f} GiB + gradients {4 * trained / GIB:.1f} + {moments}"
    lines = [
        f"{found['backbone']}: {found['parameters']:,} parameters, {trained:,} of them trained",
        f"{fixed} = {(held + 12 * trained) / GIB:.1f} GiB before activations",
        f"peak of two steps on {spec.device}: {found['peak_gib']:.1f} GiB (batch {given.batch} in {given.accumulate})",
    ]
    write(given.json, found, lines, [Target("peak in GiB", found["peak_gib"], most=24.0)])


if __name__ == "__main__":
    main()
