"""How many cores and how much memory this process may use, control groups (containers) included."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

PROC, CGROUP = Path("/proc"), Path("/sys/fs/cgroup")


def cores(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Cores that this process may run on, or whole cores of its control group's quota where that is less; at least 1.

    ``proc`` and ``cgroup`` are where the kernel shows itself.
    """
    found = float(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)
    for group in _groups("cpu", proc, cgroup):
        bound = _numbers(group / "cpu.max") or (
            _numbers(group / "cpu.cfs_quota_us") + _numbers(group / "cpu.cfs_period_us")
        )
        if len(bound) == 2 and all(bound):
            quota, period = bound
            found = min(found, quota / period)
    return max(1, int(found))


def memory(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Bytes of memory of this machine, or of the process's control group where that is less."""
    limits = [_meminfo(proc).get("MemTotal", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))]
    return min(limits + [limit for limit, _ in _memory_groups(proc, cgroup)])


def free_memory(proc: Path = PROC, cgroup: Path = CGROUP) -> int:
    """Bytes of memory that are free now, caches counted as free."""
    free = [_meminfo(proc).get("MemAvailable", memory(proc, cgroup))]
    return max(0, min(free + [limit - used for limit, used in _memory_groups(proc, cgroup)]))


def gpus() -> list[str]:
    """The names by which ``CUDA_VISIBLE_DEVICES`` knows the GPUs that this process may use."""
    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(number) for number in range(torch.cuda.device_count())]


def _meminfo(proc: Path) -> dict[str, int]:
    """Bytes by name, empty where the system has no such file."""
    found: dict[str, int] = {}
    for line in _text(proc / "meminfo").splitlines():
        name, _, rest = line.partition(":")
        if rest.split() and rest.split()[0].isdecimal():
            found[name] = int(rest.split()[0]) * 1024
    return found


def _memory_groups(proc: Path, cgroup: Path) -> Iterator[tuple[int, int]]:
    """(limit, bytes in use) of each control group that has a limit."""
    for group in _groups("memory", proc, cgroup):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            if bound := _numbers(group / limit):
                # Files that the kernel could drop are in use only on paper.
                idle = _statistics(group / "memory.stat")
                dropped = idle.get("inactive_file", idle.get("total_inactive_file", 0))
                yield bound[0], max(0, (_numbers(group / used) or (0,))[0] - dropped)


def _groups(controller: str, proc: Path, cgroup: Path) -> Iterator[Path]:
    """The folders of this process's control groups that may limit ``controller``, from its own up to the root: of the
    unified hierarchy (version 2) and of the controller's own (version 1)."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, names, place = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        top = cgroup / controller if names else cgroup
        here = top / place.strip("/")
        while True:
            yield here
            if here == top or top not in here.parents:
                break
            here = here.parent


def _statistics(path: Path) -> Mapping[str, int]:
    pairs = (line.split() for line in _text(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _numbers(path: Path) -> tuple[int, ...]:
    """The whole numbers of a file of one line; empty where it is missing or says that there is no limit."""
    words = _text(path).split()
    return tuple(map(int, words)) if words and all(word.isdecimal() for word in words) else ()


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
