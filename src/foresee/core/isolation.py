"""PyTorch as a fresh process has it, whatever the program around this package has set."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch


@contextmanager
def fresh_torch_state() -> Iterator[None]:
    """Within it new tensors are float32 and on the CPU, gradients are on, and autocast and reduced precision are off;
    afterwards all is as before. The caller's settings would else decide results that a run's digest does not name."""
    before, precision = torch.get_default_dtype(), torch.get_float32_matmul_precision()
    with ExitStack() as held:
        held.callback(torch.set_default_dtype, before)
        held.callback(torch.set_float32_matmul_precision, precision)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        held.enter_context(torch.inference_mode(False))
        held.enter_context(torch.enable_grad())
        if torch.get_default_device().type != "cpu":  # it slows every call down a little
            held.enter_context(torch.device("cpu"))
        for device in ("cpu", "cuda", "mps"):
            if torch.is_autocast_enabled(device):
                held.enter_context(torch.autocast(device, enabled=False))
        yield
