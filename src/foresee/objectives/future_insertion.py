"""Inserted futures: some training answers carry a copy of what is to come, between ``<T>`` and ``</T>`` (TRELAWNEY).

The copy is predicted, so in these rows a later part of the answer must be known before its first token. ``<T>`` itself
is never predicted: the network does not open a future unasked.

Family: a summary of the future.
Source: Thankaraj et al. 2025, arXiv 2504.11336.
Loss: with probability ``share`` a row is read as prompt, ``y_1 ... y_d <T> y_s ... y_{s+k-1} </T> y_{d+1} ... y_l`` (d
< s, s + k - 1 <= l). By default d = 0, before every decision; k is uniform from 1 to ``span`` (less near the answer's
end), s among the places where it fits. The mean over all that is predicted, in two parts: "answer", the task's own
tokens, and "inserted", the copies and ``</T>``. Rows that share a prefix are drawn together.
Decoding: as next-token, nothing inserted. With ``plan=true`` (the paper's <T>-generation) ``<T>`` is put after the
prompt and the network continues with up to ``span`` tokens until ``</T>``, then with the answer, which alone is
returned; ``continue_answer`` knows where the prompt ends.
Dropped: the inserted futures.
Deviations: the star graphs' own d, s and k were not at hand (a secondary source). The paper also trains on the prompt,
and has copies that say in words where they come from.
Drawing, span=2:
    fed                  p1 p2 p3 ~<T> ~a2 ~a3 ~</T> a1 a2 a3
    title                a row with an inserted future
    next token (answer)  . . . . . . a1 a2 a3 a4
    ~inserted            . . . a2 a3 </T> . . . .
    fed                  p1 p2 p3 a1 a2 a3
    title                a row without
    next token (answer)  . . a1 a2 a3 a4
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone
from foresee.core.batch import Batch, Layout
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, objectives
from foresee.objectives.decoding import decode_greedily
from foresee.objectives.next_token import NextToken
from foresee.objectives.teacher_forcing import (
    answer_log_probs,
    answer_logits,
    answer_targets,
    cross_entropy,
    target_mask,
    token_losses,
)

OPEN, CLOSE = "<T>", "</T>"


class Future(NamedTuple):
    """What is inserted into rows [B]: before place ``at`` of the answer, the ``copied`` tokens from ``start`` on."""

    at: Tensor
    start: Tensor
    copied: Tensor


@objectives.register("future-insertion")
class FutureInsertion(NextToken):
    """The default share is the paper's.

    Options:
        share: of rows with an inserted future
        span: the longest copy, in tokens
        place: the copy at the `start` of the answer, or at a `random` place in it (d uniform from 0 to l - 1)
        plan: at decoding, predict a future first
    """

    summary = "a span of the answer's future is copied before the answer in half of the rows (TRELAWNEY)"
    batchable = False
    symbols = (OPEN, CLOSE)

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        share: Annotated[float, Bounds(above=0, at_most=1)] = 0.5,
        span: Annotated[int, Bounds(1)] = 3,
        place: Literal["start", "random"] = "start",
        plan: bool = False,
    ) -> None:
        super().__init__(backbone, vocab, generator)
        self.share, self.span, self.place, self.plan = share, span, place, plan
        self.extra_positions = span + 2  # the copied tokens and the marks around them
        self.open, self.close = vocab.token(OPEN), vocab.token(CLOSE)
        if plan:
            self.usage = ""

    @classmethod
    def looks_ahead(cls, options: Mapping[str, Any]) -> bool:
        return not options["plan"]

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """Mean cross entropy in nats. ``per_token`` is that of the answer tokens, with a copy before them or not."""
        batch = dataclasses.replace(batch, facts={})
        per_token = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
        answer, inserted = per_token.new_zeros(()), per_token.new_zeros(())
        targets = batch.answer_len.sum()
        for index, part, future in self._draw_parts(batch, rng):
            if future is None:
                losses = _losses(self.backbone, part) * target_mask(part)
            else:
                losses, copies = self._losses_with_future(part, future)
                inserted, targets = inserted + copies, targets + _count_inserted(part, future)
            answer = answer + losses.sum()
            # A part without the longest rows has fewer columns in its layout, never in its tokens.
            per_token[index] = token_losses(losses, part)
        parts = {"answer": answer / targets, "inserted": inserted / targets}
        return LossOut(parts["answer"] + parts["inserted"], parts, per_token)

    def count_terms(self, batch: Batch, rng: torch.Generator) -> Mapping[str, Tensor]:
        parts = self._draw_parts(dataclasses.replace(batch, facts={}), rng)
        inserted = [_count_inserted(part, future) for _, part, future in parts if future is not None]
        number = torch.stack([batch.answer_len.sum(), *inserted]).sum()
        return {"answer": number, "inserted": number}

    def _draw_parts(self, batch: Batch, rng: torch.Generator) -> list[tuple[Tensor, Batch, Future | None]]:
        """The rows that get no future, then those that get one: their numbers, themselves and the future; no empty
        ones."""
        group = batch.layout.group if len(batch) % batch.layout.group == 0 else 1
        # Looked at where it is drawn, on the CPU, so that no device is asked how many rows there are.
        draws = torch.rand(len(batch) // group, generator=rng, device=rng.device) < self.share
        chosen = draws.repeat_interleave(group)
        parts: list[tuple[Tensor, Batch, Future | None]] = []
        for rows, insert in ((~chosen, False), (chosen, True)):
            index = rows.nonzero().flatten().to(batch.tokens.device)
            if len(index):
                part = batch.rows(index).sharing(group, batch.layout.shared)
                parts.append((index, part, self._draw_future(part, rng) if insert else None))
        return parts

    def _draw_future(self, batch: Batch, rng: torch.Generator) -> Future:
        draws = torch.rand(3, len(batch), dtype=torch.float64, generator=rng, device=rng.device)
        where, which, how_many = draws.to(batch.tokens.device)
        length = batch.answer_len
        at = (where * length).long() if self.place == "random" else torch.zeros_like(length)
        copied = 1 + (how_many * (length - at).clamp(max=self.span)).long()
        return Future(at, at + (which * (length - at - copied + 1)).long(), copied)

    def _losses_with_future(self, batch: Batch, future: Future) -> tuple[Tensor, Tensor]:
        """Losses of the answer columns [B, A], and the sum [] of those of copies and ``</T>``."""
        at, start, copied = future
        steps = torch.arange(min(self.span, batch.layout.width), device=batch.tokens.device)
        source = (batch.prompt_len + start)[:, None] + steps
        copies = batch.tokens.gather(1, source.clamp(max=batch.tokens.shape[1] - 1))
        spliced = self._splice(batch, at, copies, copied)
        losses = _losses(self.backbone, spliced)

        layout = batch.layout
        place = torch.arange(layout.first, layout.last, device=at.device) - batch.prompt_len[:, None]
        moved = torch.arange(layout.width, device=at.device) + (place >= at[:, None]) * (copied + 2)[:, None]
        columns = torch.arange(layout.first, spliced.tokens.shape[1], device=at.device)
        inside = columns - (batch.prompt_len + at)[:, None]  # 0 at ``<T>``
        predicted = (inside >= 1) & (inside <= copied[:, None] + 1) & (batch.answer_len > 0)[:, None]
        return losses.gather(1, moved) * target_mask(batch), (losses * predicted).sum()

    def _splice(self, batch: Batch, at: Tensor, copies: Tensor, copied: Tensor) -> Batch:
        """The batch with ``<T>``, the first ``copied`` [B] tokens of ``copies`` [B, S] and ``</T>`` put before place
        ``at`` [B] of each answer."""
        layout = batch.layout
        longer = Layout(layout.first, layout.last + copies.shape[1] + 2, False, layout.group, layout.shared)
        columns = torch.arange(longer.last, device=at.device).expand(len(batch), -1)
        inside = columns - (batch.prompt_len + at)[:, None]
        source = torch.where(inside < 0, columns, columns - (copied + 2)[:, None]).clamp(0, layout.last - 1)
        tokens = batch.tokens.gather(1, source)
        copy = copies.gather(1, (inside - 1).clamp(0, copies.shape[1] - 1))
        tokens = torch.where((inside >= 1) & (inside <= copied[:, None]), copy, tokens)
        tokens = tokens.masked_fill(inside == 0, self.open).masked_fill(inside == copied[:, None] + 1, self.close)
        return Batch(tokens, batch.prompt_len, batch.answer_len + copied + 2, longer)

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        return self.continue_answer(prompt, prompt[:, :0], n)

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return None if self.plan else super().sample(prompt, n, temperature, rng)

    def continue_answer(self, prompt: Tensor, begun: Tensor, n: int) -> Tensor:
        if not self.plan:
            return decode_greedily(self.backbone, torch.cat((prompt, begun), 1), n)
        copies, copied = self._predict_future(prompt)
        answers = prompt.new_zeros(len(prompt), n)
        for length in range(self.span + 1):
            rows = (copied == length).nonzero().flatten()
            if len(rows):
                opened, closed = (prompt.new_full((len(rows), 1), symbol) for symbol in (self.open, self.close))
                read = torch.cat((prompt[rows], opened, copies[rows, :length], closed, begun[rows]), 1)
                answers[rows] = decode_greedily(self.backbone, read, n)
        return answers

    def _predict_future(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """The model's own continuation of ``<T>`` [B, span], and how much of it [B] comes before its first ``</T>``."""
        copies = decode_greedily(self.backbone, functional.pad(prompt, (0, 1), value=self.open), self.span)
        closed = functional.pad(copies == self.close, (0, 1), value=True)
        return copies, closed.int().argmax(1)

    def forced(self, batch: Batch) -> Tensor:
        if not self.plan:
            return super().forced(batch)
        copies, copied = self._predict_future(batch.prompts)
        spliced = self._splice(batch, torch.zeros_like(copied), copies, copied)
        logits = answer_logits(self.backbone, spliced.tokens, spliced)
        slots = (copied + 2)[:, None] + torch.arange(batch.layout.width, device=copied.device)
        return answer_log_probs(logits.gather(1, slots[..., None].expand(-1, -1, logits.shape[-1])), batch)


def _losses(backbone: Backbone, batch: Batch) -> Tensor:
    """[B, A]: next-token losses of the answer columns, whatever they hold."""
    return cross_entropy(answer_logits(backbone, batch.tokens, batch), answer_targets(batch))


def _count_inserted(batch: Batch, future: Future) -> Tensor:
    """How many copied tokens and ``</T>`` are predicted; a row without an answer predicts none."""
    return ((future.copied + 1) * (batch.answer_len > 0)).sum()
