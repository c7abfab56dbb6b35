"""Puts damaged and random inputs to what reads people's files, and says what came of them.

``python benchmarks/fuzz.py FOLDER`` makes ``--inputs`` of them from ``--seed``: data files of every text format, plain
and compressed, Parquet and Arrow files, folders of data sets as they come from the Hub and as ``datasets`` saves them,
files of examples, specs, a run's folder with its weights, one that is unfinished with its checkpoint, and checkpoints,
GGUF files and folders of transformers, with bits, lines and ends changed. Each must be read, or refused in one sentence
(``ForeseeError``), within ``--seconds`` and 8 GiB, and nothing else of the folder may change; an unfinished run ends
with the weights that it ends with undamaged. Anything else, a process that dies included, is printed with the number
that makes it again, and the exit status is 1. ``--kind`` tries one kind alone.
"""

from __future__ import annotations

import argparse
import bz2
import gzip
import hashlib
import json
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

import datasets
import numpy
import pyarrow
import torch
from pyarrow import feather, ipc, parquet

from foresee.backbones.base import backbones
from foresee.core import files
from foresee.core.errors import ForeseeError
from foresee.core.seeds import stream, torch_stream
from foresee.core.spec import resolve, split_list
from foresee.datasets.fields import Fields
from foresee.datasets.sources import find_files, parts_left_out, read_rows
from foresee.objectives.base import objectives
from foresee.tasks.base import tasks
from foresee.tasks.example_files import read_examples
from foresee.training.loop import InterruptedTrainingError, train
from foresee.training.progress import Progress
from foresee.training.run import read_run
from foresee.training.settings import Settings

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import tiny_checkpoints
import tiny_gguf

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

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": lambda raw: bytes(pyarrow.compress(raw, codec="zstd", asbytes=True)),
}
ROWS = {
    "prompt": [*"abcdefgh", "", None], "answer": numpy.arange(10) / 4,
    "x": [{"a": ["x", str(n)]} for n in range(10)], "day": numpy.arange("2020-01-01", "2020-01-11", dtype="M8[D]"),
    "messages": [[{"role": "user", "content": "a"}, {"role": "assistant", "content": str(n)}] for n in range(10)],
}  # fmt: skip
SETTINGS = Settings.of(
    "path-star:degree=2,length=3,nodes=10", backbone="transformer:layers=1,width=8,heads=1", steps=4, batch=8,
    data=100, test=20, eval_every=2, warmup=1,
)  # fmt: skip
MEMORY = 8 << 30
"""Bytes of addresses that a process may have."""
STARTING = 120
"""Seconds in which a process must have started, and imported what its first input needs."""

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


def read_packed(folder: Path, rng: numpy.random.Generator) -> object:
    """Every row of a compressed data file, which was changed before or after it was compressed."""
    ending, packer = list(SEEDS)[int(rng.integers(len(SEEDS)))], list(PACKERS)[int(rng.integers(len(PACKERS)))]
    raw = SEEDS[ending] * int(rng.choice([1, 500]))
    before = rng.integers(4) == 0
    packed = PACKERS[packer](change(raw, rng) if before else raw)
    path = folder / f"a{ending}{packer}"
    path.write_bytes(packed if before else change(packed, rng))
    return sum(1 for _ in read_rows([path], FIELDS[int(rng.integers(len(FIELDS)))]))


def read_columns(folder: Path, rng: numpy.random.Generator) -> object:
    """Every row of a changed Parquet or Arrow file."""
    places = sorted((folder / "kept" / "columns").iterdir())
    path = places[int(rng.integers(len(places)))]
    tried = folder / f"a{path.suffix}"
    tried.write_bytes(change_anywhere(path.read_bytes(), rng))
    fields = [*[Fields("prompt", "answer"), Fields("prompt", "x.a.1")] * 4, *FIELDS, Fields("q", "answer")]
    return sum(1 for _ in read_rows([tried], fields[int(rng.integers(len(fields)))]))


def read_hub(folder: Path, rng: numpy.random.Generator) -> object:
    """Every row of a folder of a data set of which one file is changed or gone."""
    with damaged_copy(folder, "sets", rng) as tried:
        train_files, test_files = find_files(str(tried))
        parts_left_out(str(tried))
        return sum(1 for _ in read_rows([*train_files, *test_files], FIELDS[0]))


