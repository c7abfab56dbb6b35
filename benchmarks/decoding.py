"""Greedy evaluation of 20,000 G(5,5) examples: prompts read once, against the whole sequence read anew for each token.

    python benchmarks/decoding.py [--backbone SPEC]

Both go through the examples in the same chunks, in the precision that training would choose, and compute the output
head at the last position alone. The weights are untrained: speed does not depend on them. The two ways take turns.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from common import Target, parser, write
from torch import Tensor

from foresee.backbones.base import Backbone
from foresee.core.isolation import keep_large_blocks
from foresee.experiments.bench import interleaved, recomputing
from foresee.metrics.base import Subject
from foresee.metrics.passes import split_chunks
from foresee.objectives.decoding import decode_greedily
from foresee.training.data import draw
from foresee.training.optimizer import autocast
from foresee.training.settings import Settings

LEAST_RATIO = 4.0


def main() -> None:
    """Measures both ways, and compares what they write."""
    options = parser(__doc__)
    options.add_argument("--backbone", default="gpt-nano")
    arguments = options.parse_args()
    keep_large_blocks()
    examples, rounds = (64, 1) if arguments.quick else (20_000, 3)
    spec = Settings.of("path-star:degree=5,length=5,nodes=50,goals=one", "next-token", arguments.backbone, device="cpu")
    task = spec.build_task()
    backbone = spec.build_objective(task).backbone.eval()
    batch = draw(task, spec.task, "test", examples, 0)
    written: dict[str, Tensor] = {}

    def evaluation(name: str, decode: Callable[[Backbone, Tensor, int], Tensor]) -> Callable[[], None]:
        def run() -> None:
            with torch.inference_mode(), autocast(spec):
                chunks = split_chunks(batch, Subject.chunk)
                written[name] = torch.cat([decode(backbone, chunk.prompts, task.answer_length) for chunk in chunks])

        return run

    works = {"cached": evaluation("cached", decode_greedily), "recomputed": evaluation("recomputed", recomputing)}
    seconds = interleaved(works, "cpu", rounds, burst=0.0)
    ratios = [slow / quick for quick, slow in zip(seconds["cached"], seconds["recomputed"], strict=True)]
    same = float((written["cached"] == written["recomputed"]).float().mean())
    lines = [
        f"{name}: {statistics.median(each):.2f} s ({min(each):.2f} to {max(each):.2f}), "
        f"{examples / statistics.median(each):,.0f} examples a second"
        for name, each in seconds.items()
    ]
    lines.append(f"ratio by round: {', '.join(f'{ratio:.2f}' for ratio in ratios)}; same tokens: {same:.4f}")
    measured = {
        "examples": examples, "chunk": Subject.chunk, "backbone": spec.backbone, "precision": spec.precision,
        "threads": torch.get_num_threads(), "seconds": seconds, "same_tokens": same,
    }  # fmt: skip
    target = Target("cached against recomputed", statistics.median(ratios), least=LEAST_RATIO)
    write(arguments.json, measured, lines, [target])


if __name__ == "__main__":
    main()
