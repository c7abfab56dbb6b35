"""Puts damaged and random inputs to what reads people's files, and says what came of them.

``python benchmarks/fuzz.py FOLDER`` makes ``--inputs`` of them from ``--seed``: data files of every text format, files
of examples, specs, and a run's folder with its weights, with bits, lines and ends changed. Each must be read, or
refused in one sentence (``ForeseeError``), within ``--seconds``, and nothing else of the folder may change. Anything
else is printed with the number that makes it again, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import numpy

from foresee.core import files
from foresee.core.errors import ForeseeError
from foresee.core.seeds import stream
from foresee.core.spec import resolve, split_list
from foresee.datasets.fields import Fields
from foresee.datasets.sources import read_rows
from foresee.objectives.base import objectives
from foresee.tasks.base import tasks
from foresee.tasks.example_files import read_examples
from foresee.training.loop import train
from foresee.training.run import read_run
from foresee.training.settings import Settings

SEEDS = {
    ".jsonl": b'{"prompt": "a 1", "answer": "b"}\n{"prompt": "c", "answer": 1.5}\n{"messages": [{"role": "user", '
    b'"content": "x"}, {"role": "assistant", "content": "y"}]}\n',
    ".json": b'[\n {"prompt": "a", "answer": "b"},\n {"prompt": {"a": ["x"]}, "answer": "d"}\n]\n',
    ".csv": b'prompt,answer\na,"b, c"\n"d\ne",f\n',
    ".tsv": b'prompt\tanswer\na\t"b\nc\td\n',
    ".txt": b"1,2|1,3|2,4|3,5/1,4=1,2,4\n1,5|5,3/1,3=1,5,3\n",
}
PIECES = [
    b"\n",
    b'"',
    b"{",
    b"[",
    b"]",
    b",",
    b"=",
    b"\t",
    b"\x00",
    b"\xff",
    b"\xef\xbb\xbf",
    b"\\",
    b"null",
    b"1e999",
    b"|",
]
SPECS = [
    "path-star:degree=2,length=5,nodes=50",
    "star-medium",
    "data:a.jsonl,prompt=q",
    "multi-token:heads=4",
    "hf:x",
    "a=b/c",
]
FIELDS = [Fields("prompt", "answer"), Fields("prompt.a.0", "answer"), Fields("x", "answer", "{prompt} {answer}", "all")]

Reader = Callable[[Path, numpy.random.Generator], object]


def change(raw: bytes, rng: numpy.random.Generator) -> bytes:
    """The bytes with a few changes: bits, cuts, repeats, and pieces put in."""
    found = bytearray(raw)
    for _ in range(int(rng.integers(1, 5))):
        at, kind = int(rng.integers(len(found) + 1)), int(rng.integers(5))
        if kind == 0 and at < len(found):
            found[at] ^= 1 << int(rng.integers(8))
        elif kind == 1:
            del found[at : at + int(rng.integers(1, 20))]
        elif kind == 2:
            found[at:at] = found[at : at + int(rng.integers(1, 60))]
        elif kind == 3:
            found[at:at] = PIECES[int(rng.integers(len(PIECES)))]
        elif rng.integers(4) == 0:
            del found[at:]
    return bytes(found)


def read_data(folder: Path, rng: numpy.random.Generator) -> object:
    """Every row of a changed data file."""
    ending = list(SEEDS)[int(rng.integers(len(SEEDS)))]
    path = folder / f"a{ending}"
    path.write_bytes(change(SEEDS[ending], rng))
    return sum(1 for _ in read_rows([path], FIELDS[int(rng.integers(len(FIELDS)))]))


def read_lines(folder: Path, rng: numpy.random.Generator) -> object:
    """A changed file of examples."""
    path, task = folder / "a.txt", resolve(tasks, "star:degree=2,shortest=2,longest=4,plan=1,nodes=9").build()
    path.write_bytes(change(b"1,2|1,3|2,4/1,4=1,2,4\n", rng))
    return read_examples(path, task)


def read_spec(folder: Path, rng: numpy.random.Generator) -> object:
    """A changed spec."""
    text = change(SPECS[int(rng.integers(len(SPECS)))].encode(), rng).decode("utf-8", "replace")
    split_list(text)
    return resolve(tasks if rng.integers(2) else objectives, text)


def read_folder(folder: Path, rng: numpy.random.Generator) -> object:
    """A run's folder of which one file is changed, gone or empty."""
    places = sorted(path for path in (folder / "run").iterdir() if path.is_file())
    path = places[int(rng.integers(len(places)))]
    before = path.read_bytes()
    try:
        if rng.integers(8) == 0:
            path.unlink()
        else:
            path.write_bytes(change(before, rng) if len(before) < 20_000 else change_large(before, rng))
        run = read_run(folder / "run")
        if path.name == "model.safetensors" and path.exists():
            files.read_tensors(path)
        return run.json() if run.rows else run.state
    finally:
        path.write_bytes(before)


def change_large(raw: bytes, rng: numpy.random.Generator) -> bytes:
    """The bytes with the first 400 or the last 400 changed."""
    return change(raw[:400], rng) + raw[400:] if rng.integers(2) else raw[:-400] + change(raw[-400:], rng)


KINDS: dict[str, tuple[Reader, float]] = {
    "data files": (read_data, 0.5), "examples": (read_lines, 0.15), "specs": (read_spec, 0.25),
    "run folders and checkpoints": (read_folder, 0.1),
}  # fmt: skip


def digest_of(folder: Path) -> str:
    """Of every file of a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        found.update(path.name.encode() + (path.read_bytes() if path.is_file() else b""))
    return found.hexdigest()


def main() -> int:
    """Runs it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--seconds", type=int, default=10)
    asked = options.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    spec = Settings.of(
        "path-star:degree=2,length=3,nodes=10", backbone="transformer:layers=1,width=8,heads=1", steps=4, batch=8,
        data=100, test=20, eval_every=2, warmup=1,
    )  # fmt: skip
    shutil.rmtree(asked.folder / "run", ignore_errors=True)
    train(spec, asked.folder / "runs").dir.rename(asked.folder / "run")
    before = digest_of(asked.folder / "run")

    def too_long(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("it hung")

    signal.signal(signal.SIGALRM, too_long)
    counts: Counter[str] = Counter()
    faults, began = 0, time.perf_counter()
    for kind, (read, share) in KINDS.items():
        for number in range(round(asked.inputs * share)):
            signal.alarm(asked.seconds)
            try:
                read(asked.folder, stream("fuzz", kind, asked.seed, number))
                counts[f"{kind}, read"] += 1
            except ForeseeError:
                counts[f"{kind}, refused"] += 1
            except Exception as error:  # noqa: BLE001  # what is looked for
                counts[f"{kind}, FAILED"] += 1
                faults += 1
                print(f"{kind} number {number} of seed {asked.seed}: {type(error).__name__}: {error}", file=sys.stderr)
            finally:
                signal.alarm(0)
    lost = before != digest_of(asked.folder / "run")
    found = {
        "inputs": sum(counts.values()),
        "seed": asked.seed,
        "seconds": round(time.perf_counter() - began),
        "lost": lost,
    }
    print(json.dumps(found | dict(sorted(counts.items())), indent=1))
    return int(bool(faults or lost))


if __name__ == "__main__":
    sys.exit(main())
