"""What a study is: one published question as a table of cells, and when a measured cell agrees with a published one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal, get_args

from foresee.core.errors import RequestError
from foresee.core.registry import Registry
from foresee.metrics.intervals import Row
from foresee.metrics.verdict import RELIABLE, SOLVED, at_chance
from foresee.training.settings import Settings

Scale = Literal["laptop", "paper"]
"""laptop: a small network and a budget for two cores. paper: the published sizes and budgets, for a GPU."""

HARDWARE = "one core of a two-core AMD EPYC processor with bf16 instructions, with other work beside it"
"""Where the times of laptop scale were measured."""

TAGS = {
    "RI": "a reproducibility page that quotes the paper",
    "DIG": "second-hand: a digest of the paper that cites its tables by number; the paper's own cells were not seen",
    "NVT": "Noroozizadeh et al. (arXiv 2510.26745), by an author of the paper",
    "ABS": "the paper's abstract",
    "SEM": "scripts of the Semformer authors, who rebuilt the paper's experiments",
    "P": "read in the paper itself",
    "D": "read off a figure by a third party, to 1 or 2 points",
    "N": "notes or a replication by a third party, not checked against the paper",
    "unknown": "no published number is known to us",
}
"""What a confidence tag means."""

SIDES = ("solved", "chance", "below chance", "between", "followed", "not followed")
"""Where a result lies. ``exact`` and ``branch``: solved (0.95 or more), at chance (as verdicts have it), below that, or
between. ``follow``: followed (0.9 or more) or not."""

Rule = Literal["interval", "side"]
"""How agreement is judged: by numbers, which at chance hold whatever the model, or by the outcome alone, where settings
differ in size and budget."""

RULES: dict[Rule, str] = {
    "interval": "the published number, with its stated precision, meets the 95 % interval of each seed, give or take "
    "0.01",
    "side": "each seed lies on the published side: solved (0.95 or more), at chance, below chance, or between; for "
    "follow, 0.9 or more or not",
}
"""Each rule in words, which stand wherever its outcome is shown."""

GIVE = 0.01
"""Twenty seeds would not all hold a true value in their 95 % intervals, nor are the two settings the same."""

Agreement = Literal["reproduced", "not reproduced", "mixed", "budget too short", "unfinished", "unknown", "not run"]
"""``mixed``: some seeds agree and some do not. ``budget too short``: no seed of a run smaller than the published one
has come as far as the published statement is about, which refutes nothing: it is published as solved and none solved,
or none has learned even the easy part (verdict ``unfitted``, or ``exact`` below chance). ``unfinished``: a run was
stopped before its last step, and the others are not judged, since those that solve finish early. ``unknown``: nothing
is published to compare with. ``not run``: no seed is finished."""


@dataclass(frozen=True)
class Published:
    """A published result as it can be cited. ``low`` and ``high`` bound what is known, the number's own rounding
    included; both are None where only words are known, or nothing. ``text`` is how a table shows it, ``tag`` says how
    far it can be trusted, and ``side`` where it lies if that is said in words alone."""

    text: str
    low: float | None
    high: float | None
    source: str
    tag: str
    side: str | None = None

    def __post_init__(self) -> None:
        if self.tag not in TAGS or not self.source or not self.text:
            raise ValueError(f"a published result needs a text, a source and one of the tags {', '.join(TAGS)}")
        if (self.low is None) != (self.high is None) or (self.side is not None and self.side not in SIDES):
            raise ValueError(f"published result {self.text!r}: give both bounds or none, and a side out of {SIDES}")

    @property
    def value(self) -> float | None:
        """The middle of what is known, or None."""
        return None if self.low is None or self.high is None else (self.low + self.high) / 2

    def find_side(self, row: str, chance: float) -> str | None:
        """Its side, as said or as its number has it; None where nothing is known."""
        value = self.value
        return self.side if value is None else side_of(row, Row(value=value, low=value, high=value, n=0), chance)


def percent(value: float, source: str, tag: str, *, off: float = 0.0) -> Published:
    """A number printed in percent with one decimal; ``off`` percentage points more where it was read off a figure."""
    text, slack = f"{value / 100:.3f}", 0.05 + off
    return Published(text, max(0.0, value - slack) / 100, min(100.0, value + slack) / 100, source, tag)


def percents(low: float, high: float, source: str, tag: str) -> Published:
    """A range over several cells in whole percent: which of them is this cell's is not known."""
    text = f"{low / 100:.2f} to {high / 100:.2f}"
    return Published(text, max(0.0, low - 0.5) / 100, min(100.0, high + 0.5) / 100, source, tag)


