"""Insertion language model: tokens are inserted anywhere, and the network chooses place and token together (ILM).

What is left of the answer moves together, so that nothing shows where a token is missing; the state of each token left
says what to insert right after it. Easy tokens can come first, as in masked diffusion, but one at a time, at places
that shift as the answer grows.

Family: other orders and masked inputs.
Source: Patel et al. 2025, arXiv 2505.05755, as its code (xlm-core) builds it.
Loss: of a row's l answer tokens n ~ U{0 ... l} are dropped, any n alike, and what is left is read in both directions;
the last prompt token stands for the place before the answer. A dropped token v after the last token left s has loss
``-log p(s, v)``, p one softmax over all places and symbols: the mean over a row's dropped tokens. A classifier on the
last prompt token says whether anything was dropped ("stop"). Both are means over rows by their number of answer tokens.
Decoding: n passes, each inserting the likeliest pair of place and token. No cache.
Dropped: the stop classifier, as the answer's length is given.
Deviations: the code has tokens of its own at the answer's beginning and for the classifier; here the last prompt token
is both. Its star graphs draw a place of the two likeliest, then take a token; here the likeliest pair.
Drawing:
    fed                            p1 p2 p3 a1 a4
    title                          one draw: a2 and a3 are dropped
    reads                          full
    inserted after it (insertion)  . . {} {a2,a3} {}
    ~anything missing? (stop)      . . yes . .
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Batch, are_batched
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import LossOut, Objective, Trace, draw_weights, objectives
from foresee.objectives.teacher_forcing import answer_mean, answer_targets, target_mask, token_losses


def draw_dropped(batch: Batch, rng: torch.Generator) -> tuple[Tensor, int]:
    """Which of the answer columns are dropped [B, A], and a number of tokens that every row drops at least.

    The number is known without asking a device: 0 where ``rng`` lies on one, where rows differ in length, and where
    several networks draw at once.
    """
    answered = target_mask(batch)
    share = torch.rand(len(batch), 1, dtype=torch.float64, generator=rng, device=rng.device)
    order = torch.rand(answered.shape, generator=rng, device=rng.device).to(answered.device)
    number = (share.to(answered.device) * (batch.answer_len[:, None] + 1)).long()
    rank = order.masked_fill(~answered, 2.0).argsort(1).argsort(1)
    known = batch.layout.uniform and share.device.type == "cpu" and not are_batched()
    least = int(share.min() * (batch.layout.width + 1)) if known else 0
    return rank < number, least


@objectives.register("insertion")
class Insertion(Objective):
    """Needs LOOKAHEAD and VISIBILITY to read a shortened answer in both directions, and POSITIONS to know its order."""

    summary = "drop random answer tokens, and predict which to insert after which of those left (ILM)"
    batchable = True
    recordable = True
    needs = frozenset({Cap.LOOKAHEAD, Cap.VISIBILITY, Cap.POSITIONS})
    order = "parallel"
    needs_length = True
    usage = """\
# From nothing, reading in both directions: each pass inserts the likeliest token where it is likeliest.
answer = prompt.input_ids[:, :0]
for _ in range({length}):
    read = torch.cat((prompt.input_ids, answer), 1)
    everything = torch.zeros(1, 1, read.shape[1], read.shape[1])
    scores = model(read, attention_mask=everything).logits[0, -answer.shape[1] - 1 :, tokens]
    place, best = divmod(int(scores.argmax()), len(tokens))
    answer = torch.cat((answer[:, :place], tokens[best].view(1, 1), answer[:, place:]), 1)"""

    def __init__(self, backbone: Backbone, vocab: Vocabulary, generator: torch.Generator) -> None:
        super().__init__(backbone, vocab, generator)
        self.stop_head = draw_weights(generator, 1, backbone.width)

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        first, answers = batch.layout.first, answer_targets(batch)
        dropped, least = draw_dropped(batch, rng)
        number = dropped.sum(1)

        # Tokens that are left move to the front; the dropped ones, now behind them, are read by nobody.
        together = dropped.int().argsort(dim=1, stable=True)
        tokens = torch.cat((batch.tokens[:, :first], answers.gather(1, together)), 1)[:, : batch.layout.last - least]
        columns = torch.arange(tokens.shape[1], device=tokens.device)
        left = columns < (batch.prompt_len + batch.answer_len - number)[:, None]
        attend = left[:, None].expand(-1, len(columns), -1)
        states = self.backbone(self.backbone.embed(tokens), attend=attend, keep=slice(first - 1, len(columns)))

        logits = self.backbone.logits(states)
        slots = (left & (columns >= batch.prompt_len[:, None] - 1))[:, first - 1 :]
        log_probs = logits.float().masked_fill(~slots[..., None], -math.inf).flatten(1).log_softmax(-1)
        slot = (~dropped).cumsum(1)  # how many of the columns before a dropped one are left
        losses = -log_probs.gather(1, slot * logits.shape[-1] + answers)
        losses = losses.masked_fill(~dropped, 0.0) * (batch.answer_len / number.clamp(min=1))[:, None]

        before = states[torch.arange(len(batch), device=number.device), batch.prompt_len - first]
        score = functional.linear(before, self.stop_head)[:, 0].float()
        stop = functional.binary_cross_entropy_with_logits(score, (number > 0).float(), reduction="none")
        parts = {
            "insertion": answer_mean(losses, batch),
            "stop": (stop * batch.answer_len).sum() / batch.answer_len.sum(),
        }
        return LossOut(parts["insertion"] + parts["stop"], parts, token_losses(losses, batch))

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        answer = prompt[:, :0]
        for slot, logits in self._insertions(prompt, n):
            answer = insert(answer, slot, logits.argmax(-1))
        return answer

    def _insertions(self, prompt: Tensor, n: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The place [B] of each of ``n`` insertions, and the logits [B, V] of the token there, of which the largest is
        inserted."""
        answer, rows = prompt[:, :0], torch.arange(len(prompt), device=prompt.device)
        for _ in range(n):
            tokens = torch.cat((prompt, answer), 1)
            keep = slice(prompt.shape[1] - 1, tokens.shape[1])
            logits = self.backbone.logits(self.backbone(self.backbone.embed(tokens), attend="full", keep=keep))
            slot = logits.amax(-1).argmax(-1)
            yield slot, logits[rows, slot]
            answer = insert(answer, slot, logits[rows, slot].argmax(-1))

    def forced(self, batch: Batch) -> None:
        return None

    def trace(self, prompt: Tensor, n: int) -> Trace:
        """``log_probs`` are those of tokens at the place that was chosen."""
        rows, passes = list[Tensor](), list[int]()
        for number, (slot, logits) in enumerate(self._insertions(prompt, n), start=1):
            rows.insert(int(slot), logits[0].float().log_softmax(-1))
            passes.insert(int(slot), number)
        return Trace(torch.stack(rows), torch.tensor(passes, device=prompt.device))


def insert(answer: Tensor, slot: Tensor, token: Tensor) -> Tensor:
    """Answers [B, n] with each row's token [B] put before place ``slot`` [B], [B, n + 1]."""
    columns = torch.arange(answer.shape[1] + 1, device=answer.device)
    moved = functional.pad(answer, (0, 1)).gather(1, columns - (columns > slot[:, None]).long())
    return torch.where(columns == slot[:, None], token[:, None], moved)
