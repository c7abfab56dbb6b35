"""Is ``foresee diagnose`` right where the answer is known? Exports files of tasks, diagnoses each over several seeds,
and writes every diagnosis and the confusion matrix.

    python benchmarks/diagnose_known_answers.py                      # every case, ten seeds
    python benchmarks/diagnose_known_answers.py --cases copying --seeds 1

The seed of a diagnosis is that of weights, batches and the rows in the file, so that ten seeds are ten files. Each
diagnosis trains one seed an objective. A case that is finished is not run again; an interrupted one continues.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from foresee.core import files
from foresee.core.registry import load_plugin_file
from foresee.core.seeds import stream
from foresee.core.spec import resolve
from foresee.experiments.diagnose import NAMES, DiagnosisSettings, diagnose, read_task
from foresee.experiments.diagnose.verdict import COMPOUNDING, COSTLY, NONE_NEEDED, OPEN, TOO_SMALL
from foresee.report.diagnosis import write_page
from foresee.tasks.base import tasks

Pair = tuple[str, str]
NANO = "transformer:layers=3,width=128,heads=4,context=128"
FINDER = "transformer:layers=3,width=128,heads=1,context=128,positions=rotary,norm=rms,mlp=swiglu"
"""With one head of 128, and no symbol to learn at the end of responses, look-ups are found sooner than with four heads
of 32, but when still varies with the seed (docs/log.md, 2026-11-21)."""
TINY = "transformer:layers=2,width=64,heads=4,context=128"


@dataclass(frozen=True)
class Case:
    """A file and what is right to say of it."""

    task: str
    right: tuple[str, ...]
    """Verdicts that count as right."""
    backbone: str
    steps: int
    batch: int
    lr: float
    rows: int = 60_000
    tokenizer: str = "words"
    rewrite: Callable[[list[Pair], int], list[Pair]] | None = None

    @property
    def ending(self) -> str:
        """How responses end: those of path-star have one length and need no symbol."""
        return "none" if self.backbone == FINDER else "symbol"


def plain(pairs: list[Pair], seed: int) -> list[Pair]:
    """Commas as spaces: a file of words needs no token for them."""
    return [(prompt.replace(",", " "), response.replace(",", " ")) for prompt, response in pairs]


def backwards(pairs: list[Pair], seed: int) -> list[Pair]:
    """The response with its words in the opposite order."""
    return [(prompt, " ".join(response.split()[::-1])) for prompt, response in plain(pairs, seed)]


def given_away(pairs: list[Pair], seed: int) -> list[Pair]:
    """The prompt ends with the response's second word, which is the branch."""
    return [(f"{prompt} {response.split()[1]} =", response) for prompt, response in plain(pairs, seed)]


def noisy(pairs: list[Pair], seed: int, share: float = 0.1) -> list[Pair]:
    """Each word of a response is replaced, with this probability, by one drawn from all words of responses."""
    pairs = plain(pairs, seed)
    known = sorted({word for _, response in pairs for word in response.split()})
    rng = stream("label noise", seed)
    changed = []
    for prompt, response in pairs:
        words = response.split()
        swap, new = rng.random(len(words)) < share, rng.integers(len(known), size=len(words))
        drawn = [known[n] if s else word for word, s, n in zip(words, swap.tolist(), new.tolist(), strict=True)]
        changed.append((prompt, " ".join(drawn)))
    return changed


G25, G34 = "path-star:degree=2,length=5,nodes=20,goals=one", "path-star:degree=3,length=4,nodes=20,goals=one"
MORE_LABELS = "path-star:degree=2,length=5,nodes=50,goals=one"
LARGER = "path-star:degree=4,length=6,nodes=40,goals=one"
"""Where only two tokens are look-ups, some seeds found them sooner among more labels (docs/log.md, 2026-11-21)."""

