"""Planning tokens: learned inputs after the prompt, whose states are taught to hold the whole answer (Semformer).

Planning tokens ``z`` stand between prompt and answer. Their states are pulled towards codes ``c`` that an autoencoder
makes of the true answer, so all of it must be planned before its first token.

Family: a summary of the future.
Source: Yin et al. 2024, arXiv 2409.11143.
Loss: with h_k the final state of planning token k = 1 to ``tokens``, ``next-token + alpha smooth-L1(W h_k, sg[c_k]) +
beta reconstruction``, means over answer tokens or over rows, tokens and dimensions. The last planning token predicts
the first answer token. The backbone, without gradient, reads the answer alone; learned queries read its states by one
cross-attention, then a norm and a projection make the codes. A decoder of its own predicts the answer from them,
teacher-forced. Reconstruction alone shapes the codes, which keeps them from collapsing.
Decoding: as next-token after the planning tokens, which stay; ``continue_answer`` knows where the prompt ends.
Dropped: the autoencoder and the map to its codes.
Deviations: the decoder is a twin of the backbone (theirs: six pretrained layers), reads codes as input tokens (theirs:
keys and values of every layer), shares the token table and head, where the reconstruction reaches the backbone, and
predicts the first answer token too. The projection to codes is there at any width. Cross-attention has heads of 64
dimensions, as GPT-2, where the width allows.
Drawing, tokens=2:
    fed                        p1 p2 p3 z1 z2 a1 a2 a3
    next token                 . . . . a1 a2 a3 a4
    ~plan                      . . . c1 c2 . . .
    ~fed                       a1 a2 a3 a4
    title                      an encoder makes c1 and c2 of these states, which get no gradient
    ~fed                       c1 c2 a1 a2 a3
    title                      a decoder of its own must predict the answer from c1 and c2
    reader                     decoder
    ~rebuilt (reconstruction)  . a1 a2 a3 a4
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch, are_batched
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, Objective, draw_weights, objectives
from foresee.objectives.decoding import choose_at, decode
from foresee.objectives.teacher_forcing import answer_log_probs, answer_loss, cross_entropy

HEAD_SIZE = 64


@objectives.register("plan-tokens")
class PlanTokens(Objective):
    """Defaults are the authors'. With ``alpha=0`` the planning tokens are room to compute in that nothing teaches.

    Options:
        tokens: how many planning tokens
        dimensions: of each code
        alpha: weight of the distance to the codes; 0 trains no autoencoder (an ablation of theirs)
        beta: weight of the reconstruction, without which the codes collapse
    """

    summary = "learned planning tokens after the prompt, trained to encode the whole answer (Semformer)"
    batchable = True
    recordable = True
    backbone_alone = False
    undecayed = frozenset({"plan_table"})

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        tokens: Annotated[int, Bounds(1)] = 4,
        dimensions: Annotated[int, Bounds(1)] = 32,
        alpha: Annotated[float, Bounds(0)] = 1.0,
        beta: Annotated[float, Bounds(above=0, why="or what is planned collapses")] = 1.0,
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.tokens, self.alpha, self.beta = tokens, alpha, beta
        self.extra_positions = tokens
        self.plan_table = draw_weights(generator, tokens, backbone.width)
        self.autoencoder = Autoencoder(backbone, generator, tokens, dimensions) if alpha else None
        self.to_plan = draw_weights(generator, dimensions, backbone.width) if alpha else None

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        planned, logits = self._read(batch)
        out = answer_loss(logits, batch, "next-token")
        if self.autoencoder is None or self.to_plan is None:
            return out
        answers, real = batch.padded_answers().clamp(min=0), batch.answer_mask()
        codes, reconstruction = self.autoencoder(self.backbone, answers, real)
        missed = functional.smooth_l1_loss(
            functional.linear(planned, self.to_plan).float(), codes.detach().float(), reduction="none"
        ).mean((1, 2))
        answered = real[:, 0]  # a row without an answer has nothing to plan
        return out.plus(
            {
                "plan": self.alpha * (missed * answered).sum() / answered.sum(),
                "reconstruction": self.beta * (reconstruction * real).sum() / real.sum(),
            }
        )

    def count_terms(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        return {"plan": (batch.answer_len > 0).sum()} if self.alpha else {}

    def _read(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Final states of the planning tokens [B, K, D], and logits [B, A, V] of the batch's answer columns."""
        first, last = batch.layout.first, batch.layout.last
        columns = torch.arange(last - 1 + self.tokens, device=batch.tokens.device)
        place = columns - batch.prompt_len[:, None]  # among the planning tokens, from 0
        source = torch.where(place < 0, columns, (columns - self.tokens).clamp(min=0))
        is_plan = (place >= 0) & (place < self.tokens)
        plan = functional.embedding(place.clamp(0, self.tokens - 1), self.plan_table)
        x = self.backbone.embed(batch.tokens.gather(1, source))
        x = torch.where(is_plan[..., None], plan.to(x.dtype), x)
        # From the first planning token of the shortest prompt: column c is predicted by state c - first + K - 1 here.
        states: Tensor = self.backbone(x, keep=slice(first, last - 1 + self.tokens))
        logits = self.backbone.logits(states[:, self.tokens - 1 :])
        if batch.layout.uniform:
            return states[:, : self.tokens], logits
        slots = (batch.prompt_len - first)[:, None] + torch.arange(self.tokens, device=columns.device)
        return states.gather(1, slots[..., None].expand(-1, -1, states.shape[-1])), logits

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return self.continue_answer(prompt, prompt[:, :0], n)

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return decode(self.backbone, self._inputs(prompt, prompt[:, :0]), n, choose_at(temperature, rng))

    def continue_answer(self, prompt: Tensor, begun: Tensor, n: int) -> Tensor:
        return decode(self.backbone, self._inputs(prompt, begun), n)

    def _inputs(self, prompt: Tensor, begun: Tensor) -> Tensor:
        """[B, P + K + A', D]: the planning tokens between them."""
        embedded = self.backbone.embed(prompt)
        plan = self.plan_table.to(embedded.dtype).expand(len(prompt), -1, -1)
        return torch.cat((embedded, plan, self.backbone.embed(begun)), 1)

    def forced(self, batch: Batch) -> Tensor:
        return answer_log_probs(self._read(batch)[1], batch)


