"""Is ``foresee diagnose`` right where the answer is known? Writes the files of ``diagnose_cases.py``, diagnoses each
over several seeds, and keeps every diagnosis and a matrix of what was said.

    python benchmarks/diagnose_known_answers.py --cases known --seeds 5
    python benchmarks/diagnose_known_answers.py --cases copying,free-choice --seeds 1

The seed of a diagnosis is that of weights, batches and the rows in the file, so that two seeds are two files. Each
diagnosis trains one seed an objective. A case that is finished is not run again; an interrupted one continues.
``--judge`` trains nothing: it says anew what is said of the runs that are there.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from diagnose_cases import CASES, KNOWN, MIXED, write_case

from foresee.core import files
from foresee.core.plugins import load_plugin_file
from foresee.experiments.diagnose import NAMES, DiagnosisSettings, diagnose, read_task
from foresee.experiments.engine import InProcess
from foresee.report.diagnosis import write_page

FOLDERS = {"known": "diagnose-known-answers", "mixed": "diagnose-mixed"}
"""Under ``--out`` and under ``--work``."""


def run(name: str, seed: int, out: Path, work: Path, *, again: bool) -> None:
    """Diagnoses one case under one seed. Where that is done it does nothing, or judges ``again``."""
    case, kind = CASES[name], FOLDERS["known" if name in KNOWN else "mixed"]
    done, folder = out / kind / f"{name}-{seed}.json", work / kind / f"{name}-{seed}"
    if done.exists() != again:
        return
    began = time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    done.parent.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    if not path.exists():
        pairs = write_case(name, seed)
        files.write_json_lines(path, [{"prompt": prompt, "answer": answer} for prompt, answer in pairs])
    task = read_task(f"data:{path},tokenizer={case.tokenizer},ending={case.ending}")
    asked = DiagnosisSettings.of(
        task, backbone=case.backbone, seeds=1, steps=case.steps, batch=case.batch, lr=case.lr, first_seed=seed
    )
    found = diagnose(asked, task, folder, engine=InProcess())
    write_page(found, folder / "diagnosis.html")
    kept = found.json()
    kept["dir"] = f"{name}-{seed}"
    kept["question"]["task"] = kept["question"]["task"].replace(f"{work}/", "runs/")
    for key in ("positions", "from_end", "examples", "accuracy", "by_origin", "by_shape", "data"):
        del kept[key]
    files.write_json(done, {"case": name, "seed": seed, "right": list(case.right), **kept})
    right = "right" if found.verdict.name in case.right else "WRONG"
    print(
        f"{name}, seed {seed}: {found.verdict.name} ({right}; {time.perf_counter() - began:.0f} s)\n"
        f"  {found.verdict.because}", flush=True,
    )  # fmt: skip


def matrix(folder: Path) -> str:
    """What was said of every case in ``folder``, as Markdown."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.json")):
        line = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(line["case"], []).append(line)
    head = f"| case | right would be | {' | '.join(NAMES)} | right | seconds of training each |"
    lines = [head, "|" + "---|" * (len(NAMES) + 4)]
    for name in (name for name in CASES if name in found):
        said = [str(row["verdict"]["name"]) for row in found[name]]
        right = sum(each in CASES[name].right for each in said)
        seconds = sorted(sum(sum(each["seconds"]) for each in row["objectives"]) for row in found[name])
        counts = " | ".join(str(said.count(each) or "") for each in NAMES)
        lines.append(
            f"| {name} | {' or '.join(CASES[name].right)} | {counts} | {right} of {len(said)} | "
            f"{seconds[0]:.0f} to {seconds[-1]:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the command line and runs what is asked for."""
    root = Path(__file__).resolve().parent.parent
    load_plugin_file(root / "examples" / "running_parity.py")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default="known,mixed", help="known, mixed and names, joined by commas")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=root / "results")
    parser.add_argument("--work", type=Path, default=root / "runs", help="files, runs and pages")
    parser.add_argument("--judge", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    groups = {"known": list(KNOWN), "mixed": list(MIXED)}
    names = [name for word in given.cases.split(",") for name in groups.get(word, [word])]
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for name in names:
            run(name, seed, given.out, given.work, again=given.judge)
    for kind in FOLDERS.values():
        if (given.out / kind).exists():
            files.write_text(given.out / kind / "confusion.md", matrix(given.out / kind))


if __name__ == "__main__":
    main()
