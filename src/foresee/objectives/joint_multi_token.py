"""Joint multi-token prediction: one state must predict several tokens, the earlier of them shown (JTP).

Ahn, Lamb & Langford 2025 (arXiv 2503.21801), as the NextLat repository builds it. Fed: the sequence, as for
next-token. Predicted: with h_t the backbone's final state and e its token embeddings, position t has ``horizon + 1``
slots,

    s_k = norm(e(x_{t+k}) + gamma h_t),    k = 0, ..., horizon,

one learned gamma. One causal self-attention over these slots ("fetch": no MLP, a learned bias for each head and pair
of slots) gives f_k; ``softmax(U norm(f_0))`` predicts x_{t+1}, and ``softmax(U norm(f_k + h_t))`` predicts x_{t+1+k}
for k >= 1. Slots see h_t and the tokens revealed after it, never the prompt: so h_t must hold whatever is needed to
go on under any of these. Slot 0 is the next-token path and stays at decoding, where attention to itself alone leaves
the projections of values and outputs. Dropped at decoding: slots 1 to ``horizon``.

Which pairs (t, k) count is decided by the target: those where x_{t+1+k} is an answer token. The loss is slot 0's plus
``weight`` times the mean over the further slots, each summed over its pairs and divided by the batch's answer tokens
(the mean over its pairs, where prompts have more than k tokens).

Deviations. The paper trains on all tokens of text; only answer tokens are targets here. The repository fills slots
beyond the sequence with token 0; here they are padded and, as attention is causal, reach no slot that has a target.
Norms are layer norms, the one before U separate from the backbone's. Projections have no bias and start at N(0,
0.02), the table of biases at 0 and gamma at 0.1, the repository's value. Training reads rows that share a prefix
apart.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, Objective, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.multi_token import loss_from
from foresee.objectives.next_token import answer_loss, answer_states

INIT_STD, INIT_GAMMA = 0.02, 0.1


@objectives.register("joint-multi-token")
class JointMultiToken(Objective):
    """Options: ``horizon``, how many tokens are predicted after the next one (the NextLat paper's star graphs: the
    answer's length less 2); ``heads`` of the attention over slots (4, or fewer where the width asks for it, as in that
    paper's repository); ``weight`` of the further slots' mean loss beside next-token's (1, as there)."""

    summary = "one state predicts several tokens through a small attention over those revealed (JTP)"
    backbone_alone: ClassVar[bool] = False

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a1 a2 a3",
                (
                    Lane("next token", "next-token", ". . a1 a2 a3 a4"),
                    Lane("slot 1", "slot-1", ". a1 a2 a3 a4 .", shown=". p3 a1 a2 a3 .", dropped=True),
                    Lane("slot 2", "slot-2", "a1 a2 a3 a4 . .", shown="p2,p3 p3,a1 a1,a2 a2,a3 . .", dropped=True),
                ),
            ),
        ),
        options="horizon=2",
    )
    explanation = Explanation(
        Family.AHEAD,
        "One state must predict several tokens, the earlier of them shown. A small attention (*fetch*) sees this state "
        "and the tokens revealed after it, never the prompt. So the state itself must hold whatever is needed to go on "
        "under any continuation, which is more than the next token.",
        f"Ahn, Lamb & Langford 2025, {arxiv('2503.21801')}, as the NextLat repository builds it.",
        "One token at a time by slot 0, which passes through the value and output projections of the fetch: a small "
        "cost beside next-token's. The further slots are dropped.",
        dropped="the further slots",
        options={
            "horizon": "how many tokens are predicted after the next one",
            "heads": "of the attention over slots; must divide the backbone's width",
            "weight": "of the further slots' mean loss beside next-token's",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        horizon: int = 3,
        heads: int = 4,
        weight: float = 1.0,
    ) -> None:
        """Raises ``RequestError`` on an impossible option."""
        super().__init__(backbone, vocab)
        if horizon < 1:
            raise RequestError(f"joint-multi-token: horizon={horizon} must be at least 1 token")
        if heads < 1 or backbone.width % heads:
            raise RequestError(f"joint-multi-token: heads={heads} must divide the backbone's width, {backbone.width}")
        if not 0.0 < weight < math.inf:
            raise RequestError(f"joint-multi-token: weight={weight} must be above 0 and finite")
        self.horizon, self.weight = horizon, weight
        self.fetch = Fetch(backbone.width, horizon + 1, heads, generator)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        embedded = self.backbone.embed(batch.tokens[:, : last - 1])
        start = max(0, first - 1 - self.horizon)  # the first position that has a target in the answer
        states: Tensor = self.backbone(embedded, keep=slice(start, last - 1))
        slots: Tensor = self.fetch(states, revealed(embedded[:, start:], self.horizon))

        out = answer_loss(self.backbone.logits(slots[:, first - 1 - start :, 0]), batch, "next-token")
        parts = dict(out.parts)
        for slot in range(1, self.horizon + 1):
            column = max(first, slot + 1)
            if column >= last:
                parts[f"slot-{slot}"] = out.total.new_zeros(())
                continue
            before = slot + 1 + start
            logits = self.backbone.logits(slots[:, column - before : last - before, slot])
            parts[f"slot-{slot}"] = self.weight / self.horizon * loss_from(logits, batch, column)
        return LossOut(torch.stack(list(parts.values())).sum(), parts, out.per_token)

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        if n == 0:
            return prompt[:, :0]
        embedded = self.backbone.embed(prompt)
        hidden, state = self.backbone.start(embedded, steps=n - 1)
        chosen = [self._next(hidden, embedded[:, -1]).argmax(-1)]
        while len(chosen) < n:
            read = self.backbone.embed(chosen[-1])
            hidden, state = self.backbone.step(read, state)
            chosen.append(self._next(hidden, read).argmax(-1))
        return torch.stack(chosen, 1)

    def forced(self, batch: Batch) -> Tensor:
        batch.answers  # noqa: B018  # refuses ragged batches
        first, last = batch.layout.first, batch.layout.last
        hidden = answer_states(self.backbone, batch.tokens, batch)
        read = self.backbone.embed(batch.tokens[:, first - 1 : last - 1])
        return functional.log_softmax(self._next(hidden, read).float(), -1)

    def _next(self, hidden: Tensor, embedded: Tensor) -> Tensor:
        """Final states and embeddings of the tokens read there [..., D] -> logits of the next token [..., V]."""
        return self.backbone.logits(self.fetch.first(hidden, embedded))


def revealed(embedded: Tensor, horizon: int) -> Tensor:
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

        def weight(outputs: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(outputs, width).normal_(0, INIT_STD, generator=generator))

        self.queries_keys, self.values, self.out = weight(2 * width), weight(width), weight(width)
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

    def first(self, state: Tensor, embedded: Tensor) -> Tensor:
        """Slot 0 alone, [..., D] and [..., D] -> [..., D]: its attention to itself is its own value."""
        value = functional.linear(self._combine(state, embedded), self.values)
        out: Tensor = self.final_norm(functional.linear(value, self.out).to(state.dtype))
        return out

    def _combine(self, states: Tensor, embedded: Tensor) -> Tensor:
        out: Tensor = self.combine_norm(embedded + self.state_weight * states)
        return out
