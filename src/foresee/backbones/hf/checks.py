"""What is tried on a model of the transformers library before it is used: how it scales embeddings and logits, whether
training mode draws, and by which way it may decode step by step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones.hf.reading import REFUSALS
from foresee.core.errors import RequestError
from foresee.core.seeds import global_stream_from, torch_stream

PROBED = 6
"""Tokens that the check of the logits reads."""
CLOSE = 1e-4
"""Largest relative difference of float32 logits or states that counts as rounding."""
SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""What configurations call the soft cap of their logits."""
CACHE_NAMES = ("past_key_values", "cache_params")
"""What families call the cache in their ``forward`` and its output."""
MOST_OWN = 8
"""Columns of their own, read one after the other, up to which rows that begin alike are read as one."""

Read = Callable[[Tensor], Tensor]


@torch.no_grad()
def embedding_scale(table: nn.Embedding, whose: str) -> float:
    """The factor that an embedding module applies to the rows of its table (Gemma: sqrt(width)), 1 for most. Raises
    ``RequestError`` where it does anything else to them."""
    tokens = torch.arange(min(16, len(table.weight)))
    given, rows = table(tokens), table.weight[tokens]
    if torch.equal(given, rows):
        return 1.0
    scale = float((given.double() * rows).sum() / (rows.double() ** 2).sum())
    if not torch.allclose(given, rows * scale, rtol=1e-5, atol=1e-8):
        raise RequestError(f"hf: {whose} embeds a token as more than a multiple of its row, which is not supported")
    return scale


@dataclass(frozen=True)
class LogitsForm:
    """What a family does to the head's output: ``scale`` (Cohere, Granite), then a soft cap (Gemma 2): cap * tanh(z /
    cap)."""

    scale: float = 1.0
    cap: float | None = None

    def __call__(self, raw: Tensor) -> Tensor:
        scaled = raw if self.scale == 1.0 else raw * self.scale
        return scaled if self.cap is None else self.cap * torch.tanh(scaled / self.cap)


@torch.no_grad()
def own_logits(model: Any, ids: tuple[int | None, ...]) -> Tensor:
    """[T, T'] logits of the untouched ``model`` on the first ``PROBED`` of the tokens ``ids``, for all of ``ids`` that
    are known."""
    known = [token for token in ids if token is not None]
    if not known:
        return torch.empty(0, 0)
    logits: Tensor = model(input_ids=torch.tensor([known[:PROBED]]), use_cache=False).logits[0]
    return logits[:, torch.tensor(known)]


@torch.no_grad()
def fit_logits(raw: Tensor, expected: Tensor, config: Any, whose: str) -> LogitsForm:
    """Finds what turns the task rows' scores ``raw`` into the model's own logits ``expected``, both [T, T']. Raises
    ``RequestError`` where nothing simple does."""
    caps = (getattr(config, name, None) for name in SOFT_CAPS)
    cap = next((float(each) for each in caps if each is not None), None)
    before, after = raw.double(), expected.double()
    if cap is not None:  # a score close to the cap says nothing about the scale
        clear = expected.abs() < 0.9 * cap
        before, after = before[clear], cap * torch.atanh(after[clear] / cap)
    scale = float((before * after).sum() / (before**2).sum())
    form = LogitsForm(1.0 if not math.isfinite(scale) or abs(scale - 1) < 1e-5 else scale, cap)
    difference = float((form(raw) - expected).abs().max())
    if not difference <= CLOSE * float(expected.std(correction=0)):
        raise RequestError(
            f"hf: {whose} computes its logits in a way that its rows alone do not give (they differ by "
            f"{difference:.2g}), so it is not supported"
        )
    return form


@torch.no_grad()
def refuse_randomness(module: nn.Module, read: Callable[[], Tensor], whose: str) -> None:
    """Raises ``RequestError`` where ``module`` gives something else in training mode, as with a dropout left on."""
    with global_stream_from(torch_stream("hf", "training mode")):
        module.eval()
        still = read()
        module.train()
        training = read()
        module.eval()
    if not torch.allclose(still, training, rtol=1e-4, atol=1e-5):
        raise RequestError(f"hf: {whose} computes something else in training mode, with every dropout at 0")


