"""What a run is asked to be: every setting, checked and documented once, and the digest that names the run.

The command line's options, YAML keys, Python keywords, the digest and the line that makes a run again follow from the
fields of ``Settings``. Importing this module loads neither PyTorch nor any task, objective or backbone.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Set
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from foresee.core.errors import RequestError
from foresee.core.files import hash_file
from foresee.core.plugins import loaded_plugin_options, plugin_digest
from foresee.core.registry import Registry, nearest
from foresee.core.spec import Resolved, resolve
from foresee.training.values import LIMITS, Real, Truth, Whole, canonical_data

if TYPE_CHECKING:
    from foresee.objectives.base import Objective
    from foresee.tasks.base import Task

CONTROL = "reversed"  # the objective of the positive control
FORMAT = 1
# Defaults of a step where problems have several rows, and of a run where more than two: with others their look-ups come
# late or not at all (docs/log.md).
PROBLEMS, MANY_ROWS = 64, {"lr": 1.5e-3, "steps": 1000}
AUTO: Any = "auto"  # what the machine decides, once settings are made
LATER = ("backbone_digest", "accumulate", "recompute", "task_digest", "processes", "test_data", "test_data_digest",
         "parent", "parent_steps")  # fmt: skip
"""Fields that came after runs existed: at its default one is left out of the digest, and a spec file may lack it."""

DERIVED = ("plugins", "data_digest", "backbone_digest", "task_digest", "test_data_digest", "parent", "parent_steps")
"""Fields that follow from the others, from files and from the run that is continued."""


class Setting(NamedTuple):
    """A field of ``Settings`` that a user may set; ``default`` is None where there is none."""

    name: str
    type: type[str] | type[int] | type[float] | type[bool]
    default: Any
    description: str


class Settings(BaseModel, frozen=True, strict=True, extra="forbid"):
    """Everything that decides a run's outcome. Spec strings are canonical; make one with ``Settings.of``."""

    task: str = Field(description="As in path-star:degree=2,length=5,nodes=50.")
    objective: str = Field("next-token", description="What to train; see foresee list objectives.")
    backbone: str = Field("gpt-nano", description="A preset or spec.")
    plugins: str = Field("", description="A digest of the source of parts that are not this package's own.")
    steps: Whole = Field(600, ge=1, lt=2**63, description="Training steps; 1000 where problems have 3 rows or more.")
    batch: Whole = Field(128, ge=1, description="Examples a step; 64 problems where they have several rows.")
    lr: Real = Field(2e-3, gt=0, description="Learning rate after warm-up; 1.5e-3 with three rows or more.")
    seed: Whole = Field(0, ge=0, lt=2**63, description="Of weights, training examples and their order.")
    data: Annotated[str, BeforeValidator(canonical_data)] = Field(
        "fixed:200000", description="200000 (a fixed set of that size), fresh, or a file of examples."
    )
    data_digest: str = Field("", description="A digest of the file that data names.")
    test: Whole = Field(5000, ge=1, description="Test examples of the final measurement.")
    eval_every: Whole = Field(50, ge=1, description="Steps between evaluations.")
    warmup: Whole = Field(100, ge=0, description="Steps of linear warm-up.")
    schedule: Literal["constant", "cosine"] = Field("constant", description="constant or cosine (to a tenth).")
    weight_decay: Real = Field(0.01, ge=0, description="On matrix products' weights and Mamba's filters.")
    beta2: Real = Field(0.999, ge=0, lt=1, description="AdamW's second decay rate.")
    clip: Real = Field(1.0, ge=0, description="Largest gradient norm; 0 for none.")
    precision: Literal["bf16", "float32"] = Field(AUTO, description="auto, bf16 or float32.")
    device: Literal["cpu", "cuda", "mps"] = Field(AUTO, description="auto, cpu, cuda or mps.")
    until_solved: Truth = Field(False, description="Stop early once 0.97 of watched examples are exact.")
    backbone_digest: str = Field("", description="A digest of the files behind the backbone.")
    accumulate: Whole = Field(1, ge=1, description="Parts that a batch is read in, in turn, to save memory.")
    recompute: Truth = Field(False, description="Compute activations anew in the backward pass, to save memory.")
    task_digest: str = Field("", description="A digest of the files behind the task.")
    test_data: str = Field("", description="A file of test examples, where data is a file too.")
    test_data_digest: str = Field("", description="A digest of the file that test_data names.")
    parent: str = Field("", description="The run that this one continues.")
    parent_steps: Whole = Field(0, ge=0, description="Steps that it had taken; steps counts them too.")
    processes: Whole = Field(1, ge=1, description="Processes that share each batch (docs/many-runs.md).")

    @staticmethod
    def of(task: str, objective: str = "next-token", backbone: str = "gpt-nano", **settings: Any) -> Settings:
        """Checks every value and spells specs canonically. Raises ``RequestError`` on the first thing that is wrong."""
        from foresee.training.process import has_device

        _refuse_unknown(settings, [setting.name for setting in settable()])
        asked = _checked({"task": task, "objective": objective, "backbone": backbone, **settings})
        if not has_device(asked.device):
            raise RequestError(f"device={asked.device!r} must be {LIMITS['device']}")
        return asked._derived({"task", "objective", "backbone", "data", "test_data"}, {})._suiting_problems(settings)

    def _suiting_problems(self, given: Collection[str]) -> Settings:
        """With the defaults of problems that have several rows, unless ``given``: whole ones, and ``MANY_ROWS``."""
        from foresee.tasks.data import Data

        if {"batch", "data", *MANY_ROWS} <= set(given) or issubclass(self._parts()["task"].cls, Data):
            return self  # no task is built in vain
        group = self.build_task().group
        suiting: dict[str, Any] = {"batch": PROBLEMS * group} if group > 1 else {}
        if (count := self.data_examples) and count % group:
            suiting["data"] = f"fixed:{-(-count // group) * group}"
        suiting |= MANY_ROWS if group > 2 else {}
        return self.model_copy(update={name: value for name, value in suiting.items() if name not in given})

    @model_validator(mode="before")
    @classmethod
    def _choose(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Spells out what the machine decides."""
        device, precision = given.get("device", "auto"), given.get("precision", "auto")
        if "auto" in (device, precision):
            from foresee.training.process import best_device, best_precision

            device = best_device() if device == "auto" else device
            precision = best_precision(device) if precision == "auto" else precision
        return {**given, "device": device, "precision": precision}

    @model_validator(mode="after")
    def _require_equal_parts(self) -> Self:
        if self.test_data and self.data_file is None:
            raise RequestError(f"test_data={self.test_data} goes with data=FILE; the task data takes test_file=FILE")
        parts = self.processes * self.accumulate
        if self.batch % parts:
            raise RequestError(
                f"batch={self.batch} must be a multiple of {parts}, processes={self.processes} times "
                f"accumulate={self.accumulate}, so that each process and part has as many rows"
            )
        return self

    @staticmethod
    def read(raw: object) -> Settings:
        """What ``model_dump`` gave, in this version or an earlier one. Raises ``RequestError`` where a field is
        missing, unknown or wrong."""
        fields = Settings.model_fields.keys()
        if not isinstance(raw, dict) or not fields - set(LATER) <= raw.keys() <= fields:
            raise RequestError("its keys are not those of a run of this version")
        return _checked(raw)

    def replace(self, **changes: Any) -> Settings:
        """The same run with other settings, checked as by ``of``."""
        _refuse_unknown(changes, list(Settings.model_fields))
        return _checked(self.model_dump() | changes)._derived(changes.keys(), changes)

    def control(self) -> Settings:
        """The positive control: the same run on the reversed answer, of the task that ``Task.control`` names."""
        from foresee.tasks.base import control_task

        task = control_task(self.task)
        changed = {} if task == self.task else {"task": task}  # a task's files are not read again
        return self.replace(objective=CONTROL, parent="", parent_steps=0, **changed)

    def _derived(self, changed: Set[str], given: Mapping[str, Any]) -> Settings:
        """With canonical specs, and digests of what stands behind the fields that changed; ``given`` ones stay."""
        own: dict[str, Any] = {}
        if not {"task", "objective", "backbone"}.isdisjoint(changed):
            parts = self._parts()
            own["plugins"] = plugin_digest([part.cls for part in parts.values()])
            own |= {kind: parts[kind].text for kind in parts.keys() & changed}
            for kind in {"task", "backbone"} & changed:
                own[f"{kind}_digest"] = parts[kind].cls.content_digest(parts[kind].options)
        if "data" in changed:
            own["data_digest"] = "" if self.data_file is None else hash_file(self.data_file)[:16]
        if "test_data" in changed:
            own["test_data_digest"] = hash_file(Path(self.test_data))[:16] if self.test_data else ""
        return self.model_copy(update=own | {name: given[name] for name in DERIVED if name in given})

    def _parts(self) -> dict[str, Resolved[Any]]:
        """Task, objective and backbone as their specs resolve."""
        return {kind: resolve(registry, getattr(self, kind)) for kind, registry in part_registries().items()}

    @property
    def data_file(self) -> Path | None:
        """The file of examples that ``data`` names."""
        return Path(self.data.removeprefix("file:")) if self.data.startswith("file:") else None

    @property
    def data_examples(self) -> int | None:
        """How many generated examples ``data`` asks for; None where they are of a file, or new at every step."""
        return int(self.data.removeprefix("fixed:")) if self.data.startswith("fixed:") else None

    @property
    def layers(self) -> int | None:
        """Layers that the backbone's spec names; None where it names none, as a checkpoint's."""
        return int(found[1]) if (found := re.search(r"[:,]layers=([0-9]+)", self.backbone)) else None

    @property
    def digest(self) -> str:
        """16 hexadecimal characters: the run's name."""
        later = {name: Settings.model_fields[name].default for name in LATER}
        fields = {name: value for name, value in self.model_dump().items() if name not in later or value != later[name]}
        text = json.dumps({"format": FORMAT, **fields}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def command(self) -> str:
        """The command line that makes this run again with this version, on this machine; what is at its default is left
        out."""
        start = f"torchrun --nproc-per-node {self.processes} -m foresee" if self.processes > 1 else "foresee"
        plugins = loaded_plugin_options() if self.plugins else []
        if self.parent:
            more = ["train", self.parent, "--more-steps", str(self.steps - self.parent_steps)]
            return shlex.join([*start.split(), *more, *plugins])
        usual = _checked({"task": self.task})
        try:
            specs = {kind: part.brief for kind, part in self._parts().items()}
            usual = usual._derived({"backbone"}, {})._suiting_problems(())  # the backbone is a preset by default
        except RequestError:  # a plug-in that is not loaded
            specs = {}
        words = [*start.split(), "train", specs.get("task", self.task)]
        for name, *_ in settable():
            value, option = getattr(self, name), "--" + name.replace("_", "-")
            if name in ("task", "processes") or value == getattr(usual, name):
                continue
            text = specs.get(name, str(value))
            plain = text.removeprefix("fixed:").removeprefix("file:") if name == "data" else text
            words += [option] if value is True else [option, plain]
        return shlex.join([*words, *plugins])

    def build_task(self, kept: Path | None = None) -> Task:
        """The task of this run; by what its folder kept (``Data.keep``) where that is there. Raises
        ``RequestError`` where nothing is kept and the files behind it have changed or are gone."""
        task: Resolved[Any] = self._parts()["task"]
        kept = kept if kept is not None and kept.exists() else None
        if kept is None and task.cls.content_digest(task.options) != self.task_digest:
            raise RequestError(f"the files behind task {self.task} are not those that this run was asked with")
        built: Task = task.build() if kept is None else task.cls.restore(task.options, kept)
        return built

    def build_objective(self, task: Task, network: Any = None) -> Objective:
        """Fresh objective, and backbone unless one is given, on the CPU, weights drawn from this run's own streams.
        Raises ``RequestError`` where the backbone lacks what the objective needs or is too short for the task."""
        from foresee.backbones.base import refuse_missing
        from foresee.core.seeds import torch_stream

        _, objective, backbone = self._parts().values()
        if backbone.cls.content_digest(backbone.options) != self.backbone_digest:
            raise RequestError(f"the files behind backbone {self.backbone} are not those that this run was asked with")
        vocab = task.vocab.extended(objective.cls.symbols)
        network = network or backbone.build(vocab, torch_stream("weights", self.backbone, self.seed))
        network.recompute = self.recompute
        refuse_missing(objective.cls.needs, self.objective, network, self.backbone)
        stream = torch_stream("weights", self.backbone, self.objective, self.seed)
        made: Objective = objective.build(network, vocab, stream)
        needed = task.prompt_length + task.answer_length + made.extra_positions
        if network.longest is not None and network.longest < needed:
            needs = f"task {self.task} with objective {self.objective} needs {needed} positions"
            remedy = f"choose one that reads more, or give it more where it has such an option (context={needed})"
            raise RequestError(f"{needs}, but backbone {self.backbone} has {network.longest}; {remedy}")
        return made


def part_registries() -> dict[str, Registry[Any]]:
    """What the specs of a run are looked up in, by field."""
    from foresee.backbones.base import backbones
    from foresee.objectives.base import objectives
    from foresee.tasks.base import tasks

    return {"task": tasks, "objective": objectives, "backbone": backbones}


def settable() -> list[Setting]:
    """Every field that a user may set, in order."""
    found = []
    for name, field in Settings.model_fields.items():
        kind: Any = field.annotation if field.annotation in (int, float, bool) else str
        if name not in DERIVED:
            found.append(Setting(name, kind, None if field.is_required() else field.default, field.description or ""))
    return found


def _refuse_unknown(given: Iterable[str], known: list[str]) -> None:
    for name in set(given) - set(known):
        raise RequestError(f"there is no setting {name!r}: {nearest(name, known)}")


def _checked(given: Mapping[str, Any]) -> Settings:
    """Settings of checked values. Raises ``RequestError`` with the first that is wrong."""
    try:
        return Settings(**given)
    except ValidationError as error:
        first = error.errors()[0]
    cause, name = first.get("ctx", {}).get("error"), str(first["loc"][0]) if first["loc"] else ""
    if isinstance(cause, RequestError):
        raise cause
    if first["type"] == "value_error":
        wanted = str(cause)
    elif name in LIMITS:
        wanted = LIMITS[name]
    elif first["type"] == "greater_than_equal":
        wanted = f"at least {first['ctx']['ge']}"
    else:
        wanted = "a text"
    raise RequestError(f"{name}={first['input']!r} must be {wanted}")
