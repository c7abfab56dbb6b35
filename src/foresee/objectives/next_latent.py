"""Next-latent prediction: final states from which a small network can tell the next ones (NextLat).

A small network reads a state and the true next token, and must give the *next state* and what the output head makes of
it; with a longer ``horizon`` it goes on from its own guess. So states become a summary from which later ones follow.

Family: a summary of the future.
Source: Teoh et al. 2025, arXiv 2511.05963.
Loss: f rolls forward ``s_{t+i} = f(s_{t+i-1}, x_{t+i})`` from the final state ``s_t = h_t``, i = 1 to ``horizon``.
Next-token's, plus ``latent_weight`` times the smooth L1 distance from s_{t+i} to h_{t+i}, plus ``kl_weight`` times the
divergence of the head's outputs, both averaged over i. No gradient reaches the targets, else states collapse, nor, from
the divergence, the head, which would take up the error. ``f(s, x) = s + MLP(norm([e(x), s]))`` has two hidden layers,
GELU, no biases: 590,592 parameters at width 384. The distance counts all positions, prompt included; the divergence
those that predict an answer token.
Decoding: as next-token.
Dropped: the network that tells the next state.
Deviations: the hidden width, rounded to a multiple of 128, is at least 128. "Response only" is read as stated. Rolls
longer than the sequence count as zero. ``latents=answer`` is ours: it rolls from the prompt's last position on alone.
So is ``teacher``: states of a teacher-forced network see no further than its loss does, so the targets are those of a
second network that learns the same answers from their end or in one pass, beside it and without a gradient from it. It
has states for what predicts an answer token alone, in a space of its own, into which a matrix takes the rolled ones.
Drawing, horizon=1:
    fed                           p1 p2 p3 a1 a2 a3
    next token                    . . a1 a2 a3 a4
    ~next state (latent)          (p2) (p3) (a1) (a2) (a3) .
    +                             p2 p3 a1 a2 a3 .
    ~the head's scores of it (kl)  . (p3) (a1) (a2) (a3) .
    +                             . p3 a1 a2 a3 .
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, draw_weights, objectives
from foresee.objectives.next_token import NextToken
from foresee.objectives.reversed import flip_answers, mirrored_columns
from foresee.objectives.teacher_forcing import answer_loss, answer_states, states_from
from foresee.objectives.teacherless import DUMMY

HIDDEN_MULTIPLE = 128


@objectives.register("next-latent", later=("teacher",))
class NextLatent(NextToken):
    """Defaults: both weights are the paper's, whose star graphs have the answer's length less 2 as horizon.

    Options:
        horizon: how many steps are rolled forward
        latent_weight: of the distance between guessed and true states
        kl_weight: of the divergence between what the head makes of both
        latents: the positions rolled from: the whole `sequence`, or the `answer` alone, which costs far less
        teacher: whose states are the targets: its own, or a second network's, which trains beside it in this way
    """

    summary = "next-token, and states from which a small network can tell the next states (NextLat)"
    recordable = True

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        horizon: Annotated[int, Bounds(1)] = 3,
        latent_weight: Annotated[float, Bounds(above=0)] = 1.0,
        kl_weight: Annotated[float, Bounds(above=0)] = 1.0,
        latents: Literal["sequence", "answer"] = "sequence",
        teacher: Literal["self", "reversed", "teacherless"] = "self",
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.horizon, self.latent_weight, self.kl_weight = horizon, latent_weight, kl_weight
        self.whole_sequence = latents == "sequence"
        self.dynamics = Dynamics(backbone.width, generator)
        self.teacher = None if teacher == "self" else Teacher(teacher == "reversed", backbone, vocab, generator)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        start = 0 if self.whole_sequence else first - 1  # the position of the first state below
        embedded = self.backbone.embed(batch.tokens[:, start : last - 1])
        states = states_from(start, self.backbone, batch.tokens, batch)
        logits = self.backbone.logits(states[:, first - 1 - start :])
        out = answer_loss(logits, batch, "next-token")

        # Targets for the last columns, as many as there are: states, and what a head makes of them in the answer.
        known, expected = states.detach(), logits.detach()
        if self.teacher is not None:
            learning, known, expected = self.teacher(batch)
            out = out.plus({"teacher": learning})
        expected = functional.log_softmax(expected.float(), -1)
        latents, divergences, rolled = list[Tensor](), list[Tensor](), states
        for step, rolls, predicts in self._rolls(batch):
            rolled = self.dynamics(rolled[:, :-1], embedded[:, step:])  # of positions start + step, ..., last - 2
            guesses = rolled if self.teacher is None else self.teacher.translate(rolled)
            columns = min(guesses.shape[1], known.shape[1])
            apart = functional.smooth_l1_loss(
                guesses[:, -columns:].float(), known[:, -columns:].float(), reduction="none"
            )
            latents.append(mean_where(apart.mean(-1), rolls[:, -columns:]))

            skipped = max(first - 1 - start - step, 0)  # positions that predict no answer token in any row
            with frozen(self.backbone):
                guessed = functional.log_softmax(self.backbone.logits(rolled[:, skipped:]).float(), -1)
            wanted = expected[:, -guessed.shape[1] :]
            divergence = (wanted.exp() * (wanted - guessed)).sum(-1)  # kl_div has no rule for several networks at once
            divergences.append(mean_where(divergence, predicts[:, skipped:]))
        means = {
            "latent": self._by_step(latents, batch) * (self.latent_weight / self.horizon),
            "kl": self._by_step(divergences, batch) * (self.kl_weight / self.horizon),
        }
        return out.plus({name: each.sum() for name, each in means.items()}, means)

    def _rolls(self, batch: Batch) -> Iterator[tuple[int, Tensor, Tensor]]:
        """For each step rolled, its number; of the states [B, T - step] that it guesses, which have a target; and which
        of these predict an answer token."""
        start, end = 0 if self.whole_sequence else batch.layout.first - 1, batch.layout.last - 1
        prompt_end = batch.prompt_len[:, None] - 1
        row_start = torch.zeros_like(prompt_end) if self.whole_sequence else prompt_end
        for step in range(1, min(self.horizon, end - start - 1) + 1):
            places = torch.arange(start + step, end, device=batch.tokens.device)
            rolls = (places - step >= row_start) & (places < prompt_end + batch.answer_len[:, None])
            predicts = rolls & (places >= prompt_end)
            yield step, rolls if self.teacher is None else predicts, predicts

    def count_terms(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        masks = [(rolls, predicts) for _, rolls, predicts in self._rolls(batch)]
        return {
            name: self._by_step([mask[kind].sum() for mask in masks], batch)
            for kind, name in enumerate(("latent", "kl"))
        }

    def _by_step(self, values: list[Tensor], batch: Batch) -> Tensor:
        """[horizon]: a value for each step rolled, 0 where rows are too short for it."""
        none = torch.zeros((), device=batch.tokens.device)
        return torch.stack([*values, *[none] * (self.horizon - len(values))])


class Dynamics(nn.Module):
    """The network f: a state and the next token's embedding to the next state."""

    def __init__(self, width: int, generator: torch.Generator) -> None:
        super().__init__()
        hidden = HIDDEN_MULTIPLE * max(1, round(width / HIDDEN_MULTIPLE))
        self.norm = nn.LayerNorm(2 * width, bias=False)
        self.first = draw_weights(generator, hidden, 2 * width)
        self.second, self.third = draw_weights(generator, hidden, hidden), draw_weights(generator, width, hidden)

    def forward(self, state: Tensor, embedded: Tensor) -> Tensor:
        """[B, T, D] and [B, T, D] -> [B, T, D]."""
        inner = functional.gelu(functional.linear(self.norm(torch.cat((embedded, state), -1)), self.first))
        inner = functional.gelu(functional.linear(inner, self.second))
        return state + functional.linear(inner, self.third)