CASES: dict[str, Case] = {
    "path-star-2-5": Case(G25, (OPEN,), FINDER, 1200, 64, 1e-3, rewrite=plain),
    "path-star-3-4": Case(G34, (OPEN,), FINDER, 700, 256, 1.5e-3, rewrite=plain),
    "path-star-2-5-backwards": Case(G25, (NONE_NEEDED,), FINDER, 900, 64, 1e-3, rewrite=backwards),
    "path-star-3-4-backwards": Case(G34, (NONE_NEEDED,), FINDER, 800, 128, 1e-3, rewrite=backwards),
    "path-star-2-5-given-away": Case(MORE_LABELS, (NONE_NEEDED, COSTLY), FINDER, 1800, 128, 1e-3, rewrite=given_away),
    "running-parity": Case("running-parity:bits=10", (OPEN,), TINY, 700, 128, 1e-3, tokenizer="characters"),
    "copying": Case("copying:length=6,symbols=12", (NONE_NEEDED,), TINY, 250, 64, 2e-3, rewrite=plain),
    "sorting": Case("sorting:length=5,symbols=15", (NONE_NEEDED,), TINY, 500, 64, 2e-3, rewrite=plain),
    "addition": Case("addition:digits=3", (COSTLY, NONE_NEEDED), NANO, 3600, 128, 5e-4, tokenizer="characters"),
    "noisy-chain": Case(
        "noisy-chain:length=12,noise=0.05,key=6,states=8", (COMPOUNDING,), TINY, 700, 64, 2e-3, rewrite=plain
    ),
    "label-noise": Case("copying:length=6,symbols=12", (NONE_NEEDED,), TINY, 600, 64, 2e-3, rewrite=noisy),
    "too-hard": Case(
        "path-star:degree=4,length=6,nodes=40,goals=one", (TOO_SMALL,), TINY, 300, 64, 2e-3, rewrite=plain
    ),
}


def export(case: Case, seed: int, path: Path) -> None:
    """Writes the case's rows as JSON lines."""
    task = resolve(tasks, case.task).build()
    batch = task.sample(case.rows, stream("known answers", case.task, seed))
    pairs = []
    for prompt, answer in batch.pairs():
        start, line = task.write_line(prompt, []), task.write_line(prompt, answer)
        pairs.append((start, line[len(start) :]))
    rewritten = case.rewrite(pairs, seed) if case.rewrite else pairs
    files.write_json_lines(path, [{"prompt": prompt, "response": response} for prompt, response in rewritten])


def run(name: str, seed: int, out: Path, work: Path) -> None:
    """Diagnoses one case under one seed; does nothing where that is done."""
    case, done = CASES[name], out / f"{name}-{seed}.json"
    if done.exists():
        return
    began = time.perf_counter()
    folder = work / f"{name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "rows.jsonl"
    if not path.exists():
        export(case, seed, path)
    task = read_task(f"data:{path},tokenizer={case.tokenizer},ending={case.ending}")
    asked = DiagnosisSettings.of(
        task, backbone=case.backbone, seeds=1, steps=case.steps, batch=case.batch, lr=case.lr, first_seed=seed
    )
    found = diagnose(asked, task, folder)
    write_page(found, folder / "diagnosis.html")
    kept = found.json()
    kept["dir"] = f"{name}-{seed}"
    for key in ("positions", "from_end", "examples", "accuracy"):
        del kept[key]
    seconds = time.perf_counter() - began
    files.write_json(done, {"case": name, "seed": seed, "right": list(case.right), **kept})
    right = "right" if found.verdict.name in case.right else "WRONG"
    print(
        f"{name}, seed {seed}: {found.verdict.name} ({right}; {seconds:.0f} s)\n  {found.verdict.because}", flush=True
    )


def matrix(out: Path) -> str:
    """The confusion matrix of everything in ``out``, as Markdown."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(out.glob("*.json")):
        line = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(line["case"], []).append(line)
    head = f"| case | right would be | {' | '.join(NAMES)} | right | seconds of training each |"
    lines = [head, "|" + "---|" * (len(NAMES) + 4)]
    for name in (name for name in CASES if name in found):
        rows = found[name]
        said = [str(row["verdict"]["name"]) for row in rows]
        right = sum(each in CASES[name].right for each in said)
        seconds = sorted(sum(sum(each["seconds"]) for each in row["objectives"]) for row in rows)
        counts = " | ".join(str(said.count(each) or "") for each in NAMES)
        lines.append(
            f"| {name} | {' or '.join(CASES[name].right)} | {counts} | {right} of {len(rows)} | "
            f"{seconds[0]:.0f} to {seconds[-1]:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Reads the command line and runs what is asked for."""
    load_plugin_file(Path(__file__).resolve().parent.parent / "examples" / "running_parity.py")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", default=",".join(CASES), help="names joined by commas")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results/diagnose-known-answers"))
    parser.add_argument("--work", type=Path, default=Path("runs/diagnose-known-answers"), help="files, runs and pages")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for name in given.cases.split(","):
            run(name, seed, given.out, given.work)
    files.write_text(given.out / "confusion.md", matrix(given.out))
    print(matrix(given.out))


if __name__ == "__main__":
    main()
