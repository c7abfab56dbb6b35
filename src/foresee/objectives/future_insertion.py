"""Inserted futures: some training answers carry a copy of what is to come, between ``<T>`` and ``</T>`` (TRELAWNEY).

Thankaraj et al. 2025 (arXiv 2504.11336; research/objectives.md section 15). Fed: each row with probability ``share`` as

    prompt, y_1 ... y_d, <T>, y_s ... y_{s+k-1}, </T>, y_{d+1} ... y_l          (d < s, s + k - 1 <= l),

else as it is. Predicted: every answer token, the copied ones and ``</T>``, each from the position before it; never
``<T>``, so that the model does not open a future unasked. By default d = 0: the copy stands before the first answer
token, so before every decision. Its length k is uniform from 1 to ``span`` (less near the answer's end), s uniform
among the places where it fits. The loss is the mean over all that is predicted in the batch, in two parts: "answer",
the task's own answer tokens, and "inserted", the rest.

Decoding. Plain: ``generate`` and ``forced`` are next-token's; nothing is inserted. With ``plan=true`` (the paper's
<T>-generation) ``<T>`` is put after the prompt, the model writes up to ``span`` tokens until its own ``</T>`` or one
that is put there, and then the answer. Only the answer is returned: all tokens are at the task's own answer positions.
``forced`` lets the model write its future from the prompt alone and shows the true answer after it. ``generate`` takes
all it is given for the prompt; an answer that is begun already is continued by ``continued``, which is told where the
prompt ends.

Deviations. The star graphs' own d, s and k were not at hand (the source is secondary): ours are stated above. The paper
also trains on the prompt's tokens, and has variants in which the copy says in words where it comes from.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones.base import Backbone
from foresee.core.batch import Batch, Layout
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, cross_entropy, objectives
from foresee.objectives.decoding import greedy
from foresee.objectives.diagram import Diagram, Lane, Stream
from foresee.objectives.explanation import Explanation, Family, arxiv
from foresee.objectives.next_token import NextToken, teacher_forced

OPEN, CLOSE = "<T>", "</T>"


@objectives.register("future-insertion")
class FutureInsertion(NextToken):
    """Options: ``share`` of rows with an inserted future (the paper's 0.5); ``span``, the longest copy; ``place`` it at
    the start of the answer or at random (d uniform from 0 to l - 1); ``plan``: at decoding, write a future first.

    Rows that share a prefix are drawn together, so that they still do."""

    summary = "half of the rows show a copied span of the answer's future before the answer (TRELAWNEY)"
    symbols = (OPEN, CLOSE)

    diagram = Diagram(
        (
            Stream(
                "p1 p2 p3 ~<T> ~a2 ~a3 ~</T> a1 a2 a3",
                (
                    Lane("next token", "answer", ". . . . . . a1 a2 a3 a4"),
                    Lane("inserted", "inserted", ". . . a2 a3 </T> . . . .", dropped=True),
                ),
                title="a row with an inserted future",
            ),
            Stream(
                "p1 p2 p3 a1 a2 a3",
                (Lane("next token", "answer", ". . a1 a2 a3 a4"),),
                title="a row without",
            ),
        ),
        options="span=2",
    )
    explanation = Explanation(
        Family.SUMMARY,
        "Half of the training rows carry a copy of what is to come, between `<T>` and `</T>`, before the answer. The "
        "copy is predicted, so in these rows a later part of the answer must be known before its first token. `<T>` "
        "itself is never predicted: the network does not open a future unasked. Length and place of the copied span "
        "are drawn for each row.",
        f"Thankaraj et al. 2025, {arxiv('2504.11336')} (TRELAWNEY).",
        "One token at a time; nothing is inserted, so decoding costs what next-token's costs. With `plan=true` the "
        "network first writes a future of its own, up to `span` + 2 tokens more.",
        dropped="the inserted futures",
        options={
            "share": "of rows with an inserted future",
            "span": "the longest copy, in tokens",
            "place": "the copy at the `start` of the answer, or at a `random` place in it",
            "plan": "at decoding, write a future first",
        },
    )

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        share: float = 0.5,
        span: int = 3,
        place: Literal["start", "random"] = "start",
        plan: bool = False,
    ) -> None:
        """Raises ``RequestError`` on an impossible option."""
        super().__init__(backbone, vocab, generator)
        if not 0.0 < share <= 1.0:
            raise RequestError(f"future-insertion: share={share} must be a share above 0 and up to 1")
        if span < 1:
            raise RequestError(f"future-insertion: span={span} must be at least 1 token")
        self.share, self.span, self.place, self.plan = share, span, place, plan
        self.extra_positions = span + 2  # the copied tokens and the marks around them
        self.open, self.close = vocab.token(OPEN), vocab.token(CLOSE)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        """Mean cross entropy in nats. ``per_token`` is that of the answer tokens, with a copy before them or not."""
        batch = dataclasses.replace(batch, facts={})
        per_token = torch.zeros(batch.tokens.shape, device=batch.tokens.device)
        answer, inserted = per_token.new_zeros(()), per_token.new_zeros(())
        targets = batch.answer_len.sum()
        for index, augmented in self._shares(batch, rng):
            part = batch.rows(index).sharing(batch.layout.group, batch.layout.shared)
            if augmented:
                losses, copies, predicted = self._with_future(part, rng)
                inserted, targets = inserted + copies, targets + predicted
            else:
                losses = _losses(self.backbone, part) * _answer_columns(part)
            answer = answer + losses.sum()
            layout = part.layout
            spread = functional.pad(losses.detach(), (layout.first, batch.tokens.shape[1] - layout.last))
            per_token[index] = spread
        parts = {"answer": answer / targets, "inserted": inserted / targets}
        return LossOut(parts["answer"] + parts["inserted"], parts, per_token)

    def _shares(self, batch: Batch, rng: torch.Generator) -> list[tuple[Tensor, bool]]:
        """Numbers of the rows that get a future, with True, and of those that do not, with False; no empty ones."""
        group = batch.layout.group if len(batch) % batch.layout.group == 0 else 1
        # Looked at where it is drawn, on the CPU, so that no device is asked how many rows there are.
        draws = torch.rand(len(batch) // group, generator=rng, device=rng.device) < self.share
        chosen = draws.repeat_interleave(group)
        pairs = [(rows.nonzero().flatten(), augmented) for rows, augmented in ((~chosen, False), (chosen, True))]
        return [(index.to(batch.tokens.device), augmented) for index, augmented in pairs if len(index)]

    def _with_future(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Losses of the answer columns [B, A], the sum [] of those of copies and ``</T>``, and the number [] of these,
        with a future in every row."""
        at, start, copied = self._draw_future(batch, rng)
        steps = torch.arange(self.span, device=batch.tokens.device)
        source = (batch.prompt_len + start)[:, None] + steps
        copies = batch.tokens.gather(1, source.clamp(max=batch.tokens.shape[1] - 1))
        spliced = self._spliced(batch, at, copies, copied)
        losses = _losses(self.backbone, spliced)

        layout = batch.layout
        place = torch.arange(layout.first, layout.last, device=at.device) - batch.prompt_len[:, None]
        moved = torch.arange(layout.width, device=at.device) + (place >= at[:, None]) * (copied + 2)[:, None]
        answer_losses = losses.gather(1, moved) * _answer_columns(batch)

        inside = _inside(spliced, at)[:, layout.first :]
        predicted = (inside >= 1) & (inside <= copied[:, None] + 1) & (batch.answer_len > 0)[:, None]
        return answer_losses, (losses * predicted).sum(), predicted.sum()

    def _draw_future(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Where the future is put, where what is copied begins, both as places in the answer from 0, and how much is
        copied: [B] each."""
        draws = torch.rand(3, len(batch), dtype=torch.float64, generator=rng, device=rng.device)
        where, which, how_many = draws.to(batch.tokens.device)
        length = batch.answer_len
        at = (where * length).long() if self.place == "random" else torch.zeros_like(length)
        copied = 1 + (how_many * (length - at).clamp(max=self.span)).long()
        start = at + (which * (length - at - copied + 1)).long()
        return at, start, copied

    def _spliced(self, batch: Batch, at: Tensor, copies: Tensor, copied: Tensor) -> Batch:
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
        return self.continued(prompt, prompt[:, :0], n)

    def sampled(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return None if self.plan else super().sampled(prompt, n, temperature, rng)

    def continued(self, prompt: Tensor, begun: Tensor, n: int) -> Tensor:
        """Greedy continuation [B, n] of an answer that begins with ``begun`` [B, A'], after ``prompt`` [B, P]."""
        if not self.plan:
            return greedy(self.backbone, torch.cat((prompt, begun), 1), n)
        copies, copied = self._write_future(prompt)
        wrote = prompt.new_zeros(len(prompt), n)
        for length in range(self.span + 1):
            rows = (copied == length).nonzero().flatten()
            if len(rows):
                symbols = [prompt.new_full((len(rows), 1), symbol) for symbol in (self.open, self.close)]
                read = (prompt[rows], symbols[0], copies[rows, :length], symbols[1], begun[rows])
                wrote[rows] = greedy(self.backbone, torch.cat(read, 1), n)
        return wrote

    def _write_future(self, prompt: Tensor) -> tuple[Tensor, Tensor]:
        """What the model writes after ``<T>`` [B, span], and how much of it [B] comes before its first ``</T>``."""
        opened = functional.pad(prompt, (0, 1), value=self.open)
        copies = greedy(self.backbone, opened, self.span)
        closed = functional.pad(copies == self.close, (0, 1), value=True)
        return copies, closed.int().argmax(1)

    def forced(self, batch: Batch) -> Tensor:
        if not self.plan:
            return super().forced(batch)
        copies, copied = self._write_future(batch.prompts)
        spliced = self._spliced(batch, torch.zeros_like(copied), copies, copied)
        logits = teacher_forced(self.backbone, spliced.tokens, spliced)
        slots = (copied + 2)[:, None] + torch.arange(batch.layout.width, device=copied.device)
        chosen = logits.gather(1, slots[..., None].expand(-1, -1, logits.shape[-1]))
        return functional.log_softmax(chosen.float(), -1)


def _losses(backbone: Backbone, batch: Batch) -> Tensor:
    """[B, A]: next-token losses of the answer columns, whatever they hold."""
    targets = batch.tokens[:, batch.layout.first : batch.layout.last]
    return cross_entropy(teacher_forced(backbone, batch.tokens, batch), targets)


def _answer_columns(batch: Batch) -> Tensor:
    """[B, A] bool: which of the answer columns hold answer tokens."""
    return batch.in_answer()[:, batch.layout.first : batch.layout.last]


def _inside(spliced: Batch, at: Tensor) -> Tensor:
    """[B, T]: each column's place in what was put in, 0 at ``<T>``."""
    columns = torch.arange(spliced.tokens.shape[1], device=at.device)
    return columns - (spliced.prompt_len + at)[:, None]
