"""The Belief State Transformer: forward and backward encoders predict both neighbours of every gap in the answer.

One encoder reads a prefix, the other a suffix from its end; for every pair with a gap between, a small head predicts
the gap's first and last token. The token before the goal is a look-up, as in reversed training, and the states it is
learned on serve the way forwards.

Family: other orders and masked inputs.
Source: Hu et al. 2024, arXiv 2410.23506.
Loss: f_i reads x_1 to x_i, b_j reads x_j onwards and an end symbol, with weights of their own and one token embedding.
Pairs: a prefix that holds the prompt, j - i >= 2, so l (l + 1) / 2 for l answer tokens. Halves of ``norm(c +
SwiGLU(c))``, ``c = [f_i; b_j]``, predict x_{i+1} and x_{j-1} by the shared head. The mean over pairs of half the sum of
both cross entropies, rows weighted by their answer tokens.
Decoding: as next-token, with the empty suffix, whose state is a constant; the head stays, at a small cost.
Dropped: suffixes but the empty one, and the token before a suffix.
Deviations: the default for text, j - i >= 1 with the end symbol as target where nothing lies between, is left out. The
norm is a root-mean-square one. The backward encoder stops at the second answer token, which is all that the pairs ask,
and counts absolute positions from the end, in decoding too.
Drawing:
    fed                                p1 p2 p3 a1 a2 a3
    title                              with each suffix: the next token | the token before the suffix
    with <end> (next previous)         . . a1|a4 a2|a4 a3|a4 a4|a4
    ~with a4 <end> (next previous)     . . a1|a3 a2|a3 a3|a3 .
    ~with a3 a4 <end> (next previous)  . . a1|a2 a2|a2 . .
    ~with a2 a3 a4 <end> (next previous)  . . a1|a1 . . .
    fed                                <end> ~a4 ~a3 ~a2
    title                              the suffixes, fed from the end
    reader                             backward encoder
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, Objective, draw_weights, objectives
from foresee.objectives.decoding import Choose, choose_at, choose_likeliest, decode
from foresee.objectives.teacher_forcing import answer_log_probs, answer_states, cross_entropy

END = "<end>"
NORM_EPS = 1e-6


class TextHead(nn.Module):
    """norm(c + SwiGLU(c)) of c = [prefix state; suffix state], cut into halves. The SwiGLU is 2D -> 16D/3 -> 2D,
    without biases; rows of ``inward`` hold the gate, then what it gates."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = 16 * width // 3
        self.inward = draw_weights(generator, 2 * hidden, 2 * width)
        self.outward = draw_weights(generator, 2 * width, hidden)
        self.norm = nn.RMSNorm(2 * width, NORM_EPS)

    def forward(self, prefixes: Tensor, suffixes: Tensor, front: Tensor, back: Tensor) -> tuple[Tensor, Tensor]:
        """States [B, P, D] and [B, S, D] (or [1, S, D]); pair n joins prefix ``front[n]`` and suffix ``back[n]``.

        Gives final states [B, N, D] of what follows the prefixes and of what precedes the suffixes.
        """
        width = prefixes.shape[-1]
        # The first product of a pair is a sum over its halves: computed for each state and not for each pair.
        from_prefixes = functional.linear(prefixes, self.inward[:, :width])
        from_suffixes = functional.linear(suffixes, self.inward[:, width:])
        # Indexing with a tensor would give the same, by a backward pass four times as slow.
        gate, gated = (from_prefixes.index_select(1, front) + from_suffixes.index_select(1, back)).chunk(2, -1)
        change = functional.linear(functional.silu(gate) * gated, self.outward)
        prefixes, suffixes = prefixes.index_select(1, front), suffixes.index_select(1, back)
        halves = prefixes + change[..., :width], suffixes + change[..., width:]
        following, preceding = self.norm(torch.cat(halves, -1)).chunk(2, -1)
        return following, preceding


