"""What objectives share: states and logits of the answer columns, their losses, and reading a shared prefix once.

Column ``layout.first + i`` of a batch's tokens is predicted by the state of the position before it. Answer columns are
``layout.first`` to ``layout.last``; in a ragged batch some of them hold prompts or padding, which no loss counts.

On tasks that put every goal of one graph into a batch, rows differ only after the graph, most of the prompt. Under a
causal mask the common columns have the same states in every row, so a group of rows becomes one row: the common
columns, then each row's own ones, which read the common ones and their own past, at the positions they would have had.
On G(2, 4) with both goals that is 29 positions for two rows instead of 48; what is computed is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from foresee.backbones import Backbone, Cap
from foresee.core.batch import Batch, Layout
from foresee.objectives.base import LossOut

SHARING = frozenset({Cap.VISIBILITY, Cap.POSITIONS})
"""What a backbone needs to read a shared prefix once."""


def answer_states(backbone: Backbone, inputs: Tensor, batch: Batch) -> Tensor:
    """Final states [B, A, D] that predict the batch's answer columns, where ``inputs`` [B, T] is read in its place."""
    return states_from(batch.layout.first - 1, backbone, inputs, batch)


def states_from(start: int, backbone: Backbone, inputs: Tensor, batch: Batch) -> Tensor:
    """Final states [B, K, D] of column ``start``, at most that before the answer, to the last that predicts a token,
    where ``inputs`` [B, T] is read in the batch's place.

    Where rows share a prefix (``layout.shared``), ``inputs`` must too: it may differ from the batch in answers alone.
    """
    inputs = inputs[:, : batch.layout.last - 1]
    states: Tensor
    if can_share_prefix(backbone, batch.layout, len(batch)):
        packed = PackedRows(inputs, batch.layout)
        keep = slice(min(start, packed.common), packed.length) if start else None
        states = backbone(
            backbone.embed(packed.tokens), attend=packed.visible, positions=packed.positions, keep=keep
        )  # fmt: skip
        return packed.unpack(states, start)
    states = backbone(backbone.embed(inputs), keep=slice(start, inputs.shape[1]) if start else None)
    return states


