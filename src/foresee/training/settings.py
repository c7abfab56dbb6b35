"""What a run is asked to be: a spec that decides its outcome, and the digest that names it."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from foresee.backbones.base import backbones
from foresee.backbones.measure import refuse_missing
from foresee.core.errors import RequestError
from foresee.core.seeds import torch_stream
from foresee.core.spec import resolve
from foresee.objectives.base import Objective, objectives
from foresee.tasks.base import Task, tasks
from foresee.training.data import File, Fixed, Source, parse_data

CONTROL = "reversed"
FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a run's outcome. Spec strings are canonical; make one with ``Settings.of``."""

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

    # Fields that have a default came after runs existed. At its default one is left out of the digest, and a spec file
    # may lack it, so that older runs keep their names.
    backbone_digest: str = ""
    accumulate: int = 1
    recompute: bool = False
    task_digest: str = ""
    processes: int = 1

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
        accumulate: int = 1,
        recompute: bool = False,
        processes: int = 1,
    ) -> Settings:
        """Checks every value and spells specs canonically. Raises ``RequestError`` on the first thing that is wrong.

        ``processes`` share each batch (docs/parallel.md). They add in another order than one does, so it is another
        run.
        """
        for name, value, least in (
            ("steps", steps, 1), ("batch", batch, 1), ("test", test, 1), ("eval_every", eval_every, 1),
            ("accumulate", accumulate, 1), ("processes", processes, 1),
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
        if batch % accumulate:
            raise RequestError(f"batch={batch} must be a multiple of accumulate={accumulate}, the parts it is read in")
        if batch % (processes * accumulate):
            raise RequestError(
                f"batch={batch} must be a multiple of {processes * accumulate}, processes={processes} times "
                f"accumulate={accumulate}, so that each process and part has as many rows"
            )
        source = parse_data(data)
        parts = (resolve(tasks, task), resolve(objectives, objective), resolve(backbones, backbone))
        return Settings(
            task=parts[0].text,
            objective=parts[1].text,
            backbone=parts[2].text,
            plugins=plugin_digest([part.cls for part in parts]),
            steps=steps, batch=batch, lr=float(lr), seed=seed, data=source_text(source), test=test,
            eval_every=eval_every, warmup=warmup, schedule=schedule, weight_decay=float(weight_decay),  # type: ignore[arg-type]  # checked above
            beta2=float(beta2), clip=float(clip),
            data_digest=file_digest(source.path) if isinstance(source, File) else "",
            precision=precision, device=device, until_solved=until_solved,  # type: ignore[arg-type]  # checked above
            backbone_digest=parts[2].cls.content_digest(parts[2].options), accumulate=accumulate, recompute=recompute,
            task_digest=parts[0].cls.content_digest(parts[0].options), processes=processes,
        )  # fmt: skip

    @property
    def digest(self) -> str:
        """16 hexadecimal characters: the run's name."""
        later = {field.name: field.default for field in dataclasses.fields(self)}
        fields = {name: value for name, value in dataclasses.asdict(self).items() if value != later[name]}
        text = json.dumps({"format": FORMAT, **fields}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def under(self, objective: str) -> Settings:
        """The same run with another objective."""
        parts = (resolve(tasks, self.task), resolve(objectives, objective), resolve(backbones, self.backbone))
        return dataclasses.replace(self, objective=parts[1].text, plugins=plugin_digest([part.cls for part in parts]))

    def control(self) -> Settings:
        """The positive control: the same run with the answer written backwards."""
        return self.under(CONTROL)

    def build_task(self) -> Task:
        """The task of this run. Raises ``RequestError`` where the files behind it have changed or are gone."""
        task = resolve(tasks, self.task)
        if task.cls.content_digest(task.options) != self.task_digest:
            raise RequestError(f"the files behind task {self.task} are not those that this run was asked with")
        return task.build()

    def build_objective(self, task: Task) -> Objective:
        """Fresh backbone and objective on the CPU, weights drawn from this run's own streams. Raises ``RequestError``
        where the backbone lacks what the objective needs or is too short for the task."""
        objective = resolve(objectives, self.objective)
        backbone = resolve(backbones, self.backbone)
        if backbone.cls.content_digest(backbone.options) != self.backbone_digest:
            raise RequestError(f"the files behind backbone {self.backbone} are not those that this run was asked with")
        vocab = task.vocab.extended(objective.cls.symbols)
        network = backbone.build(vocab, torch_stream("weights", self.backbone, self.seed))
        network.recompute = self.recompute
        refuse_missing(objective.cls.needs, self.objective, network, self.backbone)
        made = objective.build(network, vocab, torch_stream("weights", self.backbone, self.objective, self.seed))
        needed = task.prompt_length + task.answer_length + made.extra_positions
        if network.longest is not None and network.longest < needed:
            raise RequestError(
                f"task {self.task} with objective {self.objective} needs {needed} positions, but backbone "
                f"{self.backbone} has {network.longest}; choose one that reads more, or give it more where it has such "
                f"an option (context={needed})"
            )
        return made


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
