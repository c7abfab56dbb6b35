"""Training on rows that differ in length beside training on rows of one length, at equal token counts.

    python benchmarks/variable_lengths.py

Next-token with gpt-nano: on G(2,5), 32 tokens a row, and on the mixed lengths G(2,2) to G(2,8), 11 to 53 tokens a row
and 32 in the mean. A third contender trains on the mixed lengths in random order, without putting rows of like length
into a batch. Rates are of the tokens that rows hold, without padding; each turn is a whole window of batches, so that
it sees every length.
"""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Callable

import torch
from common import Target, parser, write

from foresee.core.batch import Batch
from foresee.core.isolation import keep_large_blocks
from foresee.core.seeds import stream
from foresee.experiments.bench import TrainingStep, interleaved, tokens_read
from foresee.training.data import WINDOW, FixedData
from foresee.training.loop import train_steps
from foresee.training.settings import Settings

FIXED = "path-star:degree=2,length=5,nodes=50,goals=one"
MIXED = "path-star:degree=2,length=8,nodes=50,goals=one,sizes=mixed"
LEAST_RATIO = 0.85


class Contender:
    """A window of training steps, the same batches at every call."""

    def __init__(self, task: str, batch: int, backbone: str, device: str) -> None:
        spec = Settings.of(task, "next-token", backbone, batch=batch, data=f"fixed:{WINDOW * batch}", device=device)
        self.training = TrainingStep(spec)
        self.batches = [self.training.data.batch_at(step, batch).to(spec.device) for step in range(WINDOW)]

    def shuffled(self) -> Contender:
        """Takes the same rows in random order instead."""
        data, size = self.training.data, self.training.spec.batch
        assert isinstance(data, FixedData)
        order = torch.from_numpy(stream("bench variable lengths").permutation(len(data)))
        self.batches = [data.batch.rows(order[at : at + size]).trimmed() for at in range(0, len(data), size)]
        return self

    def __call__(self) -> None:
        held = dataclasses.replace(self.training.training, data=self)
        train_steps(held, held.position.step + len(self.batches))

    def batch_at(self, step: int, size: int) -> Batch:
        """As training data: the batches in turn."""
        return self.batches[step % len(self.batches)]

    def tokens(self) -> int:
        """Tokens read in a call, padding left out."""
        return sum(map(tokens_read, self.batches))

    def padding(self) -> float:
        """The share of positions read that hold padding."""
        return 1 - self.tokens() / sum(len(batch) * (batch.layout.last - 1) for batch in self.batches)


def main() -> None:
    """Measures all three."""
    options = parser(__doc__)
    options.add_argument("--backbone", default="gpt-nano")
    options.add_argument("--batch", type=int, default=256)
    options.add_argument("--device", default="auto")
    options.add_argument("--rounds", type=int, default=9)
    arguments = options.parse_args()
    keep_large_blocks()
    batch, rounds = (16, 1) if arguments.quick else (arguments.batch, arguments.rounds)

    def contender(task: str) -> Contender:
        return Contender(task, batch, arguments.backbone, arguments.device)

    contenders = {"fixed": contender(FIXED), "mixed": contender(MIXED), "mixed, any order": contender(MIXED).shuffled()}
    works: dict[str, Callable[[], object]] = dict(contenders)
    seconds = interleaved(works, contenders["fixed"].training.spec.device, rounds, burst=0.0)
    rates = {name: [each.tokens() / taken for taken in seconds[name]] for name, each in contenders.items()}
    ratios = {
        name: [own / fixed for own, fixed in zip(rates[name], rates["fixed"], strict=True)]
        for name in contenders
        if name != "fixed"
    }
    lines = [
        f"{name}: {statistics.median(rates[name]):,.0f} tokens a second "
        f"({min(rates[name]):,.0f} to {max(rates[name]):,.0f}), {each.tokens() / WINDOW / batch:.1f} tokens a row, "
        f"{each.padding():.1%} padding"
        for name, each in contenders.items()
    ]
    lines += [
        f"{name} beside fixed: {statistics.median(each):.3f} ({min(each):.3f} to {max(each):.3f} by round)"
        for name, each in ratios.items()
    ]
    spec = contenders["fixed"].training.spec
    measured = {
        "backbone": spec.backbone, "batch": batch, "device": spec.device, "precision": spec.precision,
        "tokens_a_second": rates, "ratios": ratios,
        "padding": {name: each.padding() for name, each in contenders.items()},
    }  # fmt: skip
    target = Target("mixed against fixed lengths, tokens a second", statistics.median(ratios["mixed"]), LEAST_RATIO)
    write(arguments.json, measured, lines, [target])


if __name__ == "__main__":
    main()
