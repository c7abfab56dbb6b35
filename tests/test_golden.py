"""Losses, rows, answers and weights of a handful of runs, options and JSON of commands, as ``golden.json`` has them.

A change of the code's arrangement leaves them as they are. After one that is meant to alter them,
``python tests/test_golden.py`` (with ``src`` on the path) writes the file anew, for the diff to be read. Weights are
compared to the last bit where processor and PyTorch are those of the recording; elsewhere sums are made in another
order, and numbers are compared loosely. What tasks draw has digests of its own in ``test_tasks.py``.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from program import Program
from safetensors.torch import load_file

import foresee

GOLDEN = Path(__file__).with_name("golden.json")
RESULTS = GOLDEN.parent.parent / "results" / "mamba"
RECORDED = json.loads(GOLDEN.read_text())
TASK = "path-star:degree=2,length=4,nodes=12,goals=one"
PROMPTS = ("0,1|1,2|2,3|0,4|4,5|5,6/0,3=", "7,3|2,9|11,6|7,11|3,2|6,0/7,9=")
SETTINGS: dict[str, Any] = {
    "steps": 5, "batch": 16, "lr": 0.01, "data": "fixed:200", "test": 24, "eval_every": 1, "warmup": 2,
    "precision": "float32", "device": "cpu",
}  # fmt: skip

WITH_KEYS = {
    "inspect": [str(GOLDEN.with_name("own_data.jsonl"))],
    "study": ["pitfalls-mamba", "--results", str(RESULTS)],
    "runs": [str(RESULTS)],
}
"""Commands that train nothing and whose JSON has many keys."""


def machine() -> dict[str, str]:
    """What decides the last bits of a sum."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.*)$", cpuinfo.read_text(), re.MULTILINE) if cpuinfo.exists() else None
    return {
        "processor": model[1] if model else "", "instructions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
    }  # fmt: skip


def train(objective: str, backbone: str, settings: dict[str, Any], runs: Path) -> dict[str, Any]:
    """What comes of a run."""
    run = foresee.train(TASK, objective, backbone, runs=runs, **SETTINGS | settings)
    lines = [json.loads(line) for line in (run.dir / "metrics.jsonl").read_text().splitlines()]
    weights = hashlib.sha256()
    for name, tensor in sorted(load_file(run.dir / "model.safetensors").items()):
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode() + tensor.numpy().tobytes())
    return {
        "run": run.dir.name,
        "files": sorted(path.name for path in run.dir.iterdir()),
        "loss": [line["loss"] for line in lines],
        "parts": [line["parts"] for line in lines],
        "last": {key: lines[-1][key] for key in ("position_loss", "lr", "eval")},
        "rows": run.rows,
        "verdict": run.verdict.name,
        "answers": [foresee.load(run.dir).generate(prompt) for prompt in PROMPTS],
        "weights": weights.hexdigest(),
    }


def list_options(ask: Callable[..., str]) -> dict[str, list[str]]:
    """The options of every command, as its help names them."""
    commands = re.findall(r"^│?\s{1,3}([a-z]+)\s{2,}", ask("--help"), re.MULTILINE)
    return {name: sorted(set(re.findall(r"(?<![\w-])--?[a-z][a-z0-9-]*", ask(name, "--help")))) for name in commands}


def list_keys(value: Any) -> list[str]:
    """Every key within a value, whichever of a list's items has it."""
    return sorted({re.sub(r"/\d+", "/*", path) for path in flatten(value)})


def flatten(value: Any, where: str = "") -> dict[str, Any]:
    """Every number and word within a value, by its path."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list | tuple) else None
    if inner is None:
        return {where: value}
    return {path: leaf for key, each in inner for path, leaf in flatten(each, f"{where}/{key}").items()}


@pytest.mark.parametrize("name", RECORDED["runs"])
def test_training(name: str, tmp_path: Path) -> None:
    expected = dict(RECORDED["runs"][name])
    asked = expected.pop("asked")
    found, near = train(**asked, runs=tmp_path), 1e-6
    if machine() != RECORDED["machine"]:
        del expected["weights"], found["weights"]
        near = 1e-3
    theirs, ours = flatten(expected), flatten(found)
    numbers = {path for path, leaf in theirs.items() if isinstance(leaf, float)}
    assert {path: leaf for path, leaf in ours.items() if path not in numbers} == {
        path: leaf for path, leaf in theirs.items() if path not in numbers
    }
    assert [ours[path] for path in numbers] == pytest.approx(
        [theirs[path] for path in numbers], rel=near, abs=near / 10
    )


def test_no_option_of_a_command_is_lost(program: Program) -> None:
    assert list_options(lambda *argv: program(*argv)[1]) == RECORDED["options"]


@pytest.mark.parametrize("name", WITH_KEYS)
def test_no_key_of_a_commands_json_is_lost(name: str, program: Program) -> None:
    assert set(RECORDED["keys"][name]) <= set(list_keys(program.json(name, *WITH_KEYS[name])))


def record(folder: Path) -> None:
    """Writes ``golden.json`` anew; the order of its keys is that of a diff to be read."""

    def ask(*argv: str) -> str:
        return subprocess.run(
            [sys.executable, "-m", "foresee", *argv], capture_output=True, text=True, check=True
        ).stdout

    keys = {name: list_keys(json.loads(ask(name, *argv, "--json"))) for name, argv in WITH_KEYS.items()}
    lines = [
        f'"machine": {json.dumps(machine())}', f'"options": {json.dumps(list_options(ask))}',
        f'"keys": {json.dumps(keys)}',
    ]  # fmt: skip
    for name, each in RECORDED["runs"].items():
        found = {"asked": each["asked"], **train(**each["asked"], runs=folder)}
        lines.append(f"{json.dumps(name)}: {json.dumps(found)}")
    lines[3] = '"runs": {\n' + lines[3]
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}}\n")


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        record(Path(folder))