@objectives.register("belief-state")
class BeliefState(Objective):
    """Needs nothing but a causal backbone and its ``twin``. ``per_token`` is the loss of the next token without a
    suffix, as in decoding."""

    summary = "forward and backward encoders predict both neighbours of every gap in the answer (BST)"
    batchable = True
    recordable = True
    backbone_alone = False
    symbols = (END,)

    def __init__(self, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator) -> None:
        super().__init__(backbone, vocab, generator)
        self.end = vocab.token(END)
        self.backward_encoder = backbone.twin(generator)
        self.backward_encoder.recompute = backbone.recompute
        self.text_head = TextHead(backbone.width, generator)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        layout, length = batch.layout, batch.answer_len[:, None]
        longest = batch.longest_answer
        steps = torch.arange(longest, device=batch.tokens.device)
        # From the front and from the back; beyond a row's answer these are tokens of no meaning, in no pair.
        columns = (batch.prompt_len[:, None] + steps).clamp(max=batch.tokens.shape[1] - 1)
        forwards = batch.tokens.gather(1, columns)
        backwards = batch.tokens.gather(1, (batch.prompt_len[:, None] + length - 1 - steps).clamp(min=0))

        prefixes = answer_states(self.backbone, batch.tokens, batch)
        if not layout.uniform:
            slots = (columns - layout.first).clamp(max=layout.width - 1)
            prefixes = prefixes.gather(1, slots[..., None].expand(-1, -1, prefixes.shape[-1]))
        # Suffix number m is the end symbol after the last m tokens. Pairs without a suffix come first.
        suffixes = self._suffixes(backwards[:, : longest - 1])
        back, upper = torch.triu_indices(longest, longest, device=steps.device)
        front = upper - back
        following, preceding = self.text_head(prefixes, suffixes, front, back)

        # A row's mean over its l (l + 1) / 2 pairs, times its share l of the batch's answer tokens.
        weight = (front + back < length) * (2 / (length + 1)) / batch.answer_len.sum()
        next_losses = cross_entropy(self.backbone.logits(following), forwards[:, front])
        previous_losses = cross_entropy(self.backbone.logits(preceding), backwards[:, back])
        parts = {"next": 0.5 * (weight * next_losses).sum(), "previous": 0.5 * (weight * previous_losses).sum()}
        alone = next_losses[:, :longest].detach() * (steps < length)
        per_token = alone.new_zeros(batch.tokens.shape).scatter_add_(1, columns, alone)
        return LossOut(parts["next"] + parts["previous"], parts, per_token)

    def _suffixes(self, backwards: Tensor) -> Tensor:
        """Flipped answers without their first token, [B, S] -> states of the suffixes, the empty one first,
        [B, S + 1, D]."""
        states: Tensor = self.backward_encoder(self.backbone.embed(functional.pad(backwards, (1, 0), value=self.end)))
        return states

    def _next_logits(self, prefixes: Tensor, empty: Tensor) -> Tensor:
        """[B, P, D] and the empty suffix's state [1, 1, D] -> [B, P, V]."""
        front = torch.arange(prefixes.shape[1], device=prefixes.device)
        following, _ = self.text_head(prefixes, empty, front, torch.zeros_like(front))
        return self.backbone.logits(following)

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return self._decode(prompt, n, choose_likeliest)

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return self._decode(prompt, n, choose_at(temperature, rng))

    def _decode(self, prompt: Tensor, n: int, choose: Choose) -> Tensor:
        empty, x = self._suffixes(prompt[:1, :0]), self.backbone.embed(prompt)
        return decode(
            self.backbone, x, n, choose, score=lambda state, _: self._next_logits(state[:, None], empty)[:, 0]
        )

    def forced(self, batch: Batch) -> Tensor:
        """The true prefix, and no suffix."""
        prefixes = answer_states(self.backbone, batch.tokens, batch)
        return answer_log_probs(self._next_logits(prefixes, self._suffixes(batch.tokens[:1, :0])), batch)
