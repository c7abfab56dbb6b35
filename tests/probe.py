"""A backbone that remembers what it reads, and whose states do not depend on it."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Attend, Backbone, Cap
from foresee.backbones.base import Layer
from foresee.core import seeds
from foresee.core.vocabulary import Vocabulary


@dataclass(frozen=True)
class Reading:
    """One call of a probe: what it was given, and the states it gave."""

    x: Tensor
    attend: Attend
    positions: Tensor | None
    states: Tensor


@dataclass
class Nudge:
    """A state to be changed, by its place."""

    place: int | None = None
    readings: list[Reading] = field(default_factory=list)


class PassOn(Layer):
    """A layer that changes nothing."""

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        return z if keep is None else z[:, keep]


class Probe(Backbone):
    """Remembers what it reads, and gives a fixed state for each place."""

    summary = "a probe"

    def __init__(self, vocab: Vocabulary, name: str = "probe", nudge: Nudge | None = None) -> None:
        super().__init__()
        self.width, self.vocab_size, self.has = 16, len(vocab), frozenset(Cap)
        rng = seeds.torch_stream("diagram", name)
        self.table = nn.Parameter(0.2 * torch.randn(len(vocab), self.width, generator=rng))
        self.states = 0.3 * torch.randn(16, self.width, generator=rng)
        self.shift = 0.1 * torch.randn(self.width, generator=rng)
        self.nudge = nudge or Nudge()
        # Symbols that are no labels are never decoded, so that whatever is fed of them was put there.
        self.bias = torch.where(torch.arange(len(vocab)) < 10, 0.0, -3.0)

    def embed(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens, self.table)

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        states = self.states[: x.shape[1]].clone()
        if self.nudge.place is not None and self.nudge.place < len(states):
            states[self.nudge.place] += self.shift
        states = states.expand(len(x), -1, -1).clone().requires_grad_()
        self.nudge.readings.append(Reading(x.detach(), attend, positions, states))
        return states if keep is None else states[:, keep]

    def with_trunk(self, x: Tensor, *, keep: slice | None = None) -> tuple[Tensor, Tensor]:
        states = self(x)
        return states, states if keep is None else states[:, keep]

    def last_layer(self, generator: torch.Generator) -> Layer:
        return PassOn()

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.table) + self.bias

    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, Tensor]:
        return self(x)[:, -1].detach(), x

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.start(torch.cat((state, x[:, None]), 1))

    def twin(self, generator: torch.Generator) -> Probe:
        return Probe(Vocabulary(("0",)), "twin", self.nudge)
