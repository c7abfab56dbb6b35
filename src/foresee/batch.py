"""The one batch type."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


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
        """A batch from tokens [B, T] and lengths ([B], or one number for all rows). Raises ``ValueError`` on lengths
        that do not fit."""
        rows, columns = tokens.shape

        def lengths(value: Tensor | int) -> Tensor:
            full = value if isinstance(value, Tensor) else torch.full((rows,), value, dtype=torch.int64)
            return full.to(tokens.device)

        prompt, answer = lengths(prompt_len), lengths(answer_len)
        for name, value in {"prompt_len": prompt, "answer_len": answer, **(facts or {})}.items():
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
        return Batch(tokens, prompt, answer, layout, dict(facts or {}))

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

    def in_answer(self) -> Tensor:
        """[B, T] bool: which columns hold answer tokens."""
        columns = torch.arange(self.tokens.shape[1], device=self.tokens.device)
        start, end = self.prompt_len[:, None], (self.prompt_len + self.answer_len)[:, None]
        return (columns >= start) & (columns < end)

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
