"""An objective in one file: teacher forcing with some of the revealed answer hidden.

    foresee train path-star:degree=2,length=5,nodes=50 --objective word-dropout --plugin examples/word_dropout.py

Each answer token that the model is shown in training is replaced by the dummy ``$`` with probability ``share``; the
targets stay, and decoding is greedy as for next-token. Sources: Bowman et al. 2016 ("Generating sentences from a
continuous space", word dropout on the decoder's input); Frydenlund 2025 studies it on path-star as token masking.
"""

from __future__ import annotations

import torch

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import LossOut, objectives
from foresee.objectives.next_token import NextToken, answer_loss, teacher_forced

DUMMY = "$"


@objectives.register("word-dropout")
class WordDropout(NextToken):
    """Options: ``share`` of shown answer tokens that are hidden, 0 (next-token) to 1 (teacherless with next-token's
    decoding). ``generate`` and ``forced`` are next-token's: nothing is hidden after training."""

    summary = "teacher forcing with a random share of the shown answer tokens hidden"
    symbols = (DUMMY,)

    def __init__(
        self, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator, *, share: float = 0.5
    ) -> None:
        super().__init__(backbone, vocab, generator)
        if not 0.0 <= share <= 1.0:
            raise RequestError(f"word-dropout: share={share} must be a share from 0 to 1")
        self.share = share
        self.dummy = vocab.token(DUMMY)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """Mean cross entropy of the answer tokens, in nats; the input is hidden, never the target."""
        draws = torch.rand(batch.tokens.shape, generator=rng, device=rng.device).to(batch.tokens.device)
        shown = batch.tokens.masked_fill(batch.in_answer() & (draws < self.share), self.dummy)
        return answer_loss(teacher_forced(self.backbone, shown, batch), batch, "word-dropout")
