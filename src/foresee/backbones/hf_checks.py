"""What has to be measured on a model of the transformers library before its tables are let go: how it scales
embeddings and logits, and that taking its task rows alone changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foresee.core.errors import RequestError
from foresee.core.seeds import global_stream_from, torch_stream

PROBED = 6
"""Tokens that the check reads."""

CLOSE = 1e-4
"""Largest difference of logits that counts as rounding, as a share of their spread: both are float32."""


SOFT_CAPS = ("final_logit_softcapping", "logits_soft_cap", "output_logit_soft_cap")
"""What configurations call the soft cap of their logits."""


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
def embedding_scale(table: nn.Embedding, whose: str) -> float:
    """The factor that an embedding module applies to the rows of its table (Gemma: sqrt(width)), 1 for most. Raises
    ``RequestError``, which names ``whose`` module it is, where it does anything else to them."""
    tokens = torch.arange(min(16, len(table.weight)))
    given, rows = table(tokens), table.weight[tokens]
    if torch.equal(given, rows):
        return 1.0
    scale = float((given.double() * rows).sum() / (rows.double() ** 2).sum())
    if not torch.allclose(given, rows * scale, rtol=1e-5, atol=1e-8):
        raise RequestError(f"hf: {whose} embeds a token as more than a multiple of its row, which is not supported")
    return scale


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
    """What turns the task rows' scores ``raw`` into the model's own logits ``expected``, both [T, T']. Raises
    ``RequestError``, which names ``whose`` they are, where nothing simple does."""
    if not expected.numel():
        return LogitsForm()
    caps = (getattr(config, name, None) for name in SOFT_CAPS)
    cap = next((float(each) for each in caps if each is not None), None)
    if cap is None:
        before, after = raw.double(), expected.double()
    else:  # a score close to the cap says nothing about the scale
        clear = expected.abs() < 0.9 * cap
        before, after = raw.double()[clear], cap * torch.atanh(expected.double()[clear] / cap)
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
    """Weights of matrix products that one token passes through: a layer that is used twice counts twice, and of a
    mixture of experts only as many as a token is sent to."""
    from transformers.pytorch_utils import Conv1D

    total = sum(
        module.weight.numel()
        for _, module in body.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Linear | Conv1D)
    )
    chosen = getattr(body.config, "num_experts_per_tok", None)
    for name, parameter in body.named_parameters():
        if chosen and "experts" in name and parameter.dim() == 3:  # [experts, outputs, inputs]
            total += parameter.numel() // len(parameter) * min(chosen, len(parameter))
    return total
