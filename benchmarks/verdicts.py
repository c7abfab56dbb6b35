"""Are models of known behaviour named rightly? Scripted models (tests/planted.py) are measured, filed and judged as
trained runs are, over ten draws of 20,000 test rows each; what ``foresee runs`` says of each is counted.

    python benchmarks/verdicts.py                      # every model, ten draws, into results/verdicts
    python benchmarks/verdicts.py --draws 1 --only falling -o /tmp/verdicts

A model that is in the folder is not judged again; an interrupted run continues.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch

from foresee.core import files

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from planted import PLANTED, Planted, name_doubts, plant

Said = tuple[str, ...]


def say(draw: int, planted: Planted, test: int) -> Said:
    """The verdict on one draw, and its doubts."""
    with tempfile.TemporaryDirectory() as folder:
        run = plant(Path(folder), planted, draw, test)
        return (run.verdict.name, *name_doubts(run))


def confusion(models: dict[str, Any]) -> str:
    """What is right down the side, what was said across."""
    columns = sorted({said for each in models.values() for said in (*each["said"], each["right"])})
    lines = [["model", "right", *columns], ["---"] * (len(columns) + 2)]
    for what, each in models.items():
        lines.append([what, each["right"], *(str(each["said"].get(said, "")) for said in columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def show(said: Said) -> str:
    """A verdict, and its doubts in brackets."""
    name, *doubts = said
    return name + (f" ({', '.join(doubts)})" if doubts else "")


def main() -> None:
    """Judges every planted model over the draws; exits with 1 where one is named wrongly."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10, help="draws of test problems, each with other training rows")
    parser.add_argument("--test", type=int, default=20_000, help="test rows of each")
    parser.add_argument("--only", default="", help="models whose name holds this")
    parser.add_argument("-o", "--out", type=Path, default=Path("results/verdicts"), help="folder of what was said")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.out.mkdir(parents=True, exist_ok=True)
    path = asked.out / "confusion.json"
    kept: dict[str, Any] = {"draws": asked.draws, "test": asked.test, "models": {}}
    if path.exists() and (before := files.read_json(path)) | {"models": {}} == kept:
        kept = before
    for planted in (each for each in PLANTED if asked.only in each.what and each.what not in kept["models"]):
        counted = Counter(show(say(draw, planted, asked.test)) for draw in range(asked.draws))
        right = show((planted.verdict, *planted.doubts))
        kept["models"][planted.what] = {
            "task": planted.task, "objective": planted.objective, "right": right, "said": dict(counted),
        }  # fmt: skip
        print(planted.what, dict(counted), flush=True)
        files.write_json(path, kept)
    models = kept["models"]
    right, of = sum(each["said"].get(each["right"], 0) for each in models.values()), asked.draws * len(models)
    head = f"{right} of {of} named rightly, {asked.draws} draws of {asked.test:,} test rows (benchmarks/verdicts.py)."
    (asked.out / "confusion.md").write_text(f"{head}\n\n{confusion(models)}", encoding="utf-8")
    print(head)
    sys.exit(right < of)


if __name__ == "__main__":
    main()
