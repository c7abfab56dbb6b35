"""A run: what was asked for, the directory that holds it, and what came of it.

``runs/<digest>/`` holds ``spec.json``, ``env.json``, ``metrics.jsonl`` (training, without times: on a CPU the same spec
gives the same bytes), ``timing.jsonl``, ``rows.jsonl`` (final measurements), ``examples.jsonl``, ``model.safetensors``
and, while unfinished, ``checkpoint/``. ``rows.jsonl`` is written last: a run that has it is finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
import os
import platform
import re
import typing
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from foresee import files
from foresee.backbones.base import backbones
from foresee.backbones.measure import refuse_missing
from foresee.data import File, Fixed, Source, parse_data
from foresee.diagnostics.base import Rows
from foresee.diagnostics.verdict import Verdict, judge
from foresee.errors import RequestError
from foresee.objectives.base import Objective, objectives
from foresee.seeds import torch_stream
from foresee.spec import read_value, resolve, write_value
from foresee.tasks.base import Task, tasks

CONTROL = "reversed"
SOLVED = 0.95
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """Everything that decides a run's outcome. Spec strings are canonical; make one with ``RunSpec.of``."""

    task: str
    objective: str
    backbone: str
    plugins: str
    steps: int
    batch: int
    lr: float
    seed: int
    data: str
    data_digest: str
    test: int
    eval_every: int
    warmup: int
    schedule: Literal["constant", "cosine"]
    weight_decay: float
    beta2: float
    clip: float
    precision: Literal["bf16", "float32"]
    device: Literal["cpu", "cuda"]
    until_solved: bool

    @staticmethod
    def of(
        task: str,
        objective: str,
        backbone: str = "gpt-nano",
        *,
        steps: int = 1000,
        batch: int = 256,
        lr: float = 1e-3,
        seed: int = 0,
        data: str = "fixed:200000",
        test: int = 20_000,
        eval_every: int = 100,
        warmup: int = 100,
        schedule: str = "constant",
        weight_decay: float = 0.01,
        beta2: float = 0.999,
        clip: float = 1.0,
        precision: str = "auto",
        device: str = "auto",
        until_solved: bool = False,
    ) -> RunSpec:
        """Checks every value and spells specs canonically. Raises ``RequestError`` on the first thing that is wrong."""
        for name, value, least in (
            ("steps", steps, 1), ("batch", batch, 1), ("test", test, 1), ("eval_every", eval_every, 1),
            ("warmup", warmup, 0), ("seed", seed, 0), ("weight_decay", weight_decay, 0), ("clip", clip, 0),
        ):  # fmt: skip
            if not value >= least:
                raise RequestError(f"{name}={value} must be at least {least}")
            if value == math.inf:
                raise RequestError(f"{name}={value} must be finite")
        if not 0 < lr < math.inf:
            raise RequestError(f"lr={lr} must be above 0 and finite")
        if not 0 <= beta2 < 1:
            raise RequestError(f"beta2={beta2} must be from 0 to below 1")
        if schedule not in ("constant", "cosine"):
            raise RequestError(f"schedule={schedule!r} must be constant or cosine")
        if device not in ("auto", "cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
            raise RequestError(f"device={device!r} must be auto, cpu or, where PyTorch sees a GPU, cuda")
        device = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        if precision not in ("auto", "bf16", "float32"):
            raise RequestError(f"precision={precision!r} must be auto, bf16 or float32")
        precision = ("bf16" if quick_bf16(device) else "float32") if precision == "auto" else precision
        source = parse_data(data)
        parts = (resolve(tasks, task), resolve(objectives, objective), resolve(backbones, backbone))
        return RunSpec(
            task=parts[0].text,
            objective=parts[1].text,
            backbone=parts[2].text,
            plugins=plugin_digest([part.cls for part in parts]),
            steps=steps, batch=batch, lr=float(lr), seed=seed, data=source_text(source), test=test,
            eval_every=eval_every, warmup=warmup, schedule=schedule, weight_decay=float(weight_decay),  # type: ignore[arg-type]
            beta2=float(beta2), clip=float(clip),
            data_digest=file_digest(source.path) if isinstance(source, File) else "",
            precision=precision, device=device, until_solved=until_solved,  # type: ignore[arg-type]
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """16 hexadecimal characters: the run's name."""
        text = json.dumps({"format": FORMAT, **dataclasses.asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def under(self, objective: str) -> RunSpec:
        """The same run with another objective."""
        parts = (resolve(tasks, self.task), resolve(objectives, objective), resolve(backbones, self.backbone))
        return dataclasses.replace(self, objective=parts[1].text, plugins=plugin_digest([part.cls for part in parts]))

    def control(self) -> RunSpec:
        """The positive control: the same run with the answer written backwards."""
        return self.under(CONTROL)

    def build_task(self) -> Task:
        """The task of this run."""
        return resolve(tasks, self.task).build()

    def build_objective(self, task: Task) -> Objective:
        """Fresh backbone and objective on the CPU, weights drawn from this run's own streams. Raises ``RequestError``
        where the backbone lacks what the objective needs or is too short for the task."""
        objective = resolve(objectives, self.objective)
        backbone = resolve(backbones, self.backbone)
        vocab = task.vocab.extended(objective.cls.symbols)
        network = backbone.build(len(vocab), torch_stream("weights", self.backbone, self.seed))
        refuse_missing(objective.cls.needs, self.objective, network, self.backbone)
        needed = task.prompt_length + task.answer_length
        if network.longest is not None and network.longest < needed:
            raise RequestError(
                f"task {self.task} needs {needed} positions, but backbone {self.backbone} has {network.longest}; "
                f"give it more, e.g. context={needed}"
            )
        return objective.build(network, vocab, torch_stream("weights", self.backbone, self.objective, self.seed))


def source_text(source: Source) -> str:
    """The canonical spelling of where training examples come from."""
    if isinstance(source, Fixed):
        return f"fixed:{source.examples}"
    return f"file:{source.path}" if isinstance(source, File) else "fresh"


def plugin_digest(classes: Sequence[type]) -> str:
    """16 hexadecimal characters of the source files of those classes that are not this package's own, so that an edited
    plug-in is another run; empty where there are none."""
    files_of = {inspect.getsourcefile(cls) for cls in classes if not cls.__module__.startswith("foresee.")}
    digests = sorted(file_digest(Path(name)) for name in files_of if name is not None)
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:16] if digests else ""


def file_digest(path: Path) -> str:
    """16 hexadecimal characters of a data file's SHA-256, so that another file of the same name is another run."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise RequestError(f"{path}: cannot be read: {error.strerror}") from None


def quick_bf16(device: str) -> bool:
    """Whether bfloat16 is the faster precision: the processor multiplies it in hardware."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())


def environment() -> dict[str, Any]:
    """What ``env.json`` records: versions, hardware and a digest of this package's code."""
    import foresee

    code = hashlib.sha256()
    for path in sorted(Path(foresee.__file__).parent.rglob("*.py")):
        code.update(path.read_bytes())
    return {
        "foresee": foresee.__version__,
        "code": code.hexdigest()[:16],
        "python": platform.python_version(),
        # Asked of the installation: importing transformers would take a second.
        **{name: version(name) for name in ("torch", "numpy", "safetensors", "transformers")},
        "system": platform.system(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


@dataclass(frozen=True)
class Run:
    """A finished run, read from its directory."""

    dir: Path
    spec: RunSpec
    rows: Rows
    seconds: float
    """Training time, evaluation included, summed over resumptions."""

    @cached_property
    def task(self) -> Task:
        """The task it was trained on."""
        return self.spec.build_task()

    @cached_property
    def objective(self) -> Objective:
        """The trained objective, on the CPU, in evaluation mode."""
        objective = self.spec.build_objective(self.task)
        tensors, _ = files.read_tensors(self.dir / "model.safetensors")
        load_weights(objective, tensors, self.dir / "model.safetensors")
        return objective.eval()

    @property
    def verdict(self) -> Verdict:
        """What the measurements say; inconclusive until the positive control beside it (same root) has solved."""
        control = self.dir.parent / self.spec.control().digest
        solved = None
        if (control / "rows.jsonl").exists():
            exact = read_rows(control).get("exact")
            solved = isinstance(exact, dict) and exact["value"] >= SOLVED
        return judge(self.rows, self.task.chance, solved)

    def generate(self, prompt: str) -> str:
        """The answer that the trained model writes for a prompt in the task's text form."""
        tokens, _ = self.task.read_line(prompt)
        device = next(self.objective.parameters()).device
        with torch.inference_mode():
            written = self.objective.generate(torch.tensor([tokens], device=device), self.task.answer_length)
        return self.task.write_answer(written[0].tolist())

    def json(self) -> dict[str, Any]:
        """The object that ``--json`` prints."""
        return {
            "run": self.spec.digest, "dir": str(self.dir), "task": self.spec.task, "objective": self.spec.objective,
            "backbone": self.spec.backbone, "seed": self.spec.seed, "steps": self.steps, "rows": self.rows,
            "verdict": self.verdict.json(), "seconds": round(self.seconds, 1),
        }  # fmt: skip

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """Lines of ``metrics.jsonl``. Raises ``RequestError`` where it is missing or damaged."""
        lines = files.read_json_lines(self.dir / "metrics.jsonl")
        for number, line in enumerate(lines, start=1):
            if not isinstance(line.get("step"), int) or not isinstance(line.get("eval"), dict):
                raise files.damaged(self.dir / "metrics.jsonl", f"line {number} is not a report")
        return lines

    @property
    def steps(self) -> int:
        """Steps taken: fewer than asked for where training stopped once solved."""
        return int(last_number(self.dir / "metrics.jsonl", "step"))


def read_rows(directory: Path) -> Rows:
    """Final measurements of a finished run. Raises ``RequestError`` where they are missing or damaged."""
    path = directory / "rows.jsonl"
    rows: Rows = {}
    for number, line in enumerate(files.read_json_lines(path), start=1):
        name = line.pop("row", None)
        row = line.get("values", line)
        measured = row if isinstance(row, list) else [row]
        if not isinstance(name, str) or not all(map(_is_measurement, measured)):
            raise files.damaged(path, f"line {number} is not a measurement")
        rows[name] = row
    if not isinstance(rows.get("exact"), dict):
        raise files.damaged(path, "it has no row 'exact'")
    return rows


def _is_measurement(row: Any) -> bool:
    """Whether it is a value with the number of examples it was measured on, and nothing but numbers."""
    return (
        isinstance(row, dict)
        and {"value", "n"} <= row.keys()
        and all(isinstance(number, int | float) and math.isfinite(number) for number in row.values())
    )


def last_number(path: Path, key: str) -> float:
    """The number under ``key`` in the last line of a JSON-lines file. Raises ``RequestError`` where there is none."""
    lines = files.read_json_lines(path)
    if not lines or not isinstance(lines[-1].get(key), int | float):
        raise files.damaged(path, f"its last line holds no number {key!r}")
    return float(lines[-1][key])


def rows_as_lines(rows: Rows) -> list[dict[str, Any]]:
    """``read_rows`` backwards."""
    return [
        {"row": name, "values": value} if isinstance(value, list) else {"row": name, **value}
        for name, value in rows.items()
    ]


def read_spec(directory: Path) -> RunSpec:
    """The spec of a run directory. Raises ``RequestError`` where it is none or is damaged."""
    if not directory.is_dir():
        raise RequestError(f"{directory} is not a run directory: no such folder")
    path = directory / "spec.json"
    if not path.exists():
        raise RequestError(f"{directory} is not a run directory: it holds no spec.json")
    raw = files.read_json(path)
    kinds = typing.get_type_hints(RunSpec)
    if not isinstance(raw, dict) or raw.keys() != kinds.keys():
        raise files.damaged(path, "its keys are not those of a run of this version")
    for key, kind in kinds.items():
        try:
            same = read_value(write_value(raw[key]), kind) == raw[key]
        except ValueError:
            same = False
        if not same:
            raise files.damaged(path, f"{key} cannot be {raw[key]!r}")
    spec = RunSpec(**raw)
    # A folder that was given another name says nothing; one that has a digest's form must have the right one.
    name = directory.resolve().name
    if re.fullmatch("[0-9a-f]{16}", name) and name != spec.digest:
        raise files.damaged(path, f"its digest is {spec.digest}, not the name of its folder")
    return spec


def load(directory: str | Path) -> Run:
    """A finished run. Raises ``RequestError`` where the directory is no run, unfinished or damaged."""
    directory = Path(directory)
    spec = read_spec(directory)
    if not (directory / "rows.jsonl").exists():
        raise RequestError(f"{directory} holds an unfinished run; run the command that started it to finish it")
    return Run(directory, spec, read_rows(directory), last_number(directory / "timing.jsonl", "seconds"))


def load_weights(objective: Objective, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Copies weights in. Raises ``RequestError`` where names or shapes differ, as with another vocabulary."""
    own = objective.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in own or name not in tensors:
            raise RequestError(f"{path} does not fit this model: weight {name!r} is only on one side")
        if own[name].shape != tensors[name].shape:
            raise RequestError(
                f"{path} does not fit this model: weight {name!r} has shape {tuple(tensors[name].shape)}, but "
                f"{tuple(own[name].shape)} is needed; was it made for another vocabulary or size?"
            )
    objective.load_state_dict(tensors)
