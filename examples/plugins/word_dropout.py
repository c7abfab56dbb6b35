r"""An objective in one file: teacher forcing with some of the answer's inputs masked.

    foresee train path-star:degree=2,length=5,nodes=50 --objective word-dropout \
        --plugin examples/plugins/word_dropout.py

Each answer token that the model reads in training is replaced by the dummy ``$`` with probability ``share``; the
targets stay, and decoding is greedy as for next-token. A token whose predecessor is masked cannot be looked up from it:
its loss counts ``emphasis`` times.

Sources: Bowman et al. 2016 ("Generating sentences from a continuous space", word dropout on the decoder's input);
Frydenlund 2025 studies it on path-star as token masking. The emphasis is this example's own.
"""

from __future__ import annotations

from typing import Annotated

import torch

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.bounds import Bounds
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import LossOut, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import answer_logits, answer_loss

DUMMY = "$"


@objectives.register("word-dropout")
class WordDropout(NextToken):
    """``generate`` and ``forced`` are next-token's: nothing is masked after training.

    Options:
        share: of answer inputs that are masked, 0 (next-token) to 1 (teacherless with next-token's decoding)
        emphasis: weight of the loss of a token whose predecessor is masked
    """

    summary = "teacher forcing with a random share of the answer's inputs masked"
    symbols = (DUMMY,)

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        share: Annotated[float, Bounds(0, 1)] = 0.5,
        emphasis: Annotated[float, Bounds(above=0)] = 1.0,
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.share, self.emphasis = share, emphasis
        self.dummy = vocab.token(DUMMY)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """Mean cross entropy of the answer tokens, in nats; inputs are masked, never targets."""
        draws = torch.rand(batch.tokens.shape, generator=rng, device=rng.device).to(batch.tokens.device)
        masked = batch.in_answer() & (draws < self.share)
        logits = answer_logits(self.backbone, batch.tokens.masked_fill(masked, self.dummy), batch)
        # Answer column i is predicted from the column before it.
        before = masked[:, batch.layout.first - 1 : batch.layout.last - 1]
        return answer_loss(logits, batch, "word-dropout", weights=1 + (self.emphasis - 1) * before)
