"""Joint multi-token prediction: one state must predict several tokens, the earlier of them given (JTP).

A small attention (*fetch*) reads one state and the tokens revealed after it, never the prompt. So the state itself must
hold whatever any continuation needs.

Family: several tokens in advance.
Source: Ahn, Lamb & Langford 2025, arXiv 2503.21801, as the NextLat repository builds it.
Loss: position t has slots ``s_k = norm(e(x_{t+k}) + gamma h_t)``, k = 0 to ``horizon``, with one learned gamma. One
causal self-attention over them (no MLP, a learned bias for each head and pair of slots) gives f_k; ``softmax(U
norm(f_0))`` predicts x_{t+1}, ``softmax(U norm(f_k + h_t))`` predicts x_{t+1+k}. Slot 0's loss plus ``weight`` times
the mean of the further slots', each summed over pairs (t, k) with x_{t+1+k} in the answer and divided by the batch's
answer tokens.
Decoding: one token at a time by slot 0, at a small cost beside next-token's.
Dropped: the further slots.
Deviations: the paper trains on all tokens of text. The repository fills slots beyond the sequence with token 0; here
they are padded, and no slot with a target reads them. Norms are layer norms, the last one separate from the backbone's.
Biases of slots start at 0, gamma at 0.1 as in the repository.
Drawing, horizon=2:
    fed         p1 p2 p3 a1 a2 a3
    next token  . . a1 a2 a3 a4
    ~slot 1     . a1 a2 a3 a4 .
    +           . p3 a1 a2 a3 .
    ~slot 2     a1 a2 a3 a4 . .
    +           p2,p3 p3,a1 a1,a2 a2,a3 . .
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, Objective, draw_weights, objectives
from foresee.objectives.decoding import choose_at, decode
from foresee.objectives.teacher_forcing import answer_log_probs, answer_loss, answer_states, further_loss, states_from

INIT_GAMMA = 0.1


@objectives.register("joint-multi-token")
class JointMultiToken(Objective):
    """Defaults: the NextLat paper's star graphs have the answer's length less 2 as horizon; the rest is its
    repository's.

    Options:
        horizon: how many tokens are predicted after the next one
        heads: of the attention over slots; must divide the backbone's width
        weight: of the further slots' mean loss beside next-token's
    """

    summary = "one hidden state predicts several tokens, each given the ones before it (JTP)"
    batchable = True
    recordable = True
    backbone_alone = False

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        horizon: Annotated[int, Bounds(1)] = 3,
        heads: int = 4,
        weight: Annotated[float, Bounds(above=0)] = 1.0,
    ) -> None:
        super().__init__(backbone, vocab, generator)
        if heads < 1 or backbone.width % heads:
            raise RequestError(f"joint-multi-token: heads={heads} must divide the backbone's width, {backbone.width}")
        self.horizon, self.weight = horizon, weight
        self.fetch = Fetch(backbone.width, horizon + 1, heads, generator)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        start = max(0, first - 1 - self.horizon)  # the first position that has a target in the answer
        states = states_from(start, self.backbone, batch.tokens, batch)
        embedded = self.backbone.embed(batch.tokens[:, start : last - 1])
        slots: Tensor = self.fetch(states, reveal(embedded, self.horizon))

        out = answer_loss(self.backbone.logits(slots[:, first - 1 - start :, 0]), batch, "next-token")
        further = {f"slot-{slot}": out.total.new_zeros(()) for slot in range(1, self.horizon + 1)}
        for slot in range(1, self.horizon + 1):
            column, before = max(first, slot + 1), slot + 1 + start
            if column < last:
                logits = self.backbone.logits(slots[:, column - before : last - before, slot])
                further[f"slot-{slot}"] = self.weight / self.horizon * further_loss(logits, batch)
        return out.plus(further)

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return decode(self.backbone, self.backbone.embed(prompt), n, score=self._score)

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return decode(self.backbone, self.backbone.embed(prompt), n, choose_at(temperature, rng), score=self._score)

    def forced(self, batch: Batch) -> Tensor:
        first, last = batch.layout.first, batch.layout.last
        states = answer_states(self.backbone, batch.tokens, batch)
        return answer_log_probs(self._score(states, self.backbone.embed(batch.tokens[:, first - 1 : last - 1])), batch)

    def _score(self, states: Tensor, embedded: Tensor) -> Tensor:
        """Final states and embeddings of the tokens read there [..., D] -> logits of the next token [..., V]."""
        return self.backbone.logits(self.fetch.compute_first(states, embedded))


def reveal(embedded: Tensor, horizon: int) -> Tensor:
    """[B, T, D] -> [B, T, horizon + 1, D]: the embeddings at each position and ``horizon`` later ones, zeros beyond."""
    return functional.pad(embedded, (0, 0, 0, horizon)).unfold(1, horizon + 1, 1).transpose(-1, -2)


class Fetch(nn.Module):
    """Causal self-attention over the slots of each position."""

    undecayed = frozenset({"bias_table"})

    def __init__(self, width: int, slots: int, heads: int, generator: torch.Generator) -> None:
        super().__init__()
        self.heads = heads
        self.state_weight = nn.Parameter(torch.tensor([INIT_GAMMA]))  # gamma
        self.combine_norm, self.final_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys = draw_weights(generator, 2 * width, width)
        self.values, self.out = draw_weights(generator, width, width), draw_weights(generator, width, width)
        self.bias_table = nn.Parameter(torch.zeros(heads, slots, slots))

    def forward(self, states: Tensor, embedded: Tensor) -> Tensor:
        """States [B, T, D] and the embeddings of each position's slots [B, T, K, D] -> what the output head reads
        [B, T, K, D]."""
        combined = self._combine(states[:, :, None], embedded)

        def split(x: Tensor) -> Tensor:
            """[B, T, K, D] -> [B, T, H, K, d]."""
            return x.view(*x.shape[:-1], self.heads, -1).transpose(2, 3)

        queries, keys = map(split, functional.linear(combined, self.queries_keys).chunk(2, -1))
        values = split(functional.linear(combined, self.values))
        scores = queries @ keys.transpose(-1, -2) / math.sqrt(queries.shape[-1]) + self.bias_table
        later = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu(1)
        weights = torch.softmax(scores.masked_fill(later, -math.inf), -1).to(values.dtype)
        fetched = functional.linear((weights @ values).transpose(2, 3).flatten(-2), self.out)
        # No residual in slot 0.
        residual = functional.pad(states[:, :, None].expand(-1, -1, embedded.shape[2] - 1, -1), (0, 0, 1, 0))
        out: Tensor = self.final_norm(fetched + residual)
        return out

    def compute_first(self, state: Tensor, embedded: Tensor) -> Tensor:
        """Slot 0 alone, [..., D] and [..., D] -> [..., D]: its attention to itself is its own value."""
        value = functional.linear(self._combine(state, embedded), self.values)
        out: Tensor = self.final_norm(functional.linear(value, self.out).to(state.dtype))
        return out

    def _combine(self, states: Tensor, embedded: Tensor) -> Tensor:
        out: Tensor = self.combine_norm(embedded + self.state_weight * states)
        return out
