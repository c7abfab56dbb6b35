"""What the benchmark scripts share."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from foresee.experiments.bench import interleaved


@dataclass(frozen=True)
class Target:
    """A figure that has to be reached (docs/performance.md)."""

    what: str
    value: float
    least: float | None = None
    most: float | None = None

    @property
    def reached(self) -> bool:
        return (self.least is None or self.value >= self.least) and (self.most is None or self.value <= self.most)

    def __str__(self) -> str:
        bound = f"at least {self.least:g}" if self.most is None else f"at most {self.most:g}"
        return f"{self.what}: {self.value:.3g} (target {bound}): {'reached' if self.reached else 'NOT reached'}"


def in_turn(works: Mapping[str, Callable[[], object]], rounds: int, burst: float) -> dict[str, float]:
    """Median seconds a call on the CPU, works taking turns."""
    seconds = interleaved(works, "cpu", rounds, burst)
    return {name: statistics.median(each) for name, each in seconds.items()}


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every script has, and the script's documentation as help."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    made.add_argument("--quick", action="store_true", help="tiny sizes: shows that the script works, not how fast")
    return made


def write(as_json: bool, measured: Mapping[str, Any], lines: Sequence[str], targets: Sequence[Target] = ()) -> None:
    """Prints what was measured, as one JSON object or as lines, with the targets."""
    if as_json:
        print(json.dumps({**measured, "targets": [{**asdict(each), "reached": each.reached} for each in targets]}))
    else:
        print("\n".join([*lines, *map(str, targets)]))
