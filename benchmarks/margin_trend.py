"""Does the trend of the branch margin foretell the outcome? Over the runs that exist, nothing is trained.

    python benchmarks/margin_trend.py runs results             # any folders of runs
    python benchmarks/margin_trend.py runs --share 0.2 --json

A run counts that decides forwards, logs the margin (``eval.margin`` in ``metrics.jsonl``: the branch token's logit less
the best other one's), and by ``--share`` of its budget has been looked at twice and has not solved. A margin that rises
by then (least squares) says that the run will solve within its budget (``exact`` >= 0.95), one that falls that it will
not. Beside it stand other rules: "no run solves", "the branch lies above chance by then", "the margin lies above 0".
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from foresee.metrics.verdict import SOLVED, chance_margin
from foresee.training.records import value_of
from foresee.training.run import Run, find_runs
from foresee.training.witnesses import decides_backwards

LOOKS = 2


def foretell(run: Run, share: float) -> dict[str, Any] | None:
    """What the rules say of a run, and what came of it; None where it does not count."""
    looks = [line for line in run.metrics if line["step"] <= share * run.spec.steps and "margin" in line["eval"]]
    solved_early = any(line["eval"]["exact"] >= SOLVED for line in looks)
    if not run.rows or decides_backwards(run.spec) or len(looks) < LOOKS or solved_early:
        return None
    steps, margins = [line["step"] for line in looks], [line["eval"]["margin"] for line in looks]
    slope = statistics.linear_regression(steps, margins).slope
    return {
        "run": run.spec.digest, "task": run.spec.task, "objective": run.spec.objective, "seed": run.spec.seed,
        "budget": run.spec.steps, "looks": len(looks), "first": margins[0], "last": margins[-1], "slope": slope,
        "solved": value_of(run.rows) >= SOLVED, "margin rises": slope > 0,
        "margin above 0": margins[-1] > 0,
        "branch above chance": looks[-1]["eval"]["branch"] > run.chance + chance_margin(run.chance),
    }  # fmt: skip


def main() -> None:
    """Prints how often each rule is right, and the runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path, help="folders of runs")
    parser.add_argument("--share", type=float, default=0.2, help="of the budget, by which the rules speak")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    runs = {run.spec.digest: run for run in find_runs(*asked.folders) if isinstance(run, Run)}
    told = [found for run in runs.values() if (found := foretell(run, asked.share)) is not None]
    said = {
        "no run solves": [False] * len(told),
        **{name: [each[name] for each in told] for name in ("branch above chance", "margin above 0", "margin rises")},
    }
    right = {
        name: Counter((each["solved"], guess) for each, guess in zip(told, guesses, strict=True))
        for name, guesses in said.items()
    }
    if asked.json:
        counts = {name: {f"solved={a} said={b}": n for (a, b), n in counts.items()} for name, counts in right.items()}
        print(json.dumps({"runs": told, "counts": counts}))
        return
    print(f"{len(told)} of {len(runs)} runs count, {sum(each['solved'] for each in told)} of them solved")
    for name, counts in right.items():
        print(
            f"{name:19}: right {counts[True, True] + counts[False, False]} of {len(told)}; of those that solved "
            f"{counts[True, True]} of {counts[True, True] + counts[True, False]}, of the others "
            f"{counts[False, False]} of {counts[False, False] + counts[False, True]}"
        )
    for each in sorted(told, key=lambda each: (each["solved"], each["slope"])):
        print(
            f"{each['run']} {'solved' if each['solved'] else 'failed'}  margin {each['first']:+.2f} to "
            f"{each['last']:+.2f} over {each['looks']:2} looks  {each['objective'][:30]:30} seed {each['seed']}  "
            f"{each['task']}"
        )


if __name__ == "__main__":
    main()
