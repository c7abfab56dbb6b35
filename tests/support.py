"""Small backbones, batches and weights that several test files share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from foresee.backbones import Attend, Backbone, Cap, backbones
from foresee.backbones.base import Layer, refuse_missing
from foresee.backbones.mamba import Mamba, Mamba2
from foresee.backbones.transformer import Transformer
from foresee.core import seeds, spec
from foresee.core.batch import Batch
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import Objective, objectives

VOCAB = Vocabulary(tuple("0123456789|=/"))


def numbered(size: int) -> Vocabulary:
    """A vocabulary of ``size`` numbers."""
    return Vocabulary(tuple(map(str, range(size))))


def transformer(vocab_size: int = 13, seed: int = 0, **options: Any) -> Transformer:
    """A two-layer Transformer of width 32 unless told otherwise."""
    shape = {"layers": 2, "width": 32, "heads": 4, "context": 32}
    return Transformer(numbered(vocab_size), seeds.torch_stream("test weights", seed), **{**shape, **options})


@torch.no_grad()
def scramble(module: nn.Module, std: float = 0.3) -> None:
    """Draws every parameter, norms and biases included, so that none is at a value that hides a mistake."""
    rng = seeds.torch_stream("scramble")
    for name, parameter in module.named_parameters():
        scales = parameter.dim() == 1 and name.endswith("weight")  # a norm's, which is about one
        parameter.normal_(1.0 if scales else 0.0, std, generator=rng)


class Recurrent(Backbone):
    """A GRU behind the interface of backbones: it takes a mask and positions, and ignores both."""

    summary = "a GRU"
    undecayed = frozenset({"table"})

    def __init__(self, vocab: Vocabulary, generator: torch.Generator, *, width: int = 32) -> None:
        super().__init__()
        self.vocab_size, self.width = len(vocab), width
        self.table: nn.Parameter | None = None
        if vocab:
            self.table = nn.Parameter(torch.empty(len(vocab), width).normal_(generator=generator))
        with torch.random.fork_rng(devices=()):
            self.cell = nn.GRU(width, width, batch_first=True)
        for parameter in self.cell.parameters():
            nn.init.normal_(parameter, std=width**-0.5, generator=generator)

    def embed(self, tokens: Tensor) -> Tensor:
        assert self.table is not None
        return functional.embedding(tokens, self.table)

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        out: Tensor = self.cell(x)[0]
        return out if keep is None else out[:, keep]

    def logits(self, hidden: Tensor) -> Tensor:
        assert self.table is not None
        return functional.linear(hidden, self.table)

    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, Tensor]:
        out, state = self.cell(x)
        return out[:, -1], state

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        out, state = self.cell(x[:, None], state)
        return out[:, -1], state

    def layer_list(self) -> list[nn.Module]:
        return [self.cell]

    def with_trunk(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        return x, self(x, keep=keep)

    def last_layer(self, generator: torch.Generator) -> Layer:
        return RecurrentLastLayer(Recurrent(Vocabulary(()), generator, width=self.width))


class RecurrentLastLayer(Layer):
    """The one layer of a ``Recurrent``."""

    def __init__(self, of: Recurrent) -> None:
        super().__init__()
        self.cell = of.cell

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        out: Tensor = self.cell(z)[0]
        return out if keep is None else out[:, keep]


class Stub(Recurrent):
    """Logits from a table [rows, V]: row t after reading token t, or at position t."""

    def __init__(self, table: Tensor, by: Literal["token", "position"]) -> None:
        nn.Module.__init__(self)
        self.width, self.vocab_size, self.by, self.has = len(table), table.shape[1], by, frozenset(Cap)
        self.table = nn.Parameter(table)

    def twin(self, generator: torch.Generator) -> Recurrent:  # type: ignore[override]  # a table has no fresh weights
        return Recurrent(Vocabulary(()), generator, width=self.width)

    def embed(self, tokens: Tensor) -> Tensor:
        return functional.one_hot(tokens, self.width).float()

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        hidden = x if self.by == "token" else torch.eye(self.width)[: x.shape[1]].expand(len(x), -1, -1)
        return hidden if keep is None else hidden[:, keep]

    def logits(self, hidden: Tensor) -> Tensor:
        assert self.table is not None
        return hidden @ self.table


# Every registered backbone in a small size, the Transformer in each of its kinds, and one that only recurs.
SMALL: dict[str, Callable[[Vocabulary, torch.Generator], Backbone]] = {
    text: lambda vocab, generator, text=text: spec.resolve(backbones, text).build(vocab, generator)
    for text in (
        "transformer:layers=2,width=32,heads=4,context=32",
        "transformer:layers=2,width=32,heads=4,context=32,positions=rotary,norm=rms,mlp=swiglu,bias=false,tied=false",
        "transformer:layers=2,width=32,heads=4,context=32,positions=none",
        "mamba:layers=2,width=32,state=4",
        "mamba2:layers=2,width=32,state=8,head_width=16",
    )
} | {"recurrent": Recurrent}


def build(objective: str, backbone: str, seed: int = 0) -> Objective:
    """An objective on a small backbone, with its symbols in the vocabulary. Raises ``RequestError`` where the backbone
    lacks what it needs."""
    chosen = spec.resolve(objectives, objective)
    vocab = VOCAB.extended(chosen.cls.symbols)
    net = SMALL[backbone](vocab, seeds.torch_stream("test backbone", seed))
    refuse_missing(chosen.cls.needs, chosen.name, net, backbone)
    return chosen.build(net, vocab, seeds.torch_stream("test objective", seed))


def distinct_rows(tokens: Tensor) -> set[tuple[int, ...]]:
    """[B, T] as a set."""
    return set(map(tuple, tokens.tolist()))


def random_batch(rows: int = 16, prompt: int = 6, answer: int = 4, seed: int = 0) -> Batch:
    """Random digits; prompts end in "=" and differ."""
    tokens = torch.randint(10, (rows, prompt + answer), generator=seeds.torch_stream("test batch", seed))
    tokens[:, prompt - 1] = VOCAB.token("=")
    assert len(distinct_rows(tokens[:, :prompt])) == rows
    return Batch.of(tokens, prompt, answer)


def right_padded(rows: Sequence[Batch], padding: int) -> Batch:
    """Batches of one row each as one batch, filled up on the right with ``padding``."""
    tokens = pad_sequence([row.tokens[0] for row in rows], batch_first=True, padding_value=padding)
    return Batch.of(tokens, torch.cat([row.prompt_len for row in rows]), torch.cat([row.answer_len for row in rows]))


class Unreadable(Mapping[str, Tensor]):
    """Facts that nobody may look at."""

    def __getitem__(self, key: str) -> Tensor:
        raise AssertionError(f"the fact {key!r} was read")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("facts were read")

    def __len__(self) -> int:
        raise AssertionError("facts were read")


# Small Mamba and Mamba-2 networks that several test files share


WIDTH = 32


def mamba(vocab_size: int = 13, seed: int = 0, **options: Any) -> Mamba:
    """Two layers of width 32 unless told otherwise."""
    shape = {"layers": 2, "width": WIDTH, "state": 8}
    return Mamba(numbered(vocab_size), seeds.torch_stream("test weights", seed), **{**shape, **options})


def mamba2(vocab_size: int = 13, seed: int = 0, **options: Any) -> Mamba2:
    """Two layers of width 32 and four heads unless told otherwise."""
    shape = {"layers": 2, "width": WIDTH, "state": 8, "head_width": 16}
    return Mamba2(numbered(vocab_size), seeds.torch_stream("test weights", seed), **{**shape, **options})
