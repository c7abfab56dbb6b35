"""Finding and reading a checkpoint of the transformers library: folder, configuration, weights.

A checkpoint is a local folder as ``save_pretrained`` writes it, or a hub id, which becomes a local folder first: from
there on both are read alike. Code that comes with a checkpoint is never run (``trust_remote_code`` is off) and nothing
is unpickled: weights are read from safetensors alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from foresee.core.errors import RequestError
from foresee.core.seeds import global_stream_from, torch_stream

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""Files that any of the library's tokenizers may be made of."""

WEIGHT_FILES = ("model.safetensors", "model-*.safetensors")
PICKLED = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt")


def checkpoint_folder(path: str) -> Path:
    """The local folder of a checkpoint: ``path`` itself, or the cached snapshot of the hub id ``path``, fetched where
    it is not there yet. Raises ``RequestError`` where there is none."""
    if "," in path:
        raise RequestError(f"hf: path {path!r} holds a comma, which a spec cannot; link the folder under another name")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise RequestError(f"hf: {path} is a file; give the folder that holds config.json and model.safetensors")
        if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
            raise RequestError(f"hf: {path}: no such folder; give one that save_pretrained wrote, or a hub id")
        folder = _snapshot(path)
    if not (folder / "config.json").is_file():
        raise RequestError(
            f"hf: {path} holds no config.json, so there is no model in it; give a folder that save_pretrained wrote"
        )
    return folder


def _snapshot(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["config.json", "generation_config.json", "model.safetensors.index.json", *WEIGHT_FILES, *TOKENIZER_FILES]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except LocalEntryNotFoundError:
        raise RequestError(
            f"hf: {hub_id!r} is no folder here, it is not in the local cache of the hub, and the hub cannot be "
            "reached; give the folder of a checkpoint"
        ) from None
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        raise RequestError(
            f"hf: {hub_id!r} is no folder here, and the hub does not give it: {first_line(error)}"
        ) from None


def checkpoint_digest(path: str) -> str:
    """16 hexadecimal characters of the SHA-256 of configuration, tokenizer and weights (names and bytes), so that
    another checkpoint under the same name is another run. Raises ``RequestError`` where there is no checkpoint."""
    folder = checkpoint_folder(path)
    digest = hashlib.sha256()
    for file in _files(folder, ("config.json", *TOKENIZER_FILES, *WEIGHT_FILES)):
        try:
            with file.open("rb") as opened:
                digest.update(f"{file.name} {hashlib.file_digest(opened, 'sha256').hexdigest()}\n".encode())
        except OSError as error:
            raise RequestError(f"hf: {file} cannot be read: {error.strerror}") from None
    return digest.hexdigest()[:16]


def tokenizer_digest(folder: Path) -> str:
    """32 hexadecimal characters of the tokenizer's files in a folder; empty where there are none."""
    digest = hashlib.sha256()
    files = _files(folder, TOKENIZER_FILES)
    for file in files:
        digest.update(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:32] if files else ""


def _files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def read_config(folder: Path, path: str) -> Any:
    """The configuration of a causal language model. Raises ``RequestError`` where it is none, or is one that this
    library cannot build by itself."""
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise RequestError(f"hf: {folder / 'config.json'} cannot be read: {first_line(error)}") from None
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
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise RequestError(f"hf: {folder / 'config.json'} cannot be used: {first_line(error)}") from None
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
    """The causal language model with the checkpoint's weights in float32, on the CPU. Raises ``RequestError`` where
    weights are missing, pickled or damaged."""
    if not _files(folder, WEIGHT_FILES):
        if _files(folder, PICKLED):
            raise RequestError(
                f"hf: {path} holds pickled weights alone, and nothing is unpickled here; where you trust them, convert "
                "them once with AutoModelForCausalLM.from_pretrained(...).save_pretrained(FOLDER)"
            )
        raise RequestError(f"hf: {path} holds no model.safetensors; random=true starts from its architecture alone")
    _check_attention(config, attention, path)
    try:
        with quiet(), global_stream_from(torch_stream("hf", "loading")):
            model, report = _auto().from_pretrained(
                folder, config=deepcopy(config), dtype=torch.float32, use_safetensors=True, trust_remote_code=False,
                local_files_only=True, output_loading_info=True, **_chosen(attention),
            )  # fmt: skip
    except (SafetensorError, ValueError, RuntimeError, OSError, ImportError) as error:
        raise RequestError(f"hf: the weights of {path} cannot be loaded: {first_line(error)}") from None
    missing = sorted(report["missing_keys"])
    if missing:
        raise RequestError(f"hf: {path} lacks the weights {', '.join(map(repr, missing[:3]))} of its own architecture")
    return model


def fresh_model(config: Any, attention: str | None, generator: torch.Generator, path: str) -> Any:
    """The causal language model with the architecture's own initialisation, drawn from ``generator`` alone, float32, on
    the CPU."""
    _check_attention(config, attention, path)
    with quiet(), global_stream_from(generator):
        return _auto().from_config(deepcopy(config), dtype=torch.float32, **_chosen(attention))


def _check_attention(config: Any, attention: str | None, path: str) -> None:
    """Builds the model without memory: finds sizes that do not fit and an attention that it does not support."""
    try:
        with quiet(), global_stream_from(torch_stream("hf", "building")), torch.device("meta"):
            built = _auto().from_config(deepcopy(config), **_chosen(attention))
    except (ValueError, RuntimeError, ImportError, KeyError, TypeError) as error:
        asked = "" if attention is None else f" with attention={attention}"
        raise RequestError(f"hf: {path} ({config.model_type}){asked} cannot be built: {first_line(error)}") from None
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


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps the library's progress bars and advice off standard error; errors still raise."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """What an error of another library says, without its further lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