def read_checkpoint(folder: Path, rng: numpy.random.Generator) -> object:
    """A network, or rows cut by its tokenizer, of a checkpoint's folder of which one file is changed or gone."""
    with damaged_copy(folder, "checkpoints", rng) as tried:
        return use_checkpoint(folder, tried, rng, tiny_checkpoints.path_star(8).symbols)


def read_gguf(folder: Path, rng: numpy.random.Generator) -> object:
    """A network, or rows cut by its tokenizer, of a changed GGUF file."""
    path = folder / "a.gguf"
    path.write_bytes(change_anywhere((folder / "kept" / "tiny.gguf").read_bytes(), rng))
    try:
        return use_checkpoint(folder, path, rng, ())
    finally:
        shutil.rmtree(folder / "cache" / "gguf", ignore_errors=True)


def use_checkpoint(folder: Path, path: Path, rng: numpy.random.Generator, symbols: tuple[str, ...]) -> object:
    """What a checkpoint serves for: as a backbone of these symbols or of words, and as a tokenizer."""
    if rng.integers(3) == 0:
        return resolve(tasks, f"data:{folder / 'kept' / 'rows.jsonl'},tokenizer=hf:{path}").build()
    task = resolve(tasks, "path-star:degree=2,length=3,nodes=8" + ",labels=words" * (not symbols)).build()
    return resolve(backbones, f"hf:{path}").build(task.vocab, torch_stream("fuzz"))


def read_unfinished(folder: Path, rng: numpy.random.Generator) -> object:
    """A run that is continued from its checkpoint, of which one file, or a tensor or the note, is changed or gone."""
    kept, tried = folder / "kept" / "unfinished", folder / "tried" / SETTINGS.digest
    shutil.rmtree(folder / "tried", ignore_errors=True)
    shutil.copytree(kept, tried)
    checkpoint, anew = tried / "checkpoint" / "latest.safetensors", rng.integers(4) == 0
    if anew:
        rewrite(checkpoint, rng)
    else:
        damage(tried, rng)
    before = checkpoint.read_bytes() if checkpoint.exists() else b""
    try:
        run = train(SETTINGS, folder / "tried")
    except ForeseeError:
        if before and (not checkpoint.exists() or checkpoint.read_bytes() != before):
            raise RuntimeError("what was refused has lost its checkpoint") from None
        raise
    weights = (folder / "kept" / "finished" / "model.safetensors").read_bytes()
    if not anew and (run.dir / "model.safetensors").read_bytes() != weights:
        raise RuntimeError("it ends with other weights")
    return run.json()


def rewrite(path: Path, rng: numpy.random.Generator) -> None:
    """Writes a checkpoint anew, whole, with a tensor or a value of its note changed or gone."""
    tensors, note = files.read_tensors(path)
    name, key = list(tensors)[int(rng.integers(len(tensors)))], list(note)[int(rng.integers(len(note)))]
    changed = [
        None, tensors[name].half(), tensors[name].long(), tensors[name].flatten()[:1], tensors[name][None],
        torch.full_like(tensors[name], torch.nan), tensors[name].flatten()[:0],
    ]  # fmt: skip
    values: list[object] = [None, "x", -1, 10**9, 1.5, [], True]
    if rng.integers(3):
        value = changed[int(rng.integers(len(changed)))]
        tensors = {each: tensor for each, tensor in tensors.items() if each != name}
        tensors |= {} if value is None else {name if rng.integers(8) else "another": value}
    else:
        note |= {key: values[int(rng.integers(len(values)))]}
        note = {each: value for each, value in note.items() if each != key or rng.integers(4)}
    files.write_tensors(path, tensors, note)


def change_anywhere(raw: bytes, rng: numpy.random.Generator) -> bytes:
    """The bytes changed within a stretch of 400, at either end or between, or where they are few anywhere."""
    if len(raw) < 2000 and rng.integers(2):
        return change(raw, rng)
    at = [0, max(len(raw) - 400, 0), int(rng.integers(len(raw) + 1))][int(rng.integers(3))]
    return raw[:at] + change(raw[at : at + 400], rng) + raw[at + 400 :]


