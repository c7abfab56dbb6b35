"""Reading a checkpoint of the transformers library: configuration, weights, and adapters on them.

Nothing is unpickled: weights are read from safetensors alone. LoRA adapters (Hu et al. 2021) come from ``peft``: W x
becomes W x + (alpha / rank) B A x, with A drawn and B zero, so that training starts from the checkpoint's function.
"""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from foresee.core.checkpoint_files import WEIGHT_FILES, matching_files, quiet, refusing
from foresee.core.errors import RequestError, require_package
from foresee.core.seeds import global_stream_from, torch_stream

PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")

STATE_MATRIX = "A_log"
"""The parameter by which a state-space mixer of Mamba's kind is known."""

READ_AS_MODULE = "in_proj"
"""The one linear layer of such a mixer that is always called. The weights of the others are read past their modules, by
fused kernels and, of ``dt_proj``, by the plain implementation too, so that an adapter on them would be ignored."""


def read_config(folder: Path, path: str) -> Any:
    """Reads the configuration of a causal language model. Raises ``RequestError`` where it is none, or is one that this
    library cannot build by itself."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    with refusing(f"{folder / 'config.json'} cannot be read", ValueError, OSError):
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    if kind not in CONFIG_MAPPING:
        if isinstance(raw, dict) and "auto_map" in raw:
            raise RequestError(
                f"hf: {path} needs code of its own (model_type={kind!r}), which is never run; "
                "give a checkpoint of an architecture that transformers has"
            )
        raise RequestError(f"hf: {path}: transformers has no architecture of model_type={kind!r}")
    if "quantization_config" in raw:
        raise RequestError(f"hf: {path} holds quantised weights, which cannot be trained; give the unquantised one")
    with refusing(f"{folder / 'config.json'} cannot be used", ValueError, KeyError, TypeError, OSError):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if config.is_encoder_decoder:
        raise RequestError(f"hf: {path} ({kind}) is an encoder-decoder; give a causal language model")
    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        raise RequestError(f"hf: {path} ({kind}) is not a causal language model")
    return config


def without_dropout(config: Any) -> Any:
    """A copy of a configuration with every dropout and jitter at 0, in nested configurations too (GPT-2's is 0.1)."""
    from transformers import PreTrainedConfig

    still = deepcopy(config)
    todo = [still]
    while todo:
        each = todo.pop()
        for name, value in list(vars(each).items()):
            if isinstance(value, PreTrainedConfig):
                todo.append(value)
            elif isinstance(value, int | float) and ("drop" in name or "jitter" in name):
                setattr(each, name, type(value)(0))
    return still


def load_model(folder: Path, config: Any, attention: str | None, path: str) -> Any:
    """Loads the causal language model with the checkpoint's weights in float32, on the CPU. Raises ``RequestError``
    where weights are missing, pickled or damaged."""
    if not matching_files(folder, WEIGHT_FILES):
        if matching_files(folder, PICKLED):
            raise RequestError(
                f"hf: {path} holds pickled weights alone, and nothing is unpickled here; where you trust them, convert "
                "them once with AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)"
            )
        raise RequestError(f"hf: {path} holds no model.safetensors; random=true starts from its architecture alone")
    _refuse_unbuildable(config, attention, path)
    errors = (SafetensorError, ValueError, RuntimeError, OSError, ImportError)
    with (
        refusing(f"the weights of {path} cannot be loaded", *errors), quiet(),
        global_stream_from(torch_stream("hf", "loading")),
    ):  # fmt: skip
        model, report = _auto().from_pretrained(
            folder, config=deepcopy(config), dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
            local_files_only=True, output_loading_info=True, **_chosen(attention),
        )  # fmt: skip
    if missing := sorted(report["missing_keys"]):
        raise RequestError(f"hf: {path} lacks the weights {', '.join(map(repr, missing[:3]))} of its own architecture")
    for name, weight in model.named_parameters():
        if not bool(weight.isfinite().all()):
            raise RequestError(f"hf: {path}: weight {name!r} of the checkpoint holds NaN or infinity")
    return model


def fresh_model(config: Any, attention: str | None, generator: torch.Generator, path: str) -> Any:
    """Builds the causal language model with the architecture's own initialisation, drawn from ``generator`` alone, in
    float32 on the CPU."""
    _refuse_unbuildable(config, attention, path)
    with quiet(), global_stream_from(generator):
        return _auto().from_config(deepcopy(config), dtype=torch.float32, **_chosen(attention))


def _refuse_unbuildable(config: Any, attention: str | None, path: str) -> None:
    """Builds the model without memory: finds sizes that do not fit and an attention that it does not support."""
    asked = "" if attention is None else f" with attention={attention}"
    errors = (ValueError, RuntimeError, ImportError, KeyError, TypeError)
    with (
        refusing(f"{path} ({config.model_type}){asked} cannot be built", *errors), quiet(),
        global_stream_from(torch_stream("hf", "building")), torch.device("meta"),
    ):  # fmt: skip
        built = _auto().from_config(deepcopy(config), **_chosen(attention))
    if attention is not None and built.config._attn_implementation != attention:
        raise RequestError(
            f"hf: {path} ({config.model_type}) uses attention={built.config._attn_implementation} where "
            f"attention={attention} was asked for"
        )


def _auto() -> Any:
    # Untyped, and slow to import: most commands never need it.
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM


def _chosen(attention: str | None) -> dict[str, str]:
    return {} if attention is None else {"attn_implementation": attention}


# Adapters -------------------------------------------------------------------------------------------------------------


def add_adapters(body: Any, rank: int, alpha: int, generator: torch.Generator) -> None:
    """Puts adapters on the linear layers of ``body`` and freezes everything else. They are float32 whatever the weights
    are, and drawn from ``generator`` alone. Raises ``RequestError`` where ``peft`` is missing or refuses."""
    require_package("peft", "lora", f"hf: lora={rank}")
    from peft import LoraConfig, inject_adapter_in_model
    from transformers.pytorch_utils import Conv1D

    mixers = [name for name, module in body.named_modules() if STATE_MATRIX in dict(module.named_parameters("", False))]
    adapted = [
        name
        for name, module in body.named_modules()
        if isinstance(module, nn.Linear | Conv1D)
        and (name.rpartition(".")[0] not in mixers or name.endswith(READ_AS_MODULE))
    ]
    wanted = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, bias="none", target_modules=adapted,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in body.modules()),
    )  # fmt: skip
    with refusing(f"lora={rank} does not fit {body.config.model_type}", ValueError), global_stream_from(generator):
        inject_adapter_in_model(wanted, body)
    for name, parameter in body.named_parameters():
        parameter.requires_grad_("lora_" in name)


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
