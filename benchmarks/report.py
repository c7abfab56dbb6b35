"""How long a report of many runs takes, and how large it is. The runs are made up; nothing is trained.

    python benchmarks/report.py [--runs 200]

Five tasks, ten objectives and four seeds, each run with 40 evaluations, 16 kept examples, their anatomy (three layers
of four heads) and its loss by position.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from fabricated_runs import Behaviour, add_anatomy, add_position_loss, fabricate_run

BEHAVIOURS: tuple[Behaviour, ...] = ("follows", "solves", "babbles")
OBJECTIVES = (
    "next-token", "reversed", "teacherless", "multi-token:heads=2", "multi-token:heads=4", "belief-state",
    "token-order", "future-bag", "registers", "next-latent",
)  # fmt: skip
SEEDS = 4


def examples(length: int) -> list[tuple[str, str, str]]:
    """Sixteen examples on graphs of two arms: prompt, answer, what a model that follows the wrong arm wrote."""
    found = []
    for number in range(16):
        right, wrong = ([str(number + at + 25 * arm) for at in range(1, length)] for arm in range(2))
        start = str(number)
        edges = [f"{a},{b}" for arm in (right, wrong) for a, b in zip([start, *arm], arm, strict=False)]
        found.append((f"{'|'.join(edges)}/{start},{right[-1]}=", ",".join([start, *right]), ",".join([start, *wrong])))
    return found


def make(root: Path, count: int) -> list[Path]:
    """``count`` runs."""
    made: list[Path] = []
    for number in range(count):
        seed, rest = number % SEEDS, number // SEEDS
        objective, place = OBJECTIVES[rest % len(OBJECTIVES)], rest // len(OBJECTIVES)
        behaviour = BEHAVIOURS[1] if objective == "reversed" else BEHAVIOURS[(rest + seed) % 3]
        length = 5 + place % 6
        run = fabricate_run(
            root, objective, behaviour, task=f"path-star:degree=2,length={length},nodes={50 + place},goals=one",
            seed=seed, steps=2000, length=length, examples=examples(length),
        )  # fmt: skip
        add_position_loss(run, length)
        add_anatomy(run)
        made.append(run)
    return made


def main() -> None:
    """Prints seconds and bytes."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--runs", type=int, default=200)
    count = asked.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        runs = make(Path(folder) / "runs", count)
        began, spent = time.perf_counter(), time.process_time()
        from foresee.report import report

        page = report(*runs, out=Path(folder) / "page.html")
        print(f"{count} runs: {time.perf_counter() - began:.1f} s, {time.process_time() - spent:.1f} s of one core")
        spent = time.process_time()
        again = report(*runs, out=Path(folder) / "again.html")
        spent = time.process_time() - spent
        assert again.read_text().replace("again.html", "page.html") == page.read_text()
        print(f"once more {spent:.1f} s of one core; {page.stat().st_size / 1e6:.2f} MB")
        spent = time.process_time()
        report(*runs, out=page, figures=Path(folder) / "figures", tables=Path(folder) / "tables")
        print(f"with figures and tables for papers {time.process_time() - spent:.1f} s of one core")


if __name__ == "__main__":
    main()
