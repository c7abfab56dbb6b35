"""What the whole program gives, from the outside, as recorded in ``tests/golden``: losses, answers, weights, examples
and the command line's JSON.

A change of the code's arrangement must leave all of it as it is, and so this file looks at ``import foresee``,
``python -m foresee`` and the files of a run alone. After a change that is meant to alter what is
recorded, ``python tests/test_golden.py --record`` (with ``src`` on the path) writes it anew, for the diff to be read.

Weights, and so the names of runs that begin from them, are compared to the last bit where the processor and PyTorch are
those of the recording, with one thread; elsewhere sums are made in another order, and numbers are compared loosely.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import os
import platform
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import foresee
from foresee.experiments.engine import InProcess
from foresee.objectives.base import objectives

HERE = Path(__file__).resolve().parent
GOLDEN = HERE / "golden"

CLOSE, ELSEWHERE = 1e-6, 1e-3
"""Relative differences that numbers may have: on the recording's machine, and on another."""

TASK = "path-star:degree=2,length=4,nodes=12,goals=one"
PROMPTS = (
    "0,1|1,2|2,3|0,4|4,5|5,6/0,3=",
    "7,3|2,9|11,6|7,11|3,2|6,0/7,9=",
    "5,10|8,2|1,4|4,5|0,8|1,0/1,2=",
    "3,7|6,1|9,3|6,9|11,10|1,11/6,7=",
)
SETTINGS: dict[str, Any] = {
    "steps": 5, "batch": 16, "lr": 0.01, "data": "fixed:200", "test": 24, "eval_every": 1, "warmup": 2,
    "precision": "float32", "device": "cpu",
}  # fmt: skip

BACKBONES = {
    "transformer": "transformer:layers=2,width=16,heads=2,context=64",
    "mamba": "mamba:layers=2,width=16,state=4",
    "hf": "hf:tiny-gpt2",
}
OTHER_BACKBONES = {
    "llama": f"{BACKBONES['transformer']},positions=rotary,norm=rms,mlp=swiglu,bias=false,tied=false",
    "mamba2": "mamba2:layers=2,width=16,state=8,head_width=16",
    "hf-lora": "hf:tiny-gpt2,lora=2",
}
VARIANTS = (
    "future-insertion:place=random,plan=true",
    "masked-diffusion:weighting=mean",
    "masked-diffusion:weighting=mgdm,steps=2",
    "multi-token:heads=2,weight=1.0",
    "multi-token-sequential:depth=2",
    "next-latent:latents=answer",
    "teacherless:hybrid=0.5",
    "token-masking:choose=span,replace=random",
)
OTHER_SETTINGS: dict[str, dict[str, Any]] = {
    "in parts": {"accumulate": 2, "recompute": True},
    "fresh": {"data": "fresh", "schedule": "cosine", "weight_decay": 0.1, "beta2": 0.95, "clip": 0.1},
    "another seed": {"seed": 3},
}

PLUG_IN = ["--plugin", str(HERE.parent / "examples" / "mate_in_two.py")]
HIDDEN = {"dir", "examples_per_second", "seconds", "speeds"}
"""Keys of the command line's JSON whose values are times or places."""


# A place to work in ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def workplace(folder: Path) -> Iterator[None]:
    """Within it, ``folder`` is the current one, holds the files that specs here name, and is where files are cached:
    the names of runs and streams depend on how a file is named. One thread computes."""
    for file in (HERE / "own_data.jsonl", HERE.parent / "examples" / "mate_in_two.csv"):
        shutil.copy(file, folder)
    _save_gpt2(folder / "tiny-gpt2")
    threads, handler = torch.get_num_threads(), signal.getsignal(signal.SIGTERM)
    torch.set_num_threads(1)
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patched:
        patched.setenv("FORESEE_CACHE", str(folder / "cache"))
        patched.setenv("COLUMNS", "200")
        patched.setattr("foresee.experiments.pool.WorkerPool", InProcess)  # processes take longer to start
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            signal.signal(signal.SIGTERM, handler)


