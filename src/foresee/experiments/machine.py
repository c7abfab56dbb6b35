"""How many cores and how much memory this process may use, control groups (containers) included."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def cores(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Cores that this process may run on, or whole cores of its control group's quota where that is less; at least 1.

    ``proc`` and ``cgroup`` are where the kernel shows itself.
    """
    found = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    for group in _groups("cpu", proc, cgroup):
        bound = _numbers(group / "cpu.max") or [
            *_numbers(group / "cpu.cfs_quota_us"), *_numbers(group / "cpu.cfs_period_us")
        ]  # fmt: skip
        if len(bound) == 2 and all(bound):
            found = min(found, bound[0] / bound[1])
    return max(1, int(found))


def free_memory(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Bytes of memory that are free now, caches counted as free: the machine's, or its control group's where less."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    free = [_named(proc / "meminfo").get("MemAvailable:", machine // 1024) * 1024]
    for group in _groups("memory", proc, cgroup):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            if bound := _numbers(group / limit):
                # Files that the kernel could drop are in use only on paper.
                idle = _named(group / "memory.stat")
                dropped = idle.get("inactive_file", idle.get("total_inactive_file", 0))
                free.append(bound[0] - max(0, sum(_numbers(group / used)) - dropped))
    return max(0, min(free))


def slots(device: str) -> int:
    """How many runs on this device may go beside each other: a core each, or a GPU."""
    return max(1, len(gpus())) if device == "cuda" else cores()


def gpus() -> list[str]:
    """The names by which ``CUDA_VISIBLE_DEVICES`` knows the GPUs that this process may use."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _groups(controller: str, proc: Path, cgroup: Path) -> Iterator[Path]:
    """The folders of this process's control groups that may limit ``controller``, from its own up to the root: of the
    unified hierarchy (version 2) and of the controller's own (version 1)."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, names, place = line.split(":", 2)
        if not names or controller in names.split(","):
            top = cgroup / controller if names else cgroup
            here = top / place.strip("/")
            yield from (group for group in (here, *here.parents) if group == top or top in group.parents)


def _named(path: Path) -> dict[str, int]:
    """The whole numbers of a file that has a name and a number a line."""
    lines = (line.split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _numbers(path: Path) -> list[int]:
    """The whole numbers of a file of one line; empty where it is missing or says that there is no limit."""
    words = _text(path).split()
    return [int(word) for word in words] if all(word.isdecimal() for word in words) else []


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
