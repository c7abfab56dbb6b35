"""sigma-GPT: next-token prediction in random orders, where every token carries the place that comes next.

For each row a random order of the answer is drawn anew; the drawing shows one of 24. Every token is fed with its own
place and the place to predict next. The orders include the reversed one.

Family: other orders and masked inputs.
Source: Pannatier, Courdier & Fleuret 2024, arXiv 2404.09562.
Loss: next-token's in that order, causal in it, the prompt first and in order. Inputs are E(x) + Pos(its own place) +
Pos'(the place of the next token); the last prompt token carries Pos' of the first answer token to come. Pos is the
backbone's own, learned or rotary. With ``table=separate`` Pos' is a table [T, D]; with ``table=shared`` one table
[T, D / 2] holds both places, own and next, side by side, and is added to what the backbone does with its own.
Decoding: ``decode=left`` as next-token; ``goal-first`` from the last place to the first; ``confident`` puts the same
question to every open place in each pass and fills in the one whose likeliest token is likeliest.
Dropped: nothing.
Deviations: the authors' code for text has the shared table alone, with no other positions, and that for mazes joins
sinusoids in the same way; its orders at decoding are random or from left to right. Their curriculum of orders is left
out, since a loss knows no step, and so is their decoding in bursts.
Drawing:
    fed                        p1 p2 p3 a3 a1 a4
    next in order (any-order)  . . a3 a1 a4 a2
    @own place                 0 1 2 5 3 6
    @place to predict          1 2 5 3 6 4
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.vocabulary import Vocabulary
from foresee.objectives.base import Bounds, LossOut, Objective, Trace, draw_weights, objectives
from foresee.objectives.decoding import Choose, choose_at, choose_likeliest, decode, trace_passes
from foresee.objectives.reversed import flip_answers
from foresee.objectives.teacher_forcing import answer_log_probs, answer_loss

_ORDERS: dict[str, Literal["forward", "backward", "parallel"]] = {
    "left": "forward", "goal-first": "backward", "confident": "parallel",
}  # fmt: skip
"""In which order each way of decoding decides; ``confident`` can be forced in none."""


def draw_order(batch: Batch, rng: torch.Generator) -> Tensor:
    """[B, T] int64: the column whose token stands at each slot. Answers are in random order; all else stays."""
    first, last = batch.layout.first, batch.layout.last
    columns = torch.arange(batch.tokens.shape[1], device=batch.tokens.device).repeat(len(batch), 1)
    # Float64 keeps the draws apart when the prompt's length is added. An answer's keys lie between those of the last
    # prompt token and of the first padding.
    draws = torch.rand(len(batch), last - first, generator=rng, device=rng.device, dtype=torch.float64)
    keys = draws.to(columns.device) + batch.prompt_len[:, None]
    keys = torch.where(batch.in_answer()[:, first:last], keys, columns[:, first:last].double())
    return torch.cat((columns[:, :first], keys.argsort(1) + first, columns[:, last:]), 1)


@objectives.register("any-order", later=("table", "decode"))
class AnyOrder(Objective):
    """Needs POSITIONS: slots are not places here, so each token must be read at the place it came from. It needs
    neither LOOKAHEAD nor VISIBILITY: the order is that of the slots, which are read causally. Only decoding the surest
    place first needs VISIBILITY, since it asks for many places at once.

    Options:
        context: the longest sequence that the table of places to predict holds, at most the backbone's longest
        table: `separate` for places to predict alone, or one `shared` with a token's own place
        decode: from the `left`, `goal-first` (the last place, then backwards), or the most `confident` place first
    """

    summary = "next-token in random orders, each input with the position to predict next (sigma-GPT)"
    batchable = True
    recordable = True
    backbone_alone = False
    needs = frozenset({Cap.POSITIONS})
    undecayed = frozenset({"target_table"})

    def __init__(
        self,
        backbone: Backbone,
        vocab: Vocabulary,
        generator: torch.Generator,
        *,
        context: Annotated[int, Bounds(1)] = 1024,
        table: Literal["separate", "shared"] = "separate",
        decode: Literal["left", "goal-first", "confident"] = "left",
    ) -> None:
        super().__init__(backbone, vocab, generator)
        if table == "shared" and backbone.width % 2:
            raise RequestError(f"any-order: table=shared halves the backbone's width, so {backbone.width} must be even")
        if decode == "confident" and Cap.VISIBILITY not in backbone.has:
            raise RequestError(
                f"any-order: decode=confident needs VISIBILITY ({Cap.VISIBILITY.value}), which this backbone was "
                "measured not to have; decode=left and decode=goal-first do without it"
            )
        self.shared = table == "shared"
        self.order = _ORDERS[decode]
        self.needs_length = decode != "left"
        places = context if backbone.longest is None else min(context, backbone.longest)
        self.target_table = draw_weights(generator, places, backbone.width // 2 if self.shared else backbone.width)

    @classmethod
    def looks_ahead(cls, options: Mapping[str, Any]) -> bool:
        return _ORDERS[options["decode"]] == "forward"

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        order = draw_order(batch, rng)
        reordered = dataclasses.replace(batch, tokens=batch.tokens.gather(1, order))
        out = answer_loss(self._logits(reordered, order), reordered, "any-order")
        return LossOut(out.total, out.parts, out.per_token.scatter(1, order, out.per_token))

    def _embed(self, tokens: Tensor, places: Tensor, following: Tensor) -> Tensor:
        """[..., D]: ``tokens`` that stand at ``places``, each with the place to predict next; both may broadcast."""
        if self.shared:
            both = torch.stack((places, following), -1)
            return self.backbone.embed(tokens) + functional.embedding(both, self.target_table).flatten(-2)
        return self.backbone.embed(tokens) + functional.embedding(following, self.target_table)

    def _logits(self, batch: Batch, order: Tensor) -> Tensor:
        """[B, A, V] for the answer's slots, from tokens that stand in ``order`` [B, T] (as ``draw_order`` gives it)."""
        first, last = batch.layout.first, batch.layout.last
        self._refuse_length(last)
        places = order[:, : last - 1]
        x = self._embed(batch.tokens[:, : last - 1], places, order[:, 1:last])
        return self.backbone.logits(self.backbone(x, positions=places, keep=slice(first - 1, last - 1)))

    def _refuse_length(self, length: int) -> None:
        places = len(self.target_table)
        if length > places:
            raise RequestError(
                f"any-order: a sequence of {length} tokens does not fit the {places} places of its table; set "
                f"context={length} or more, here and in the backbone"
            )

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        if self.order == "forward" or n == 0:
            return self._decode(prompt, n, choose_likeliest)
        self._refuse_length(prompt.shape[1] + n)
        answer = prompt.new_zeros(len(prompt), n)
        for _ in self._fill(prompt, answer):
            pass
        return answer

    def sample(self, prompt: Tensor, n: int, temperature: float, rng: torch.Generator) -> Tensor | None:
        return self._decode(prompt, n, choose_at(temperature, rng)) if self.order == "forward" else None

    def _decode(self, prompt: Tensor, n: int, choose: Choose) -> Tensor:
        """From left to right."""
        if n == 0:
            return prompt[:, :0]
        length = prompt.shape[1]
        self._refuse_length(length + n)
        places = torch.arange(length + n, device=prompt.device)
        x = self._embed(prompt, places[:length], places[1 : length + 1])
        return decode(
            self.backbone, x, n, choose, embed=lambda token, place: self._embed(token, places[place], places[place + 1])
        )

    def _fill(self, prompt: Tensor, answer: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Fills in an ``answer`` [B, n], one place of each row a pass; each pass gives the places filled [B, 1] and the
        log-probabilities [B, 1, V] that their tokens were chosen by."""
        first, n = prompt.shape[1], answer.shape[1]
        tokens, places = prompt, torch.arange(first, device=prompt.device).expand_as(prompt)
        left = torch.arange(first, first + n, device=prompt.device).expand_as(answer)
        while left.shape[1]:
            asked = left[:, -1:] if self.order == "backward" else left
            log_probs = self._ask(tokens, places, asked)
            surest = log_probs.amax(-1).argmax(1, keepdim=True)
            place, log_probs = asked.gather(1, surest), log_probs.take_along_dim(surest[..., None], 1)
            token = log_probs.argmax(-1)
            answer.scatter_(1, place - first, token)
            tokens, places = torch.cat((tokens, token), 1), torch.cat((places, place), 1)
            left = left[left != place].view(len(left), left.shape[1] - 1)
            yield place - first, log_probs

    def _ask(self, tokens: Tensor, places: Tensor, asked: Tensor) -> Tensor:
        """[B, K, V] log-probabilities of the token at each of the places ``asked`` [B, K], given ``tokens`` [B, T] that
        stand at ``places``: the last token is read K times, by itself, with one place to predict each."""
        known, copies = tokens.shape[1] - 1, asked.shape[1]
        own = torch.cat((places, places[:, -1:].expand(-1, copies - 1)), 1)
        read = torch.cat((tokens, tokens[:, -1:].expand(-1, copies - 1)), 1)
        slots = torch.arange(known + copies, device=tokens.device)
        visible = (slots < known) & (slots <= slots[:, None]) | (slots == slots[:, None])
        states = self.backbone(
            self._embed(read, own, torch.cat((places[:, 1:], asked), 1)),
            attend="causal" if copies == 1 else visible[None],
            positions=own,
            keep=slice(known, known + copies),
        )
        return self.backbone.logits(states).float().log_softmax(-1)

    def forced(self, batch: Batch) -> Tensor | None:
        """From left to right or from right to left, as ``generate``."""
        if self.order == "parallel":
            return None
        order = torch.arange(batch.tokens.shape[1], device=batch.tokens.device).expand_as(batch.tokens)
        if self.order == "forward":
            return answer_log_probs(self._logits(batch, order), batch)
        flipped = flip_answers(batch)
        order = flip_answers(dataclasses.replace(batch, tokens=order)).tokens
        return answer_log_probs(self._logits(flipped, order), flipped).flip(1)

    def trace(self, prompt: Tensor, n: int) -> Trace | None:
        if self.order != "parallel":
            return None
        self._refuse_length(prompt.shape[1] + n)
        return trace_passes(self._fill(prompt, prompt.new_zeros(1, n)))