def matrix_parameters(body: Any) -> int:
    """Counts the weights of matrix products that one token passes through: a layer that is used twice counts twice, and
    of a mixture of experts only as many as a token is sent to."""
    from transformers.pytorch_utils import Conv1D

    modules = [module for _, module in body.named_modules(remove_duplicate=False)]
    total = sum(module.weight.numel() for module in modules if isinstance(module, nn.Linear | Conv1D))
    chosen = getattr(body.config, "num_experts_per_tok", None)
    for name, parameter in body.named_parameters():
        if chosen and "experts" in name and parameter.dim() == 3:  # [experts, outputs, inputs]
            total += parameter.numel() // len(parameter) * min(chosen, len(parameter))
    return total


# Decoding -------------------------------------------------------------------------------------------------------------


@dataclass
class DecodingState:
    """``kept`` is a cache of the library, or all inputs so far [B, T, D]."""

    kept: Any
    length: int


class Decoder:
    """Decodes one token at a time with the cache that ``body`` makes for itself and calls ``name`` (given more, Mamba
    and its like restart). Without a name the whole sequence is read again at every step. Where it ``shares``, rows one
    after the other that begin alike, as those of one graph, are read once until they part."""

    def __init__(self, body: Callable[..., Any], read: Read, name: str | None = None, shares: bool = False) -> None:
        self.body, self.read, self.name, self.shares = body, read, name, shares

    def start(self, x: Tensor) -> tuple[Tensor, DecodingState]:
        """[B, T, D] -> (final state of the last position [B, D], state)."""
        if not self.shares or min(x.shape[:2]) < 2:
            return self._continue(x, x.shape[1])
        alike = (x[1:] == x[:-1]).all(-1).cumprod(1).sum(1)  # columns that a row has in common with the one before
        common = min(int(alike.max()), x.shape[1] - 1)
        first = functional.pad(alike < common, (1, 0), value=True)
        if common == 0 or x.shape[1] - common > MOST_OWN or 2 * int(first.sum()) > len(x):
            return self._continue(x, x.shape[1])
        _, state = self._continue(x[first, :common], common)
        state.kept.reorder_cache(first.cumsum(0) - 1)
        for position in range(common, x.shape[1]):
            hidden, state = self.step(x[:, position], state)
        return hidden, state

    def step(self, x: Tensor, state: DecodingState) -> tuple[Tensor, DecodingState]:
        """[B, D] and a state -> (final state [B, D], state)."""
        if self.name is None:
            return self.start(torch.cat((state.kept, x[:, None]), 1))
        return self._continue(x[:, None], state.length + 1, **{self.name: state.kept})

    def _continue(self, x: Tensor, length: int, **cache: Any) -> tuple[Tensor, DecodingState]:
        if self.name is None:
            return self.read(x)[:, -1], DecodingState(x, length)
        out = self.body(inputs_embeds=x, use_cache=True, return_dict=True, **cache)
        return out[0][:, -1], DecodingState(out[self.name], length)


def choose_decoder(body: Any, read: Read, x: Tensor) -> Decoder:
    """Decodes with a cache where ``body`` has one that agrees with ``read`` on x [B, T, D], else by reading again: some
    models keep their state within themselves, or compute something else with a cache. Whether its cache can be handed
    on to several rows is found in the same way."""
    taken = inspect.signature(body.forward).parameters
    with_cache = (Decoder(body, read, name) for name in CACHE_NAMES if name in taken)
    found = next((each for each in with_cache if agrees(each, x)), None)
    if found is None:
        return Decoder(body, read)
    sharing = Decoder(body, read, found.name, shares=True)
    return sharing if agrees(sharing, torch.cat((x[:1, :-1].expand(len(x), -1, -1), x[:, -1:]), 1)) else found


@torch.no_grad()
def agrees(decoder: Decoder, x: Tensor) -> bool:
    """Whether going on token by token after a prefix of x [B, T, D], in turns with the same of another sequence, gives
    what reading at once gives for both. T is at least 2."""
    prefix, wholes = x.shape[1] // 2, (x, x.flip(-1))
    expected = torch.stack([decoder.read(whole) for whole in wholes])
    try:
        begun = [decoder.start(whole[:, :prefix]) for whole in wholes]
        found, states = [[hidden] for hidden, _ in begun], [state for _, state in begun]
        for position in range(prefix, x.shape[1]):
            for which, whole in enumerate(wholes):
                hidden, states[which] = decoder.step(whole[:, position], states[which])
                found[which].append(hidden)
    except REFUSALS:
        return False
    decoded = torch.stack([torch.stack(each, 1) for each in found])
    return bool((decoded - expected[:, :, prefix - 1 :]).abs().max() <= CLOSE * expected.abs().max())