def _save_gpt2(folder: Path) -> None:
    """A checkpoint as transformers writes it, though not by its hand, whose initial weights are its own affair."""
    rows, width, positions = 40, 16, 64
    config = {
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": rows, "n_positions": positions,
        "n_embd": width, "n_layer": 2, "n_head": 2, "bos_token_id": None, "eos_token_id": None,
    }  # fmt: skip
    shapes: dict[str, tuple[int, ...]] = {"wte.weight": (rows, width), "wpe.weight": (positions, width)}
    for layer in ("h.0", "h.1"):
        for name, inputs, outputs in (
            ("attn.c_attn", width, 3 * width), ("attn.c_proj", width, width),
            ("mlp.c_fc", width, 4 * width), ("mlp.c_proj", 4 * width, width),
        ):  # fmt: skip
            shapes |= {f"{layer}.{name}.weight": (inputs, outputs), f"{layer}.{name}.bias": (outputs,)}
    norms = ("h.0.ln_1", "h.0.ln_2", "h.1.ln_1", "h.1.ln_2", "ln_f")
    shapes |= {f"{norm}.{part}": (width,) for norm in norms for part in ("weight", "bias")}
    generator = torch.Generator().manual_seed(0)
    tensors = {
        f"transformer.{name}": name.endswith(("ln_1.weight", "ln_2.weight", "ln_f.weight"))
        + (1.0 if name.startswith("w") else 0.1) * torch.randn(shape, generator=generator)
        for name, shape in shapes.items()
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def said(*argv: str) -> str:
    """Standard output of a command that succeeds, in this process, as ``python -m foresee`` runs it."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patched, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patched.setattr(sys, "argv", ["foresee", *argv])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("foresee", run_name="__main__")
    assert ended.value.code == 0, err.getvalue()
    return out.getvalue()


def said_apart(*argv: str) -> str:
    """The same in a process of its own, where no test has registered anything."""
    env = {**os.environ, "PYTHONPATH": str(Path(foresee.__file__).resolve().parents[1])}
    command = [sys.executable, "-m", "foresee", *argv]
    return subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout


def lines_of(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def machine() -> dict[str, str]:
    """What decides the last bits of a sum."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return {
        "processor": model[1] if model else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }


# Training -------------------------------------------------------------------------------------------------------------


