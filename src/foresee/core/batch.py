"""The one batch type, and several batches at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional

NOTHING = -1
"""Stands where a row of a padded [B, A] tensor has no token; no token is negative."""


@dataclass(frozen=True)
class Layout:
    """Where the answers of a batch lie, as plain numbers, so that a hot loop never asks a device for them.

    Answers occupy columns ``first`` to ``last`` (exclusive): ``first`` is the shortest prompt's length, ``last`` the
    longest row's. ``uniform`` says that every prompt has ``first`` and every row ``last`` columns. Where ``group`` is
    above 1, the first ``shared`` columns are the same in each group of that many consecutive rows, from row 0 on.
    """

    first: int
    last: int
    uniform: bool
    group: int = 1
    shared: int = 0

    @property
    def width(self) -> int:
        """Columns that hold answers."""
        return self.last - self.first


@dataclass(frozen=True)
class Batch:
    """Prompts and their answers: a row is prompt, then answer, then padding (any token).

    ``facts`` describe the examples ([B, ...] tensors) for diagnostics only; an objective never reads them.
    Build one with ``Batch.of``.
    """

    tokens: Tensor  # [B, T] int64
    prompt_len: Tensor  # [B] int64
    answer_len: Tensor  # [B] int64
    layout: Layout
    facts: Mapping[str, Tensor] = field(default_factory=dict)

    @staticmethod
    def of(
        tokens: Tensor, prompt_len: Tensor | int, answer_len: Tensor | int, facts: Mapping[str, Tensor] | None = None
    ) -> Batch:
        """A batch from tokens [B, T] and lengths ([B], or one number for all rows), all of them any whole numbers.
        Raises ``ValueError`` on what does not fit."""
        tokens, facts = torch.as_tensor(tokens), {name: torch.as_tensor(fact) for name, fact in (facts or {}).items()}
        if tokens.dim() != 2 or tokens.is_floating_point():
            raise ValueError(f"tokens are {tokens.dtype} {list(tokens.shape)}, and must be whole numbers [B, T]")
        tokens = tokens.long()
        rows, columns = tokens.shape

        def lengths(name: str, value: Tensor | int) -> Tensor:
            given = torch.as_tensor(value, device=tokens.device)
            if given.is_floating_point():
                raise ValueError(f"{name} is {value}, and must be whole numbers")
            return (given if given.dim() else given.expand(rows).clone()).long()

        prompt, answer = lengths("prompt_len", prompt_len), lengths("answer_len", answer_len)
        for name, value in {"prompt_len": prompt, "answer_len": answer, **facts}.items():
            if value.shape[:1] != (rows,):
                raise ValueError(f"{name} has shape {tuple(value.shape)}, but there are {rows} rows of tokens")
        if isinstance(prompt_len, int) and isinstance(answer_len, int):
            layout = Layout(prompt_len, prompt_len + answer_len, True)
        elif rows:
            ends = prompt + answer
            first, last = int(prompt.min()), int(ends.max())
            if int(answer.min()) < 0:
                raise ValueError("a prompt or answer length is negative")
            layout = Layout(first, last, first == int(prompt.max()) and last == int(ends.min()))
        else:
            layout = Layout(0, 0, True)
        if layout.last > columns:
            raise ValueError(f"answers end at column {layout.last}, but rows have {columns} columns")
        if layout.first < 0 or layout.last < layout.first:
            raise ValueError("a prompt or answer length is negative")
        return Batch(tokens, prompt, answer, layout, facts)

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def answers(self) -> Tensor:
        """[B, A] answer tokens of a uniform batch."""
        self._require_uniform()
        return self.tokens[:, self.layout.first : self.layout.last]

    @property
    def prompts(self) -> Tensor:
        """[B, P] prompt tokens of a uniform batch."""
        self._require_uniform()
        return self.tokens[:, : self.layout.first]

    def _require_uniform(self) -> None:
        if not self.layout.uniform:
            raise ValueError("rows differ in prompt or answer length; split the batch by length first")

    @property
    def longest_answer(self) -> int:
        """Tokens of the longest answer; ``layout.width`` is more where prompts differ in length."""
        if self.layout.uniform:
            return self.layout.width
        return int(self.answer_len.max())

    def padded_answers(self) -> Tensor:
        """[B, A] answer tokens from column 0 on, A of the longest; ``NOTHING`` follows shorter answers, so that two
        answers are equal where their rows are. ``answers``, where the batch is uniform."""
        if self.layout.uniform:
            return self.answers
        source = (self.prompt_len[:, None] + self._places()).clamp(max=self.tokens.shape[1] - 1)
        return self.tokens.gather(1, source).masked_fill(~self.answer_mask(), NOTHING)

    def answer_mask(self) -> Tensor:
        """[B, A] bool: which places of ``padded_answers`` hold a token."""
        return self._places() < self.answer_len[:, None]

    def _places(self) -> Tensor:
        return torch.arange(self.longest_answer, device=self.tokens.device)

    def uniform_parts(self) -> list[tuple[Tensor, Batch]]:
        """The rows of each prompt and answer length as a uniform batch without padding, beside their numbers
        ([B'] int64, ascending); shorter prompts first, then shorter answers. A uniform batch is its only part."""
        if self.layout.uniform:
            return [(torch.arange(len(self), device=self.tokens.device), self)]
        pairs = torch.stack((self.prompt_len, self.answer_len), 1)
        kinds, kind_of = torch.unique(pairs, dim=0, return_inverse=True)
        parts = []
        for kind, (prompt, answer) in enumerate(kinds.tolist()):
            index = (kind_of == kind).nonzero().flatten()
            facts = {name: value[index] for name, value in self.facts.items()}
            tokens = self.tokens[index, : prompt + answer]
            layout = Layout(prompt, prompt + answer, True)
            parts.append((index, Batch(tokens, self.prompt_len[index], self.answer_len[index], layout, facts)))
        return parts

    def trimmed(self) -> Batch:
        """The same rows without the columns that are padding in all of them."""
        return replace(self, tokens=self.tokens[:, : self.layout.last])

    def in_answer(self) -> Tensor:
        """[B, T] bool: which columns hold answer tokens."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        start, end = self.prompt_len[:, None], (self.prompt_len + self.answer_len)[:, None]
        return (columns >= start) & (columns < end)

    def pairs(self) -> Iterator[tuple[list[int], list[int]]]:
        """Prompt and answer of each row, without padding."""
        lengths = zip(self.prompt_len.tolist(), self.answer_len.tolist(), strict=True)
        for row, (prompt, answer) in zip(self.tokens.tolist(), lengths, strict=True):
            yield row[:prompt], row[prompt : prompt + answer]

    def rows(self, index: Tensor | slice) -> Batch:
        """The chosen rows. A uniform batch stays uniform without a look at the data; groups are forgotten."""
        facts = {name: value[index] for name, value in self.facts.items()}
        tokens, prompt, answer = self.tokens[index], self.prompt_len[index], self.answer_len[index]
        if self.layout.uniform:
            return Batch(tokens, prompt, answer, replace(self.layout, group=1, shared=0), facts)
        return Batch.of(tokens, prompt, answer, facts)

    def sharing(self, group: int, columns: int) -> Batch:
        """The same batch, known to hold the same first ``columns`` tokens in each ``group`` of consecutive rows."""
        return replace(self, layout=replace(self.layout, group=group, shared=columns))

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on a device, facts included."""
        facts = {name: value.to(device) for name, value in self.facts.items()}
        tokens, prompt, answer = (value.to(device) for value in (self.tokens, self.prompt_len, self.answer_len))
        return Batch(tokens, prompt, answer, self.layout, facts)


def are_uniform(batches: Sequence[Batch]) -> bool:
    """Whether prompts have one length in all rows of all batches, and answers too."""
    layout = batches[0].layout
    return layout.uniform and all(batch.layout == layout for batch in batches)


def align(batches: Sequence[Batch]) -> list[Batch]:
    """The same batches in one layout and as many columns, those of the widest. They must have as many rows."""
    if are_uniform(batches):
        return list(batches)
    layouts, columns = [batch.layout for batch in batches], max(batch.tokens.shape[1] for batch in batches)
    layout = Layout(
        min(each.first for each in layouts), max(each.last for each in layouts), False, layouts[0].group,
        min(each.shared for each in layouts),
    )  # fmt: skip
    return [
        replace(batch, tokens=functional.pad(batch.tokens, (0, columns - batch.tokens.shape[1])), layout=layout)
        for batch in batches
    ]


def are_batched() -> bool:
    """Whether this is a call for several networks at once, on a batch each (``torch.func.vmap``)."""
    return bool(torch._C._are_functorch_transforms_active())
