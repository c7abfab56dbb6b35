"""LoRA adapters (Hu et al. 2021) through ``peft``: low-rank updates of the linear layers, the rest frozen.

W x becomes W x + (alpha / rank) B A x, with A drawn and B zero, so that training starts from the checkpoint's function.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from foresee.backbones.hf_loading import first_line
from foresee.core.errors import RequestError
from foresee.core.seeds import global_stream_from

STATE_MATRIX = "A_log"
"""The parameter by which a state-space mixer of Mamba's kind is known."""

READ_AS_MODULE = "in_proj"
"""The one linear layer of such a mixer that is always called. The weights of the others are read past their modules, by
fused kernels and, of ``dt_proj``, by the plain implementation too, so that an adapter on them would be ignored."""


def add_adapters(body: Any, rank: int, alpha: int, generator: torch.Generator) -> None:
    """Puts adapters into ``adapted_layers`` of ``body`` and freezes everything else. They are float32 whatever the
    weights are, and drawn from ``generator`` alone. Raises ``RequestError`` where ``peft`` is missing or refuses.
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise RequestError(
            f"hf: lora={rank} needs the package peft, which is not installed; pip install 'foresee[lora]' adds it"
        ) from None
    from transformers.pytorch_utils import Conv1D

    wanted = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=adapted_layers(body),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in body.modules()),
    )  # fmt: skip
    try:
        with global_stream_from(generator):
            inject_adapter_in_model(wanted, body)
    except ValueError as error:
        raise RequestError(f"hf: lora={rank} does not fit {body.config.model_type}: {first_line(error)}") from None
    for name, parameter in body.named_parameters():
        parameter.requires_grad_("lora_" in name)


def adapted_layers(body: Any) -> list[str]:
    """Names of all linear layers; of a state-space mixer, of the one whose adapter would be heard."""
    from transformers.pytorch_utils import Conv1D

    mixers = [name for name, module in body.named_modules() if STATE_MATRIX in dict(module.named_parameters("", False))]
    return [
        name
        for name, module in body.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and (name.rpartition(".")[0] not in mixers or name.endswith(READ_AS_MODULE))
    ]


def merged_state(body: Any) -> dict[str, Tensor]:
    """The weights of ``body`` under the names that it has without adapters, each adapter added to its layer."""
    from peft.tuners.lora import LoraLayer

    layers: dict[str, Any] = {name: module for name, module in body.named_modules() if isinstance(module, LoraLayer)}
    deltas = {f"{name}.weight": layer.get_delta_weight("default").detach() for name, layer in layers.items()}
    state: dict[str, Tensor] = {}
    for name, value in body.state_dict().items():
        plain = name.replace(".base_layer.", ".")
        if ".lora_" not in name:
            state[plain] = value + deltas[plain].to(value.dtype) if plain in deltas else value
    return state
