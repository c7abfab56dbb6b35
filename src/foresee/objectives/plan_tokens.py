"""Planning tokens: a few learned tokens after the prompt, whose states are taught to hold the whole answer (Semformer).

Yin et al. 2024 (arXiv 2409.11143; research/objectives.md section 14). Fed: prompt, K planning tokens, answer, so every
answer token stands K positions later. Predicted: the answer, as for next-token, its first token from the last planning
token; planning tokens are no targets. Besides, a linear map of each planning token's final state h_k is to come close
to a vector z_k that an autoencoder makes of the answer:

    loss = next-token  +  alpha * smooth L1(W h_k, sg[z_k])  +  beta * reconstruction.

The autoencoder: the backbone itself, without gradient, reads the answer alone; K learned queries read its final states
by one layer of cross-attention, and a norm and a projection make z_1 ... z_K, of ``dimensions`` each. A decoder with
weights of its own reads them and writes the answer, teacher-forced. Next-token and reconstruction are means over the
batch's answer tokens, the smooth L1 over rows, planning tokens and dimensions. ``sg`` stops gradients: z is shaped by
the reconstruction alone, which is what keeps it from collapsing, and the backbone's layers by the other two.

Decoding. Planning tokens stay; autoencoder and W are dropped. ``generate`` writes the planning tokens after what it is
given and then the answer, token by token; ``forced`` puts them after the prompt. Both give the task's own answer tokens
alone: nothing is ever written at a planning token. An answer that is begun already is continued by ``continued``, which
is told where the prompt ends: ``generate`` takes all it is given for the prompt.

Deviations. The decoder is a ``twin`` of the backbone (theirs: six pretrained layers) and reads each z_k through a
linear map as an input token (theirs: as keys and values of every layer); it shares the backbone's token table and head,
where the reconstruction does reach the backbone. It writes the first answer token too (theirs begins at the second).
The projection to z is there at any width (theirs: where it narrows). Rows that share a prefix are read apart. New
weights are drawn from N(0, 0.02), as theirs, with biases at zero; cross-attention has heads of 64 dimensions, as GPT-2,
where the width is a multiple of 64.
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
from foresee.objectives.base import LossOut, Objective, cross_entropy, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import answer_loss

INIT_STD = 0.02
HEAD_SIZE = 64


@objectives.register("plan-tokens")
class PlanTokens(Objective):
    """Options: ``tokens``, how many planning tokens (K); ``dimensions`` of each z_k; ``alpha`` and ``beta``, weights of
    the smooth L1 and of the reconstruction. Defaults are the authors'. With ``alpha=0`` there is no autoencoder: the
    planning tokens are then room to compute in, and nothing teaches them (an ablation of theirs)."""

    summary = "learned planning tokens after the prompt, taught to hold the answer (Semformer)"
    undecayed = frozenset({"plan_table"})
    backbone_alone: ClassVar[bool] = False

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 z1 z2 a1 a2 a3",
                (
                    Lane("next token", "next-token", ". . . . a1 a2 a3 a4"),
                    Lane("plan", "plan", ". . . c1 c2 . . .", dropped=True),
                ),
            ),
            Stream(
                "a1 a2 a3 a4",
                title="an encoder makes c1 and c2 of these states, which get no gradient",
                dropped=True,
            ),
            Stream(
                "c1 c2 a1 a2 a3",
                (Lane("rebuilt", "reconstruction", ". a1 a2 a3 a4", dropped=True),),
                reader="decoder",
                title="a decoder of its own must write the answer again from c1 and c2",
                dropped=True,
            ),
        ),
        options="tokens=2",
    )
    explanation = Explanation(
        Family.SUMMARY,
        "Learned planning tokens `z` stand between prompt and answer. Their states are pulled towards codes `c` that "
        "an autoencoder makes of the true answer, so the network must have a plan of the whole answer before it writes "
        "the first token.",
        f"Yin et al. 2024, {arxiv('2409.11143')} (Semformer).",
        "One token at a time after the planning tokens, which stay: a prompt is `tokens` longer. The autoencoder and "
        "the map to its codes are dropped.",
        dropped="the autoencoder and the map to its codes",
        options={
            "tokens": "how many planning tokens",
            "dimensions": "of each code",
            "alpha": "weight of the distance to the codes; 0 trains no autoencoder (an ablation)",
            "beta": "weight of the reconstruction, without which the codes collapse",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        tokens: int = 4,
        dimensions: int = 32,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        """Raises ``RequestError`` on an impossible option."""
        super().__init__(backbone, vocab)
        for name, count in {"tokens": tokens, "dimensions": dimensions}.items():
            if count < 1:
                raise RequestError(f"plan-tokens: {name}={count} must be at least 1")
        if not 0.0 <= alpha < math.inf:
            raise RequestError(f"plan-tokens: alpha={alpha} must be 0 or more, and finite")
        if not 0.0 < beta < math.inf:
            raise RequestError(f"plan-tokens: beta={beta} must be above 0 and finite, or what is planned collapses")
        self.tokens, self.alpha, self.beta = tokens, alpha, beta
        self.extra_positions = tokens
        self.plan_table = drawn(generator, tokens, backbone.width)
        self.autoencoder = Autoencoder(backbone, generator, tokens, dimensions) if alpha else None
        self.to_plan = drawn(generator, dimensions, backbone.width) if alpha else None

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        planned, logits = self._read(batch)
        out = answer_loss(logits, batch, "next-token")
        if self.autoencoder is None or self.to_plan is None:
            return out
        answers, real = left_aligned(batch)
        codes, reconstruction = self.autoencoder(self.backbone, answers, real)
        missed = functional.smooth_l1_loss(
            functional.linear(planned, self.to_plan).float(), codes.detach().float(), reduction="none"
        ).mean((1, 2))
        answered = real[:, 0]  # a row without an answer has nothing to plan
        parts = {
            "plan": self.alpha * (missed * answered).sum() / answered.sum(),
            "reconstruction": self.beta * (reconstruction * real).sum() / real.sum(),
        }
        return LossOut(out.total + parts["plan"] + parts["reconstruction"], {**out.parts, **parts}, out.per_token)

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
        return self.continued(prompt, prompt[:, :0], n)

    def continued(self, prompt: Tensor, begun: Tensor, n: int) -> Tensor:
        """Greedy continuation [B, n] of an answer that begins with ``begun`` [B, A'], after ``prompt`` [B, P]."""
        if n == 0:
            return prompt[:, :0]
        x = self.backbone.embed(prompt)
        plan = self.plan_table.to(x.dtype).expand(len(x), -1, -1)
        x = torch.cat((x, plan, self.backbone.embed(begun)), 1)
        hidden, state = self.backbone.start(x, steps=n - 1)
        chosen = [self.backbone.logits(hidden).argmax(-1)]
        while len(chosen) < n:
            hidden, state = self.backbone.step(self.backbone.embed(chosen[-1]), state)
            chosen.append(self.backbone.logits(hidden).argmax(-1))
        return torch.stack(chosen, 1)

    def forced(self, batch: Batch) -> Tensor:
        """The planning tokens stand between the prompt and the true answer tokens shown."""
        batch.answers  # noqa: B018  # refuses ragged batches
        return functional.log_softmax(self._read(batch)[1].float(), -1)


class Autoencoder(nn.Module):
    """An answer to K vectors and back."""

    undecayed = frozenset({"query_table"})

    def __init__(self, backbone: Backbone, generator: torch.Generator, tokens: int, dimensions: int) -> None:
        super().__init__()
        width = backbone.width
        self.heads = math.gcd(width, max(1, width // HEAD_SIZE))
        self.query_table = drawn(generator, tokens, width)
        self.query_norm, self.code_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_in, self.queries_in_bias = drawn(generator, width, width), zeros(width)
        self.keys_values_in, self.keys_values_in_bias = drawn(generator, 2 * width, width), zeros(2 * width)
        self.attention_out, self.attention_out_bias = drawn(generator, width, width), zeros(width)
        self.to_code = drawn(generator, dimensions, width)
        self.from_code, self.from_code_bias = drawn(generator, width, dimensions), zeros(width)
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
        shown = torch.cat((prefix.to(embedded.dtype), embedded[:, :-1]), 1)
        states = self.decoder(shown, keep=slice(prefix.shape[1] - 1, shown.shape[1]))
        return codes, cross_entropy(backbone.logits(states), answers)

    def encode(self, read: Tensor, real: Tensor) -> Tensor:
        """Final states of an answer [B, A, D] -> codes [B, K, Z]."""
        queries = functional.linear(self.query_norm(self.query_table), self.queries_in, self.queries_in_bias)
        keys, values = functional.linear(read, self.keys_values_in, self.keys_values_in_bias).chunk(2, -1)
        visible = real.clone()
        visible[:, 0] = True  # a row without an answer must still read something, or its zero loss has NaN gradients
        found = functional.scaled_dot_product_attention(
            self._heads(queries.expand(len(read), -1, -1)), self._heads(keys), self._heads(values),
            attn_mask=visible[:, None, None, :],
        )  # fmt: skip
        found = functional.linear(found.transpose(1, 2).flatten(2), self.attention_out, self.attention_out_bias)
        return functional.linear(self.code_norm(self.query_table + found), self.to_code)

    def _heads(self, x: Tensor) -> Tensor:
        """[B, T, D] -> [B, H, T, d]."""
        return x.reshape(*x.shape[:2], self.heads, -1).transpose(1, 2)


def left_aligned(batch: Batch) -> tuple[Tensor, Tensor]:
    """Answers from column 0 on [B, W], W = ``layout.width``, and which of their columns are answer tokens."""
    if batch.layout.uniform:
        return batch.answers, torch.ones_like(batch.answers, dtype=torch.bool)
    place = torch.arange(batch.layout.width, device=batch.tokens.device)
    source = (batch.prompt_len[:, None] + place).clamp(max=batch.tokens.shape[1] - 1)
    return batch.tokens.gather(1, source), place < batch.answer_len[:, None]


def drawn(generator: torch.Generator, *shape: int) -> nn.Parameter:
    """Weights from N(0, 0.02)."""
    return nn.Parameter(torch.empty(*shape).normal_(0.0, INIT_STD, generator=generator))


def zeros(size: int) -> nn.Parameter:
    """A bias."""
    return nn.Parameter(torch.zeros(size))
