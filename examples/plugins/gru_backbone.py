"""A GRU (Cho et al. 2014) as a backbone: the five methods that any sequence model needs to train and decode.

    foresee train path-star --objective reversed --backbone gru --plugin examples/plugins/gru_backbone.py

That it cannot look ahead, or be given a mask or positions, is measured when it is built: objectives that need those are
refused. So are those that stack layers of its kind (``multi-token``), since it does not say what one would be.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Attend, Backbone, backbones
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary


@backbones.register("gru")
class Gru(Backbone):
    """Options: ``layers``; ``width``. One table embeds and scores."""

    summary = "a GRU from five methods: an example of a backbone plug-in"

    def __init__(self, vocab: Vocabulary, generator: torch.Generator, *, layers: int = 2, width: int = 128) -> None:
        super().__init__()
        self.vocab_size, self.width = len(vocab), width
        self.table = nn.Embedding(len(vocab), width)
        self.cells = nn.GRU(width, width, layers, batch_first=True)
        for parameter in self.parameters():
            parameter.detach().normal_(0.0, width**-0.5, generator=generator)

    def embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.table(tokens)
        return embedded

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        if isinstance(attend, Tensor) or attend == "full" or positions is not None:
            raise RequestError("gru: it only reads what came before, in order; leave attend and positions out")
        states: Tensor = self.cells(x)[0]
        return states if keep is None else states[:, keep]

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.table.weight)

    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, Tensor]:
        states, memory = self.cells(x)
        return states[:, -1], memory

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        states, memory = self.cells(x[:, None], state)
        return states[:, 0], memory