class Autoencoder(nn.Module):
    """An answer to K vectors and back."""

    undecayed = frozenset({"query_table"})

    def __init__(self, backbone: Backbone, generator: torch.Generator, tokens: int, dimensions: int) -> None:
        super().__init__()
        width = backbone.width
        self.heads = math.gcd(width, max(1, width // HEAD_SIZE))
        self.query_table = draw_weights(generator, tokens, width)
        self.query_norm, self.code_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_in, self.queries_in_bias = draw_weights(generator, width, width), _zeros(width)
        self.keys_values_in, self.keys_values_in_bias = draw_weights(generator, 2 * width, width), _zeros(2 * width)
        self.attention_out, self.attention_out_bias = draw_weights(generator, width, width), _zeros(width)
        self.to_code = draw_weights(generator, dimensions, width)
        self.from_code, self.from_code_bias = draw_weights(generator, width, dimensions), _zeros(width)
        self.decoder = backbone.twin(generator)
        self.decoder.recompute = backbone.recompute

    def forward(self, backbone: Backbone, answers: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Answers [B, A] from column 0 on, real where ``real`` [B, A] says so -> codes [B, K, Z] and the loss of
        reconstructing each token, [B, A]."""
        embedded = backbone.embed(answers)
        with torch.no_grad():
            read = backbone(embedded)
        codes = self.encode(read, real)
        prefix = functional.linear(codes, self.from_code, self.from_code_bias)
        inputs = torch.cat((prefix.to(embedded.dtype), embedded[:, :-1]), 1)
        states = self.decoder(inputs, keep=slice(prefix.shape[1] - 1, inputs.shape[1]))
        return codes, cross_entropy(backbone.logits(states), answers)

    def encode(self, read: Tensor, real: Tensor) -> Tensor:
        """Final states of an answer [B, A, D] -> codes [B, K, Z]."""
        queries = functional.linear(self.query_norm(self.query_table), self.queries_in, self.queries_in_bias)
        keys, values = functional.linear(read, self.keys_values_in, self.keys_values_in_bias).chunk(2, -1)
        visible = real.clone()
        visible[:, 0] = True  # a row without an answer must still read something, or its zero loss has NaN gradients
        q, k, v = (
            x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)  # [B, T, D] -> [B, H, T, d]
            for x in (queries.expand(len(read), -1, -1), keys, values)
        )
        visible = visible[:, None, None, :]
        if are_batched():  # the fused kernel of a GPU refuses such a mask for several networks at once
            scores = (q @ k.transpose(-1, -2)).float() / math.sqrt(q.shape[-1])
            found = scores.masked_fill(~visible, -math.inf).softmax(-1).to(q.dtype) @ v
        else:
            found = functional.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        found = functional.linear(found.transpose(1, 2).flatten(2), self.attention_out, self.attention_out_bias)
        return functional.linear(self.code_norm(self.query_table + found), self.to_code)


def _zeros(size: int) -> nn.Parameter:
    return nn.Parameter(torch.zeros(size))
