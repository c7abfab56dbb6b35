"""Next-latent prediction: final states from which a small network can tell the next ones (NextLat).

Teoh et al. 2025 (arXiv 2511.05963). Fed: the sequence, as for next-token. Predicted: with h_t the state after the final
norm, the very one that the output head reads, a network f rolls forward ``s_{t+i} = f(s_{t+i-1}, x_{t+i})`` from
``s_t = h_t`` for i = 1, ..., ``horizon``, true tokens shown. Loss: next-token's, plus ``latent_weight`` times the
smooth L1 distance from s_{t+i} to h_{t+i}, plus ``kl_weight`` times the divergence of what the head makes of s_{t+i}
from what it makes of h_{t+i}, both averaged over i. No gradient flows into the targets h_{t+i}, into the distributions
made of them, or, from the divergence, into the head: without the first, states collapse; without the last, the head
would take up the error. Gradients do flow into h_t, f and the token embeddings. Dropped at decoding: f.

``f(s, x) = s + MLP(norm([e(x), s]))`` with two hidden layers, GELU and no biases, as in the paper: 590,592 parameters
at width 384. The smooth L1 is averaged over rows, positions and dimensions, so that ``latent_weight`` depends on the
width; its positions are all that next-token reads, prompt included. Next-token and the divergence count the positions
that predict an answer token, wherever the rolling began (our reading of "response only").

Deviations. The paper rounds its hidden width to a multiple of 128; here that is at least 128, for narrow backbones.
Weights of f start at N(0, 0.02), as the backbone's own, for want of a published rule. Rolls longer than the sequence
count as zero. ``latents=answer`` is ours: it rolls from the prompt's last position on alone, which costs far less, as
then neither f nor the last layer runs on the prompt; only then is a prefix that rows share read once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, objectives
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import NextToken, answer_loss, answer_states

INIT_STD = 0.02

HIDDEN_MULTIPLE = 128


@objectives.register("next-latent")
class NextLatent(NextToken):
    """Options: ``horizon``, how many steps are rolled forward (the paper's star graphs: the answer's length less 2);
    ``latent_weight`` and ``kl_weight`` (1 and 1, as there); ``latents``, the positions rolled from: the whole sequence
    (as there), or the answer."""

    summary = "next-token, and states from which a small network can tell the next states (NextLat)"

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 a1 a2 a3",
                (
                    Lane("next token", "next-token", ". . a1 a2 a3 a4"),
                    Lane("next state", "latent", "(p2) (p3) (a1) (a2) (a3) .", shown="p2 p3 a1 a2 a3 .", dropped=True),
                    Lane("what the head says of it", "kl", ". (p3) (a1) (a2) (a3) .", shown=". p3 a1 a2 a3 .",
                         dropped=True),
                ),
            ),
        ),
        options="horizon=1",
    )  # fmt: skip
    explanation = Explanation(
        Family.SUMMARY,
        "A small network is shown a state and the true next token, and must tell the *next state*, and what the output "
        "head makes of it; with a longer `horizon` it goes on from its own guess. The targets get no gradient, so that "
        "states become such that the next ones follow from them: a summary of what is needed later on.",
        f"Teoh et al. 2025, {arxiv('2511.05963')} (NextLat).",
        "One token at a time by the backbone. The small network is dropped, so decoding costs what next-token's costs.",
        dropped="the network that tells the next state",
        options={
            "horizon": "how many steps are rolled forward",
            "latent_weight": "of the distance between guessed and true states",
            "kl_weight": "of the divergence between what the head makes of both",
            "latents": "the positions rolled from: the whole `sequence`, or the `answer` alone, which costs far less",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        horizon: int = 3,
        latent_weight: float = 1.0,
        kl_weight: float = 1.0,
        latents: Literal["sequence", "answer"] = "sequence",
    ) -> None:
        """Raises ``RequestError`` on an impossible option."""
        super().__init__(backbone, vocab, generator)
        if horizon < 1:
            raise RequestError(f"next-latent: horizon={horizon} must be at least 1 step")
        for name, value in {"latent_weight": latent_weight, "kl_weight": kl_weight}.items():
            if not 0.0 < value < math.inf:
                raise RequestError(f"next-latent: {name}={value} must be above 0 and finite")
        self.horizon, self.latent_weight, self.kl_weight = horizon, latent_weight, kl_weight
        self.whole_sequence = latents == "sequence"
        self.dynamics = Dynamics(backbone.width, generator)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        began = 0 if self.whole_sequence else first - 1  # the position of the first state below
        embedded = self.backbone.embed(batch.tokens[:, began : last - 1])
        states = self.backbone(embedded) if self.whole_sequence else answer_states(self.backbone, batch.tokens, batch)
        logits = self.backbone.logits(states[:, first - 1 - began :])
        out = answer_loss(logits, batch, "next-token")

        expected = functional.log_softmax(logits.detach().float(), -1)
        prompt_end = batch.prompt_len[:, None] - 1
        read_end = prompt_end + batch.answer_len[:, None]
        row_began = torch.zeros_like(prompt_end) if self.whole_sequence else prompt_end
        latent, divergence = out.total.new_zeros(()), out.total.new_zeros(())
        rolled = states
        for step in range(1, min(self.horizon, states.shape[1] - 1) + 1):
            rolled = self.dynamics(rolled[:, :-1], embedded[:, step:])  # of positions began + step, ..., last - 2
            places = torch.arange(began + step, last - 1, device=states.device)
            counts = (places - step >= row_began) & (places < read_end)
            apart = functional.smooth_l1_loss(rolled.float(), states[:, step:].detach().float(), reduction="none")
            latent = latent + mean_where(apart.mean(-1), counts)

            skipped = max(first - 1 - began - step, 0)  # positions that predict no answer token in any row
            with frozen(self.backbone):
                guessed = functional.log_softmax(self.backbone.logits(rolled[:, skipped:]).float(), -1)
            known = expected[:, -guessed.shape[1] :]
            differ = functional.kl_div(guessed, known, reduction="none", log_target=True).sum(-1)
            divergence = divergence + mean_where(differ, (counts & (places >= prompt_end))[:, skipped:])
        latent = latent * (self.latent_weight / self.horizon)
        divergence = divergence * (self.kl_weight / self.horizon)
        return LossOut(
            out.total + latent + divergence, {**out.parts, "latent": latent, "kl": divergence}, out.per_token
        )


class Dynamics(nn.Module):
    """The network f: a state and the next token's embedding to the next state."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = HIDDEN_MULTIPLE * max(1, round(width / HIDDEN_MULTIPLE))
        self.norm = nn.LayerNorm(2 * width, bias=False)

        def weight(outputs: int, inputs: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(outputs, inputs).normal_(0, INIT_STD, generator=generator))

        self.first, self.second, self.third = weight(hidden, 2 * width), weight(hidden, hidden), weight(width, hidden)

    def forward(self, state: Tensor, embedded: Tensor) -> Tensor:
        """[B, T, D] and [B, T, D] -> [B, T, D]."""
        inner = functional.gelu(functional.linear(self.norm(torch.cat((embedded, state), -1)), self.first))
        inner = functional.gelu(functional.linear(inner, self.second))
        return state + functional.linear(inner, self.third)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within, what is computed sends no gradient to the module's parameters; their inputs get theirs."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of values [B, T] over the chosen places (bool [B, T]), 0 where there are none."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)
