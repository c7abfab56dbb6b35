"""Cores and memory as the kernel shows them, control groups of both versions included."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from foresee.experiments.machine import cores, free_memory

GIB = 1 << 30


class Kernel:
    """Made-up files of a kernel."""

    def __init__(self, root: Path, groups: str, total: int = 16, available: int = 12) -> None:
        self.proc, self.cgroup = root / "proc", root / "cgroup"
        self.write(self.proc / "self" / "cgroup", groups)
        self.write(self.proc / "meminfo", f"MemTotal: {total << 20} kB\nMemAvailable: {available << 20} kB\nHuge: x\n")

    def write(self, path: Path, text: object) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")

    def group(self, name: str, value: object) -> None:
        self.write(self.cgroup / name, value)

    def free(self) -> int:
        return free_memory(self.proc, self.cgroup) // GIB


@pytest.fixture(autouse=True)
def _eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "linux":
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    else:
        monkeypatch.setattr(os, "cpu_count", lambda: 8)


def test_without_control_groups_without_a_limit_and_without_these_files(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "none", "0::/")
    assert (cores(kernel.proc, kernel.cgroup), kernel.free()) == (8, 12)
    kernel = Kernel(tmp_path / "no limit", "3:cpu:/")
    kernel.group("cpu/cpu.cfs_quota_us", -1)
    kernel.group("cpu/cpu.cfs_period_us", 100_000)
    assert cores(kernel.proc, kernel.cgroup) == 8
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert (cores(tmp_path, tmp_path), free_memory(tmp_path, tmp_path)) == (8, total)


def test_version_2_counts_the_tightest_group_on_the_way_up(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "0::/pod/container")
    kernel.group("pod/container/cpu.max", "max 100000")
    kernel.group("pod/cpu.max", "250000 100000")
    kernel.group("pod/container/memory.max", "max")
    kernel.group("pod/memory.max", 4 * GIB)
    kernel.group("pod/memory.current", 3 * GIB)
    kernel.group("pod/memory.stat", f"anon 5\ninactive_file {GIB}")
    assert cores(kernel.proc, kernel.cgroup) == 2
    assert kernel.free() == 2


def test_version_1(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, "5:memory:/job\n3:cpu,cpuacct:/job\n0::/")
    kernel.group("cpu/job/cpu.cfs_quota_us", 50_000)
    kernel.group("cpu/job/cpu.cfs_period_us", 100_000)
    kernel.group("memory/job/memory.limit_in_bytes", 6 * GIB)
    kernel.group("memory/job/memory.usage_in_bytes", 7 * GIB)
    kernel.group("memory/memory.limit_in_bytes", 9_223_372_036_854_771_712)
    assert cores(kernel.proc, kernel.cgroup) == 1, "half a core is still one"
    assert kernel.free() == 0