def damage(folder: Path, rng: numpy.random.Generator) -> None:
    """Changes, empties or removes one file below a folder."""
    places = sorted(path for path in folder.rglob("*") if path.is_file())
    path = places[int(rng.integers(len(places)))]
    if (kind := rng.integers(12)) == 0:
        path.unlink()
    else:
        path.write_bytes(b"" if kind == 1 else change_anywhere(path.read_bytes(), rng))


@contextmanager
def damaged_copy(folder: Path, kind: str, rng: numpy.random.Generator) -> Iterator[Path]:
    """A copy of one of the kept folders of a kind, damaged; fails where it is not left as it is."""
    places = sorted((folder / "kept" / kind).iterdir())
    tried = folder / "tried"
    shutil.rmtree(tried, ignore_errors=True)
    shutil.copytree(places[int(rng.integers(len(places)))], tried)
    damage(tried, rng)
    before = digest_of(tried)
    try:
        yield tried
    finally:
        if digest_of(tried) != before:
            raise RuntimeError("what was read has changed")


KINDS: dict[str, tuple[Reader, float]] = {
    "data files": (read_data, 0.38), "examples": (read_lines, 0.12), "specs": (read_spec, 0.2),
    "run folders and checkpoints": (read_folder, 0.08), "compressed data files": (read_packed, 0.08),
    "Parquet and Arrow files": (read_columns, 0.08), "folders of data sets": (read_hub, 0.03),
    "checkpoint folders": (read_checkpoint, 0.01), "GGUF checkpoints": (read_gguf, 0.01),
    "unfinished runs": (read_unfinished, 0.01),
}  # fmt: skip


def digest_of(folder: Path) -> str:
    """Of every file below a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        found.update(str(path.relative_to(folder)).encode() + (path.read_bytes() if path.is_file() else b""))
    return found.hexdigest()


class Stops(Progress):
    """Interrupts at step 3."""

    def step(self, settings: Settings, step: int) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGINT)


def prepare(folder: Path) -> None:
    """Writes what is damaged into ``kept``, and a run into ``run``."""
    kept = folder / "kept"
    for each in (kept, folder / "run", folder / "runs"):
        shutil.rmtree(each, ignore_errors=True)
    (kept / "columns").mkdir(parents=True)
    with suppress(InterruptedTrainingError):
        train(SETTINGS, folder / "runs", Stops())
    (folder / "runs" / SETTINGS.digest).rename(kept / "unfinished")
    shutil.copytree(train(SETTINGS, folder / "runs").dir, kept / "finished")
    (folder / "runs" / SETTINGS.digest).rename(folder / "run")
    datasets.disable_progress_bars()
    table = pyarrow.table(ROWS)
    coded = table.set_column(0, "prompt", table["prompt"].dictionary_encode())
    small = table.set_column(1, "answer", pyarrow.array([0.1] * 10, pyarrow.float32())).select(
        ["prompt", "answer", "x"]
    )
    for name, each, options in (
        ("plain", table, {"compression": "none", "use_dictionary": False}), ("snappy", table, {"row_group_size": 3}),
        ("zstd", coded, {"compression": "zstd", "data_page_version": "2.0"}), ("small", small, {}),
    ):  # fmt: skip
        parquet.write_table(each, kept / "columns" / f"{name}.parquet", **options)
        with ipc.new_file(kept / "columns" / f"{name}.arrow", each.schema) as opened:
            opened.write_table(each, max_chunksize=4)
    with ipc.new_stream(kept / "columns" / "stream.arrow", coded.schema) as opened:
        opened.write_table(coded, max_chunksize=4)
    feather.write_feather(table, kept / "columns" / "packed.feather", compression="lz4")
    for name in ("hub", "declared"):
        (kept / "sets" / name / "data").mkdir(parents=True)
        for split in ("train", "test"):
            parquet.write_table(small, kept / "sets" / name / "data" / f"{split}-00000-of-00001.parquet")
    card = "---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: data/train-*\n---\n# It\n"
    (kept / "sets" / "declared" / "README.md").write_text(card)
    (kept / "sets" / "lines").mkdir()
    for split in ("train", "test"):
        (kept / "sets" / "lines" / f"{split}.jsonl").write_bytes(SEEDS[".jsonl"])
    rows = datasets.Dataset.from_dict({"prompt": list("abcd"), "answer": list("efgh")})
    rows.save_to_disk(kept / "sets" / "saved", num_shards=2)
    datasets.DatasetDict({"train": rows, "test": rows}).save_to_disk(kept / "sets" / "splits")
    for family in ("gpt2", "llama", "mamba"):
        tiny_checkpoints.single_digits(tiny_checkpoints.save(kept / "checkpoints" / family, family))
    end = {"eos_token": "$"}
    for place in (kept / "checkpoints").glob("*/tokenizer_config.json"):
        place.write_text(json.dumps(json.loads(place.read_text()) | end, indent=1))
    tiny_gguf.write(kept / "tiny.gguf")
    (kept / "rows.jsonl").write_text('{"prompt": "1,2|3", "answer": "4"}\n{"prompt": "5", "answer": "6"}\n')


def try_inputs(kind: str, folder: Path, seed: int, numbers: range, said: Connection) -> None:
    """Tries these inputs of a kind in this process, and says of each what came of it: "read", "refused" or why not."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    torch.set_num_threads(1)
    datasets.disable_progress_bars()
    said.send("ready")
    for number in numbers:
        try:
            KINDS[kind][0](folder, stream("fuzz", kind, seed, number))
            said.send("read")
        except ForeseeError as error:
            said.send("refused" if "\n" not in str(error) else f"{len(str(error).splitlines())} lines: {error}")
        except Exception as error:  # noqa: BLE001  # what is looked for
            said.send(f"{type(error).__name__}: {error}")


