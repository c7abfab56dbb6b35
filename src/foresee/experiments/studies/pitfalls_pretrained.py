"""A pretrained network fails as one from scratch does.

Published (Bachmann & Nagarajan 2024, Table 2): GPT2-Large stays at 1/d like all other models [DIG, ranges alone].

Paper: hf:gpt2-large (774 million parameters), learning rate 1e-5, batch 16, 100 epochs [SEM, NTF]; its weights must be
in the local cache of the Hugging Face hub or be fetched there. Laptop: a small checkpoint of yours, named with
``pitfalls-pretrained:checkpoint=FOLDER``; without one the study is refused, since there is none that comes with this
package. Learning rate 1e-4 there, after trials with none: change it in a run of your own.

Agreement: the published range meets each seed's 95 % interval. Cost: depends on the checkpoint; not measured, on no
hardware.
"""

from __future__ import annotations

from typing import ClassVar

from foresee.core.errors import RequestError
from foresee.experiments.studies.agreement import WithinInterval
from foresee.experiments.studies.base import Cell, Scale, Study, over_seeds, studies
from foresee.experiments.studies.budgets import G_2_5, PITFALLS
from foresee.experiments.studies.pitfalls_next_token import EXACT

GPT2_LARGE = "gpt2-large"


@studies.register("pitfalls-pretrained")
class PitfallsPretrained(Study):
    """``exact`` of next-token fine-tuning. Options: ``checkpoint``, a folder or hub id (paper scale: gpt2-large unless
    given; laptop scale needs one)."""

    summary = "next-token fine-tuning of a pretrained checkpoint"
    question = "Does pretraining help next-token training to choose the arm?"
    hardware = "not measured"
    cost: ClassVar[dict[Scale, str]] = {
        "laptop": "depends on the checkpoint; not measured",
        "paper": "not measured; 1,250,000 steps of batch 16 a run of a network of 774 million parameters: for a GPU",
    }

    def __init__(self, *, checkpoint: str = "none") -> None:
        self.checkpoint = None if checkpoint == "none" else checkpoint

    def cells(self, scale: Scale) -> list[Cell]:
        checkpoint = self.checkpoint or (GPT2_LARGE if scale == "paper" else None)
        if checkpoint is None:
            raise RequestError(
                "study pitfalls-pretrained needs a checkpoint at laptop scale: name a small causal language model's "
                "folder, as in pitfalls-pretrained:checkpoint=FOLDER"
            )
        backbone = f"hf:path={checkpoint}"
        if scale == "paper":
            return [
                Cell(
                    graph=graph.name, label="next-token, pretrained",
                    specs=over_seeds(
                        1, graph.task(), "next-token", backbone, steps=100 * 200_000 // 16, batch=16, lr=1e-5,
                        weight_decay=0.0, eval_every=12_500, until_solved=True,
                    ),
                    published=EXACT[graph.degree], rule=WithinInterval(),
                )
                for graph in PITFALLS
            ]  # fmt: skip
        specs = over_seeds(3, G_2_5.task(), "next-token", backbone, steps=2000, batch=64, lr=1e-4, test=5000,
                           until_solved=True)  # fmt: skip
        return [
            Cell(graph=G_2_5.name, label="next-token, pretrained", specs=specs, published=EXACT[2],
                 rule=WithinInterval())
        ]  # fmt: skip