def words(text: str, side: str, source: str, tag: str) -> Published:
    """A result of which only words are known."""
    return Published(text, None, None, source, tag, side)


def unknown(source: str) -> Published:
    """No number and no words; ``source`` says what was looked for."""
    return Published("unknown", None, None, source, "unknown")


def side_of(row: str, rate: Row, chance: float) -> str:
    """Where a rate of this row lies (``SIDES``); a published number is one without width."""
    value = rate["value"]
    if row.startswith("follow"):
        return "followed" if value >= RELIABLE else "not followed"
    if value >= SOLVED:
        return "solved"
    if at_chance(rate, chance):
        return "chance"
    return "below chance" if value < chance else "between"


def judge_agreement(
    rule: Rule,
    published: Published,
    row: str,
    measured: Sequence[Row],
    chance: float,
    *,
    smaller: bool,
    unfitted: bool = False,
    unfinished: bool = False,
) -> Agreement:
    """The outcome over seeds, one measured row a seed. ``smaller``: network and budget are below the published ones;
    ``unfitted``: no seed has learned even the easy part; ``unfinished``: a run was begun and not finished."""
    if not measured and not unfinished:
        return "not run"
    side, low, high = published.find_side(row, chance), published.low, published.high
    if side is None:
        return "unknown"
    if unfinished:
        return "unfinished"
    if smaller and unfitted and side != "below chance":
        return "budget too short"  # a rate may lie at chance though nothing is learned
    if rule == "interval" and low is not None and high is not None:
        same = [low <= each["high"] + GIVE and each["low"] - GIVE <= high for each in measured]
    else:
        same = [side == side_of(row, each, chance) for each in measured]
    if any(same):
        return "reproduced" if all(same) else "mixed"
    return "budget too short" if smaller and side == "solved" else "not reproduced"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell of the table: what is trained, on what, and which row of its measurements is compared with what.

    ``runs`` has one run a seed. ``controls`` show whether task and budget can be solved at all (reversed training with
    the same seeds, unless given); without them no verdict but solved is conclusive. ``minutes`` is what one run takes
    on the study's hardware at laptop scale if it does not stop early, None where that was never measured;
    ``control_minutes`` the same of a control, where it differs. ``note`` is what a reader should know of the cell.
    """

    graph: str
    label: str
    runs: tuple[Settings, ...]
    published: Published
    row: str = "exact"
    rule: Rule = "side"
    minutes: float | None = None
    control_minutes: float | None = None
    controls: tuple[Settings, ...] | None = None
    note: str = ""

    @cached_property
    def control_runs(self) -> tuple[Settings, ...]:
        """The positive controls, which may be the runs themselves."""
        return tuple(run.control() for run in self.runs) if self.controls is None else self.controls


class Study(ABC):
    """A published question. Constructor parameters by keyword are its options, as for tasks.

    ``question`` is what it answers, ``paper_cost`` says what paper scale takes, and ``hardware`` where the minutes of
    laptop scale were measured. ``baseline`` is the label with which all others are compared, graph by graph; None for
    none. ``look_ups`` asks for a column that says by which step the edge look-up was found: the first evaluation with
    ``rest`` at least 0.9.
    """

    summary: ClassVar[str]
    question: ClassVar[str]
    paper_cost: ClassVar[str] = "not measured"
    hardware: ClassVar[str] = HARDWARE
    baseline: ClassVar[str | None] = None
    look_ups: ClassVar[bool] = False

    @abstractmethod
    def cells(self, scale: Scale) -> list[Cell]:
        """The table at a scale. Raises ``RequestError`` where it cannot be asked for (a checkpoint is needed, say)."""


studies: Registry[Study] = Registry("study", "foresee.experiments.studies")


def over_seeds(
    seeds: int, task: str, objective: str, backbone: str = "gpt-nano", **settings: object
) -> tuple[Settings, ...]:
    """One run under each seed from 0."""
    first = Settings.of(task, objective, backbone, **settings)
    return tuple(first.replace(seed=seed) for seed in range(seeds))


def check_scale(scale: str) -> Scale:
    """Raises ``RequestError`` unless it is a scale."""
    for known in get_args(Scale):
        if scale == known:
            return known  # type: ignore[no-any-return]  # get_args has no types
    raise RequestError(f"scale {scale!r} must be one of {', '.join(get_args(Scale))}")
