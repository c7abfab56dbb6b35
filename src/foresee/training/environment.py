"""What a run was made with: versions, hardware and code."""

from __future__ import annotations

import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch


def environment() -> dict[str, Any]:
    """What ``env.json`` records: versions, hardware and a digest of this package's code."""
    import foresee

    code = hashlib.sha256()
    for path in sorted(Path(foresee.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "foresee": foresee.__version__,
        "code": code.hexdigest()[:16],
        "python": platform.python_version(),
        # Asked of the installation: importing transformers would take a second.
        **{name: found for name in ("torch", "numpy", "safetensors", "transformers") if (found := _installed(name))},
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def best_device() -> str:
    """``cuda`` where PyTorch has it, else ``cpu``; ``mps`` has to be asked for, since nobody tests it."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def has_device(device: str) -> bool:
    """Whether PyTorch has the device here."""
    if device == "mps":
        return torch.backends.mps.is_available()
    return device == "cpu" or torch.cuda.is_available()


def best_precision(device: str) -> str:
    """``bf16`` where the device multiplies it in hardware, else ``float32``."""
    if device == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "float32"
    if device == "mps":
        return "float32"
    quick = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if quick else "float32"


def _installed(distribution: str) -> str | None:
    """The version that is installed; None where it is not, as transformers need not be."""
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