def trained(objective: str, backbone: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What comes of a run, or the key words of the sentence that refuses it."""
    try:
        run = foresee.train(TASK, objective, backbone, **SETTINGS | settings)
    except foresee.RequestError as error:
        return {"refused": re.findall(r"^objective '[a-z-]+|\b[A-Z]{5,}\b", str(error))}
    lines = lines_of((run.dir / "metrics.jsonl").read_text())
    rows = {line.pop("row"): line.get("values", line) for line in lines_of((run.dir / "rows.jsonl").read_text())}
    assert rows == run.rows
    again, shaken = foresee.load(run.dir), foresee.load(_shaken(run.dir))
    return {
        "run": run.dir.name,
        "files": sorted(path.name for path in run.dir.iterdir()),
        "loss": [line["loss"] for line in lines],
        "parts": [line["parts"] for line in lines],
        "last": {key: lines[-1][key] for key in ("position_loss", "lr", "eval")},
        "rows": rows if objective in ("next-token", "reversed") else {"exact": rows["exact"]},
        "verdict": run.verdict.name,
        "answers": [again.generate(prompt) for prompt in PROMPTS],
        "shaken": [shaken.generate(prompt) for prompt in PROMPTS],
        "weights": digest(run.dir / "model.safetensors"),
    }


def _shaken(directory: Path) -> Path:
    """A copy of a run with noise on its weights: five steps teach one answer to every prompt, which shows little of how
    it is decoded."""
    copy = shutil.copytree(directory, directory.with_name("shaken"))
    file = copy / "model.safetensors"
    with safe_open(file, "pt") as opened:
        note = json.loads(opened.metadata()["note"])
    tensors = load_file(file)
    for name, tensor in tensors.items():
        generator = torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
        tensors[name] = tensor + (tensor.dim() > 1) * 0.5 * torch.randn(tensor.shape, generator=generator)
    del note["digest"]
    note["digest"] = hashlib.sha256(
        json.dumps(note, sort_keys=True).encode()
        + b"".join(f"{name} {kind}".encode() + content for name, kind, content in _contents(tensors))
    ).hexdigest()
    save_file(tensors, file, metadata={"note": json.dumps(note)})
    return copy


def digest(file: Path) -> str:
    """SHA-256 of every tensor's name, kind, shape and bytes."""
    hashed = hashlib.sha256()
    for name, kind, content in _contents(load_file(file)):
        hashed.update(f"{name} {kind}\n".encode() + content)
    return hashed.hexdigest()


def _contents(tensors: dict[str, torch.Tensor]) -> Iterator[tuple[str, str, bytes]]:
    for name, tensor in sorted(tensors.items()):
        flat = tensor.contiguous().flatten().view(torch.uint8)
        yield name, f"{tensor.dtype} {tuple(tensor.shape)}", flat.numpy().tobytes()


def pairs(listed: list[str]) -> dict[str, dict[str, Any]]:
    """What is trained, by the name of its test: every objective on three backbones, and next-token on others."""
    none: dict[str, Any] = {}
    asked = {f"{name} on {on}": (name, spec, none) for name in listed for on, spec in BACKBONES.items()}
    asked |= {f"{name} on transformer": (name, BACKBONES["transformer"], none) for name in VARIANTS}
    asked |= {f"next-token on {on}": ("next-token", spec, none) for on, spec in OTHER_BACKBONES.items()}
    asked |= {
        f"next-token, {how}": ("next-token", BACKBONES["transformer"], more) for how, more in OTHER_SETTINGS.items()
    }
    # Evaluating is most of the time, so that only the registered objectives on one backbone have every step's losses.
    return {
        key: {
            "objective": objective,
            "backbone": spec,
            "settings": {}
            if key == f"{objective} on transformer" and objective in listed
            else {"eval_every": 5} | more,
        }
        for key, (objective, spec, more) in asked.items()
    }


# Examples and the command line ----------------------------------------------------------------------------------------


def drawn(spec: str) -> dict[str, Any]:
    """Digests of 32 examples of either split (or as many as there are), and the first of each to look at."""
    found: dict[str, Any] = {}
    n = "8" if "9x9" in spec else "32"
    for split in ("train", "test"):
        asked = ("generate", spec, "-n", n, "--split", split, "--seed", "0", "--format", "jsonl")
        text = said_apart(*asked, *PLUG_IN) if spec.startswith("mate-in-two") else said(*asked)
        found[split] = {"n": len(lines_of(text)), "first": text.partition("\n")[0][:120], "sha256": sha256(text)}
    return found


def _asked(settings: dict[str, Any]) -> list[str]:
    return [f"--{key.replace('_', '-')}={value}" for key, value in settings.items()] + ["--json"]


QUICK = [f"--backbone={BACKBONES['transformer']}", *_asked(SETTINGS | {"eval_every": 5, "data": "200"})]


def _runs() -> dict[str, Any]:
    one = json.loads(said("train", TASK, "--objective=reversed", *QUICK))
    assert json.loads(said("train", TASK, "--objective=reversed", *QUICK)) == one
    return {
        "train": one,
        "evaluate": json.loads(said("evaluate", one["dir"], "--json")),
        "compare": json.loads(
            said("compare", TASK, "--objectives=next-token,multi-token:heads=2,weight=1.0", "--seeds=2", *QUICK)
        ),
        "runs": json.loads(said("runs", "--where=objective.name!=multi-token", "--sort=seed", "--json")),
    }


def _generate() -> dict[str, Any]:
    text = said("generate", TASK, "-n", "16", "--seed", "1")
    said("generate", TASK, "-n", "16", "--seed", "1", "--out", "examples.txt")
    assert Path("examples.txt").read_text() == text
    run = json.loads(said("train", TASK, *QUICK, "--data=examples.txt"))
    return {"text": text.splitlines()[:2], "sha256": sha256(text), "trained on it": run}


def _study() -> dict[str, Any]:
    asked = ("study", "pitfalls-mamba", f"--results={HERE.parent / 'results' / 'mamba'}", "--json")
    finished = json.loads(said(*asked))
    del finished["searched"]  # a path of this machine
    return {"finished": finished, "plan": json.loads(said(*asked, "--dry-run"))}


def _data() -> dict[str, Any]:
    inspected = json.loads(said("inspect", "own_data.jsonl", "--json"))
    found = said("diagnose", "own_data.jsonl", "--steps=3", "--seeds=1", "--batch=16", "--json")
    return {"inspect": inspected, "diagnose": json.loads(found)}


def _options() -> dict[str, Any]:
    """The options of every command."""
    commands = re.findall(r"^│?\s{1,3}([a-z]+)\s{2,}", said("--help"), re.MULTILINE)
    return {name: sorted(set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", said(name, "--help")))) for name in commands}


COMMANDS: dict[str, Callable[[], Any]] = {
    "runs": _runs,
    "generate": _generate,
    "study": _study,
    "data": _data,
    "options": _options,
}


# Comparing ------------------------------------------------------------------------------------------------------------


def golden(name: str) -> dict[str, Any]:
    file = GOLDEN / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def plain(value: Any) -> Any:
    """Eight digits of every number, and nothing of times and places."""
    if isinstance(value, dict):
        return {key: "hidden" if key in HIDDEN else plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [plain(inner) for inner in value]
    return float(f"{value:.8g}") if isinstance(value, float) else value


def differences(expected: Any, found: Any, close: float, where: str = "") -> Iterator[str]:
    """One line for everything that is not as expected."""
    numbers = isinstance(expected, float) or isinstance(found, float)
    if isinstance(expected, dict) and isinstance(found, dict):
        for key in sorted(expected.keys() ^ found.keys()):
            yield f"{where}/{key} is {'missing' if key in expected else 'new'}"
        for key in expected.keys() & found.keys():
            yield from differences(expected[key], found[key], close, f"{where}/{key}")
    elif isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        for number, (one, other) in enumerate(zip(expected, found, strict=True)):
            yield from differences(one, other, close, f"{where}/{number}")
    elif numbers and isinstance(expected, int | float) and isinstance(found, int | float):
        if not math.isclose(expected, found, rel_tol=close, abs_tol=close / 10):
            yield f"{where}: {expected!r} was recorded, {found!r} found"
    elif type(expected) is not type(found) or expected != found:
        yield f"{where}: {expected!r} was recorded, {found!r} found"


def agree(expected: Any, found: Any) -> None:
    unlike = sorted(differences(expected, plain(found), CLOSE if same_machine() else ELSEWHERE))
    assert not unlike, "\n".join(["not as recorded:", *unlike[:20]])


def same_machine() -> bool:
    return bool(golden("machine") == machine())


TRAINED, DRAWN_HERE, SAID = golden("training"), golden("examples"), golden("commands")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path) -> Iterator[None]:
    with workplace(tmp_path):
        yield


HANDFUL = (
    "next-token on transformer", "belief-state on transformer", "reversed on mamba", "multi-token on hf", "path-star",
)  # fmt: skip
"""What is checked at every change; the rest is slow."""


def handful(names: Iterable[str]) -> list[Any]:
    return [name if name.startswith(HANDFUL) else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", handful(TRAINED))
def test_training(name: str) -> None:
    expected = TRAINED[name]
    found = trained(expected["objective"], expected["backbone"], expected["settings"])
    expected = dict(expected["found"])
    if "weights" not in expected or same_machine():
        agree(expected, found)
        return
    del expected["weights"], found["weights"]
    agree(expected, found)
    pytest.skip("all is as recorded but for the weights' last bits, which are those of another machine")


@pytest.mark.parametrize("spec", handful(DRAWN_HERE))
def test_examples(spec: str) -> None:
    agree(DRAWN_HERE[spec], drawn(spec))


@pytest.mark.parametrize("name", SAID)
def test_commands(name: str) -> None:
    if name == "data" and not same_machine():
        pytest.skip("the precision of a diagnosis is the processor's choice")
    agree(SAID[name], COMMANDS[name]())


def test_the_top_level_names_stay() -> None:
    assert {"task", "backbone", "objective", "train", "load", "study", "RequestError", "ForeseeError"} <= set(
        foresee.__all__
    )


# Recording ------------------------------------------------------------------------------------------------------------


def record() -> None:
    """Writes ``tests/golden`` anew."""

    def here(work: Callable[[], Any]) -> Any:
        with tempfile.TemporaryDirectory() as folder, workplace(Path(folder)):
            return plain(work())

    commands = {name: here(work) for name, work in COMMANDS.items()}
    training = {
        name: {**asked, "found": here(lambda asked=asked: trained(**asked))}  # type: ignore[misc]
        for name, asked in pairs(objectives.names()).items()
    }
    examples = {spec: here(lambda spec=spec: drawn(spec)) for spec in DRAWN_HERE}  # type: ignore[misc]
    GOLDEN.mkdir(exist_ok=True)
    for file, entries in (
        ("machine", machine()), ("commands", commands), ("training", training), ("examples", examples),
    ):  # fmt: skip
        lines = (f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in entries.items())
        (GOLDEN / f"{file}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    if sys.argv[1:] != ["--record"]:
        sys.exit("usage: python tests/test_golden.py --record")
    os.environ["OMP_NUM_THREADS"] = "1"
    record()