class Teacher(nn.Module):
    """A second network of the backbone's shape, with tables of its own, that learns the same answers: from the last
    token to the first (``backwards``), or each from the prompt and dummies alone. Its states are the targets."""

    def __init__(self, backwards: bool, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator) -> None:
        super().__init__()
        self.backwards, self.symbols = backwards, len(vocab)
        vocab = vocab.extended((DUMMY,))
        self.dummy = vocab.token(DUMMY)
        self.backbone = type(backbone)(vocab, generator, **backbone.options)
        self.backbone.recompute = backbone.recompute
        self.translation = draw_weights(generator, backbone.width, backbone.width)

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Its loss [], and its states [B, A, D] and logits [B, A, V] of the answer columns, in the task's own order and
        without gradients."""
        if self.backwards:
            read = flip_answers(batch)
            states = answer_states(self.backbone, read.tokens, read)
        else:
            read = batch
            states = answer_states(self.backbone, batch.tokens.masked_fill(batch.in_answer(), self.dummy), batch)
        logits = self.backbone.logits(states)
        loss = answer_loss(logits, read, "teacher").total
        states, logits = states.detach(), logits.detach()[..., : self.symbols]
        if self.backwards:
            first, last = batch.layout.first, batch.layout.last
            own = (mirrored_columns(batch)[:, first:last] - first)[..., None]
            states, logits = (each.gather(1, own.expand(-1, -1, each.shape[-1])) for each in (states, logits))
        return loss, states, logits

    def translate(self, states: Tensor) -> Tensor:
        """Guesses [B, K, D] of its states from rolled ones."""
        return functional.linear(states, self.translation)


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Within, what is computed sends no gradient to the module's parameters; their inputs get theirs."""
    held = [(part, name, value) for part in module.modules() for name, value in part._parameters.items()]
    for part, name, value in held:
        # Another tensor in its place, as torch.func puts those of other networks there: theirs would refuse a change.
        part._parameters[name] = None if value is None else cast(nn.Parameter, value.detach())
    try:
        yield
    finally:
        for part, name, value in held:
            part._parameters[name] = value


def mean_where(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean of values [B, T] over the chosen places (bool [B, T]), 0 where there are none."""
    return (values * chosen).sum() / chosen.sum().clamp_min(1)
