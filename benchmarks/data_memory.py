"""Reads a large JSON-lines file as a task, and says how long each part takes and how much memory the process used.

``python benchmarks/data_memory.py FOLDER`` writes a file of ``--gigabytes`` into FOLDER, reads it there with a cache
beside it, and deletes both.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy

from foresee.core.seeds import stream

WORDS = 20_000


def write_file(path: Path, size: int) -> int:
    """Rows of 4 to 30 words each side, until the file has ``size`` bytes; how many there are."""
    rng = stream("data memory")
    letters = numpy.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(letters[rng.integers(26, size=n)]) for n in rng.integers(2, 11, size=WORDS)]
    rows = written = 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            lengths = rng.integers(4, 31, size=(1000, 2))
            # Few words are frequent, as in text.
            drawn = iter((WORDS ** rng.random(int(lengths.sum()))).astype(int).tolist())
            for prompt, response in lengths.tolist():
                texts = [" ".join(words[next(drawn) - 1] for _ in range(n)) for n in (prompt, response)]
                written += file.write(json.dumps({"prompt": texts[0], "response": texts[1]}) + "\n")
                rows += 1
    return rows


def read_file(path: Path, tokenizer: str) -> dict[str, float]:
    """Builds the task twice and reads a few batches, in this process."""
    from foresee.core.spec import resolve
    from foresee.tasks.base import tasks

    before = peak()
    spec = f"data:{path},tokenizer={tokenizer}"
    began = time.perf_counter()
    task = resolve(tasks, spec).build()
    built = time.perf_counter()
    again = resolve(tasks, spec).build()
    opened, read = time.perf_counter(), peak()
    rows = again.rows("train")  # type: ignore[attr-defined]
    order = stream("batches").permutation(len(rows))
    began_batches = time.perf_counter()
    for at in range(0, 100 * 256, 256):
        rows.batch(order[at : at + 256])
    batches = time.perf_counter()
    return {
        "seconds to read and cut": built - began,
        "seconds to open again": opened - built,
        "seconds for 100 batches of 256": batches - began_batches,
        "symbols": len(task.vocab),
        "training rows": len(rows),
        "MB before reading": before,
        "MB at most until then": read,
        "MB at most, batches included": peak(),
    }


def peak() -> float:
    """The largest resident size so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--tokenizers", default="bytes,characters,words")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    given = parser.parse_args()
    file, cache = given.folder / "large.jsonl", given.folder / "cache"
    if given.read:
        print(json.dumps(read_file(file, given.read)))
        return
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        rows = write_file(file, int(given.gigabytes * 1e9))
        print(f"{rows:,} rows, {file.stat().st_size / 1e9:.2f} GB")
        for tokenizer in given.tokenizers.split(","):
            # A process each, so that one's peak is not another's.
            command = [sys.executable, __file__, str(given.folder), "--read", tokenizer]
            environment = os.environ | {"FORESEE_CACHE": str(cache)}
            found = json.loads(subprocess.run(command, check=True, capture_output=True, env=environment).stdout)
            kept = sum(path.stat().st_size for path in cache.rglob("*") if path.is_file())
            print(tokenizer, {key: round(value, 1) for key, value in found.items()}, f"cache {kept / 1e9:.2f} GB")
            shutil.rmtree(cache)
    finally:
        file.unlink(missing_ok=True)
        shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