def outcomes(kind: str, folder: Path, seed: int, count: int, seconds: int) -> Iterator[tuple[int, str]]:
    """The outcome of each input of a kind by its number; a process that dies or hangs is followed by another."""
    processes, number = multiprocessing.get_context("forkserver"), 0
    processes.set_forkserver_preload(["datasets", "transformers", "pyarrow.parquet", "foresee.training.loop"])
    while number < count:
        heard, said = processes.Pipe(duplex=False)
        process = processes.Process(target=try_inputs, args=(kind, folder, seed, range(number, count), said))
        process.start()
        said.close()
        allowed = STARTING
        try:
            while number < count:
                found = heard.recv() if heard.poll(allowed) else "it hung"
                if found != "ready":
                    yield number, found
                    number, allowed = number + 1, seconds
                if found == "it hung":
                    break
        except EOFError:
            process.join()
            yield number, f"the process died with {process.exitcode}"
            number += 1
        process.kill() if number < count else None
        process.join()
        heard.close()


def main() -> int:
    """Runs it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=Path)
    options.add_argument("--inputs", type=int, default=100_000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--seconds", type=int, default=10)
    options.add_argument("--kind", choices=KINDS)
    asked = options.parse_args()
    folder = asked.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ |= {"FORESEE_CACHE": str(folder / "cache"), "HF_HUB_OFFLINE": "1"}
    prepare(folder)
    before = [digest_of(folder / name) for name in ("run", "kept")]
    counts: Counter[str] = Counter()
    faults, took = 0, dict[str, int]()
    for kind in [asked.kind] if asked.kind else KINDS:
        began = time.perf_counter()
        inputs = asked.inputs if asked.kind else round(asked.inputs * KINDS[kind][1])
        for number, found in outcomes(kind, folder, asked.seed, inputs, asked.seconds):
            good = found in ("read", "refused")
            counts[f"{kind}, {found if good else 'FAILED'}"] += 1
            if not good:
                faults += 1
                print(f"{kind} number {number} of seed {asked.seed}: {found}", file=sys.stderr, flush=True)
        took[kind] = round(time.perf_counter() - began)
    lost = before != [digest_of(folder / name) for name in ("run", "kept")]
    found = {"inputs": sum(counts.values()), "seed": asked.seed, "seconds": took, "lost": lost}
    print(json.dumps(found | dict(sorted(counts.items())), indent=1))
    return int(bool(faults or lost))


if __name__ == "__main__":
    sys.exit(main())