def trunk_and_answer_states(backbone: Backbone, inputs: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The trunk's states (``Backbone.with_trunk``) of all columns [B, T - 1, D], and ``answer_states``."""
    first, inputs = batch.layout.first, inputs[:, : batch.layout.last - 1]
    if not can_share_prefix(backbone, batch.layout, len(batch)):
        return backbone.with_trunk(backbone.embed(inputs), keep=slice(first - 1, inputs.shape[1]))
    packed = PackedRows(inputs, batch.layout)
    trunk, states = backbone.with_trunk(
        backbone.embed(packed.tokens), attend=packed.visible, positions=packed.positions,
        keep=slice(packed.common, packed.length),
    )  # fmt: skip
    return packed.unpack(trunk, 0), packed.unpack(states, first - 1)


def answer_logits(backbone: Backbone, inputs: Tensor, batch: Batch) -> Tensor:
    """Logits [B, A, V] for the batch's answer columns, of the states that ``answer_states`` gives."""
    return backbone.logits(answer_states(backbone, inputs, batch))


def answer_targets(batch: Batch) -> Tensor:
    """[B, A]: the tokens of the answer columns."""
    return batch.tokens[:, batch.layout.first : batch.layout.last]


def target_mask(batch: Batch) -> Tensor:
    """[B, A] bool: which of the answer columns hold answer tokens."""
    return batch.in_answer()[:, batch.layout.first : batch.layout.last]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """[..., V] and [...] -> [...] in float32."""
    flat = functional.cross_entropy(logits.flatten(0, -2).float(), targets.flatten(), reduction="none")
    return flat.view(targets.shape)


def answer_mean(losses: Tensor, batch: Batch) -> Tensor:
    """The sum of the losses [B, K] of answer tokens, divided by the number of all answer tokens of the batch.

    The losses are those of the last K answer columns, all of them or fewer.
    """
    if batch.layout.uniform:
        return losses.sum() / (len(batch) * batch.layout.width)
    last = batch.layout.last
    return (losses * batch.in_answer()[:, last - losses.shape[1] : last]).sum() / batch.answer_len.sum()


def further_loss(logits: Tensor, batch: Batch) -> Tensor:
    """``answer_mean`` of the cross entropy of logits [B, K, V] for the last K answer columns."""
    last = batch.layout.last
    return answer_mean(cross_entropy(logits, batch.tokens[:, last - logits.shape[1] : last]), batch)


def token_losses(losses: Tensor, batch: Batch) -> Tensor:
    """Losses [B, A] of the answer columns as ``LossOut.per_token`` [B, T]; those of other tokens must be zero."""
    return functional.pad(losses.detach(), (batch.layout.first, batch.tokens.shape[1] - batch.layout.last))


def answer_loss(logits: Tensor, batch: Batch, part: str, *, weights: Tensor | None = None) -> LossOut:
    """Mean cross entropy over the batch's answer tokens, from logits [B, A, V] of the answer columns.

    ``weights`` [B, A] (or what broadcasts to it) multiply the tokens' losses in the mean, whose divisor stays the
    number of answer tokens, so that weights of one change nothing. ``per_token`` holds the losses without weights.
    """
    losses = cross_entropy(logits, answer_targets(batch))
    if not batch.layout.uniform:
        losses = losses * target_mask(batch)
    total = answer_mean(losses if weights is None else losses * weights, batch)
    return LossOut(total, {part: total}, token_losses(losses, batch))


def answer_log_probs(logits: Tensor, batch: Batch) -> Tensor:
    """What ``Objective.forced`` gives, from logits [B, A, V]; raises ``ValueError`` on a ragged batch."""
    return functional.log_softmax(logits.float(), -1).view(*batch.answers.shape, -1)


def can_share_prefix(backbone: Backbone, layout: Layout, rows: int) -> bool:
    """Whether the batch says that its rows share a prefix, and the backbone can make use of it."""
    if layout.group <= 1 or layout.shared <= 1 or rows % layout.group or not backbone.has >= SHARING:
        return False
    common = min(layout.shared, layout.first - 1)
    packed = common + layout.group * (layout.last - 1 - common)
    return backbone.widest_mask is None or packed <= backbone.widest_mask


class PackedRows:
    """Inputs [B, T], T = ``layout.last`` - 1, with each group of rows packed into one row: the ``common`` columns, then
    the own ones of each row. ``tokens`` and ``positions`` are its columns, ``visible`` [1, P, P] says which of them
    each reads, ``length`` is P."""

    def __init__(self, inputs: Tensor, layout: Layout) -> None:
        self.rows, columns = inputs.shape
        self.group = layout.group
        # The last prompt column predicts the first answer token of each row, so it is never read in common.
        self.common = min(layout.shared, layout.first - 1)
        self.own = columns - self.common
        grouped = inputs.view(self.rows // self.group, self.group, columns)
        self.tokens = torch.cat((grouped[:, 0, : self.common], grouped[:, :, self.common :].flatten(1)), 1)
        self.length = self.tokens.shape[1]

        index = torch.arange(self.length, device=inputs.device)
        # Common columns belong to row -1, which everyone reads.
        row = torch.where(index < self.common, -1, (index - self.common) // self.own)
        self.positions = torch.where(index < self.common, index, self.common + (index - self.common) % self.own)
        same = (row[None, :] == row[:, None]) | (row[None, :] == -1)
        self.visible = (same & (index[None, :] <= index[:, None]))[None]

    def unpack(self, states: Tensor, start: int) -> Tensor:
        """States [B / group, K, D] of the last K packed columns, all own ones among them, -> [B, T - start, D] of each
        row's columns from ``start`` on."""
        shared = states.shape[1] - self.group * self.own
        own = states[:, shared:].reshape(self.rows, self.own, -1)
        if start >= self.common:
            return own[:, start - self.common :]
        common = states[:, None, shared - self.common + start : shared].expand(-1, self.group, -1, -1)
        return torch.cat((common.flatten(0, 1), own), 1)
