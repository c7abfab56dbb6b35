"""What a study is: a published question as a list of cells, each of which is runs over seeds and one row of theirs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

from foresee.core.errors import RequestError
from foresee.core.registry import Registry
from foresee.experiments.studies.agreement import Rule, SameSide
from foresee.experiments.studies.published import Published
from foresee.training.settings import Settings

Scale = Literal["laptop", "paper"]
"""laptop: a small network and a budget for two cores. paper: the published sizes and budgets, for a GPU."""

HARDWARE = "one core of a two-core AMD EPYC processor with bf16 instructions, with other work beside it"
"""Where the times of laptop scale were measured."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the table: what was trained, on what, and which row of its measurements is compared with what.

    ``specs`` are the runs, one a seed. ``controls`` are the runs that show whether task and budget can be solved at all
    (reversed training with the same seeds, unless given); a verdict other than solved is inconclusive without them.
    ``minutes`` is what one run takes on the study's hardware if it does not stop early, None where that was never
    measured; ``control_minutes`` the same for one of the controls, where it differs. ``note`` is what a reader should
    know of the cell.
    """

    graph: str
    label: str
    specs: tuple[Settings, ...]
    published: Published
    row: str = "exact"
    rule: Rule = field(default_factory=SameSide)
    minutes: float | None = None
    control_minutes: float | None = None
    controls: tuple[Settings, ...] | None = None
    note: str = ""

    @property
    def control_specs(self) -> tuple[Settings, ...]:
        """The positive controls, which may be the runs themselves."""
        return tuple(spec.control() for spec in self.specs) if self.controls is None else self.controls


class Study(ABC):
    """A published question. Constructor parameters by keyword are its options, as for tasks.

    ``question`` is what it answers; ``cost`` and ``hardware`` say what a scale takes and where that was measured.
    """

    summary: ClassVar[str]
    question: ClassVar[str]
    cost: ClassVar[dict[Scale, str]]
    hardware: ClassVar[str] = HARDWARE
    baseline: ClassVar[str | None] = None
    """The label whose steps to solve all others are compared with, graph by graph; None for no such comparison."""

    @abstractmethod
    def cells(self, scale: Scale) -> list[Cell]:
        """The table at a scale. Raises ``RequestError`` where it cannot be asked for (a checkpoint is needed, say)."""


studies: Registry[Study] = Registry("study", "foresee.experiments.studies")


def over_seeds(
    seeds: int, task: str, objective: str, backbone: str = "gpt-nano", **settings: object
) -> tuple[Settings, ...]:
    """One run under each seed from 0."""
    return tuple(Settings.of(task, objective, backbone, seed=seed, **settings) for seed in range(seeds))


def check_scale(scale: str) -> Scale:
    """Raises ``RequestError`` unless it is a scale."""
    for known in get_args(Scale):
        if scale == known:
            return known  # type: ignore[no-any-return]  # get_args has no types
    raise RequestError(f"scale {scale!r} must be one of {', '.join(get_args(Scale))}")


def unique(specs: Sequence[Settings]) -> list[Settings]:
    """Each spec once, in order."""
    return list({spec.digest: spec for spec in specs}.values())
