"""The lines of a run's files: what each must hold, and how a damaged one is reported."""

from __future__ import annotations

import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.metrics.base import Rows
from foresee.metrics.intervals import is_measurement
from foresee.training.settings import Settings

T = TypeVar("T")

if TYPE_CHECKING:
    Seen = dict[str, Any]  # whoever reads one knows which of the two it is
else:
    Seen = dict[str, float | list[float]]


@with_config(ConfigDict(strict=True, extra="allow", allow_inf_nan=False))
class Record(TypedDict):
    """Anything that is read back: of the right types, with numbers that are finite, and whatever else it holds."""


class Report(Record):
    """A line of ``metrics.jsonl``: mean losses since the line before, and what the watched examples showed."""

    step: int
    examples: int
    loss: float
    parts: dict[str, float]
    position_loss: NotRequired[list[float]]
    """By answer place; runs of older versions have none."""
    lr: float
    eval: Seen


class Timing(Record):
    """A line of ``timing.jsonl``."""

    step: int
    seconds: float
    """Since training began, evaluation included."""
    examples_per_second: float


class Environment(Record):
    """``env.json``: what a run was made with and on; those of older versions lack some of it."""

    threads: NotRequired[int]
    parameters: NotRequired[int]
    """How many numbers are trained."""
    chance: NotRequired[Annotated[float, Field(ge=0, le=1)]]
    hops: NotRequired[int | None]
    layers: NotRequired[int | None]


class Example(Record):
    """A line of ``examples.jsonl``: a test example, and what the trained model wrote."""

    prompt: str
    answer: str
    wrote: str


class Step(Record):
    """One answer token: the symbol shown there, its probability, and the likeliest symbols with theirs."""

    symbol: str
    p: float
    top: list[list[str | float]]


class Attention(Record):
    """What the position that decides the branch reads: symbols, and weights by layer, head and symbol."""

    read: list[str]
    layers: list[list[list[float]]]


class Anatomy(Example):
    """An example dissected (``metrics.anatomy``). ``truth`` is absent where the objective cannot be forced; ``passes``
    then says in which pass each place was decided."""

    order: Literal["forward", "backward", "parallel"]
    truth: NotRequired[list[Step]]
    free: NotRequired[list[Step]]
    passes: NotRequired[list[int]]
    branch: NotRequired[int | None]
    attention: NotRequired[Attention]


def _whole_anatomy(each: Anatomy) -> Anatomy:
    if len(each.get("passes", [])) not in (0, len(each.get("free", []))):
        raise ValueError("'passes' must hold a number for each step of 'free'")
    shown = each.get("attention")
    if shown is not None and any(len(head) != len(shown["read"]) for layer in shown["layers"] for head in layer):
        raise ValueError(f"a head of the attention must hold {len(shown['read'])} weights, one for each symbol read")
    return each


class _AnatomyFile(Record):
    examples: list[Annotated[Anatomy, AfterValidator(_whole_anatomy)]]


CODING = "coding.json"
"""What a run's folder keeps of a task of a user's own rows: its vocabulary, and how text becomes tokens."""

REPORT, TIMING, EXAMPLE = TypeAdapter(Report), TypeAdapter(Timing), TypeAdapter(Example)
ANATOMIES, ROW, ENVIRONMENT = TypeAdapter(_AnatomyFile), TypeAdapter(dict[str, Any]), TypeAdapter(Environment)


def read_lines(path: Path, kind: TypeAdapter[T], *, required: bool = False, may_be_cut: bool = False) -> list[T]:
    """The checked lines of a file; none where it is missing. ``required``: it has at least one; ``may_be_cut``: the
    last may end early. Raises ``RequestError`` with the line that is damaged."""
    text = _text(path)
    if text is None and required:
        raise RequestError(f"{path} is missing; delete {path.parent} and train again")
    lines = (text or "").splitlines(keepends=True)
    if may_be_cut and lines and not lines[-1].endswith("\n"):
        del lines[-1]
    if required and not lines:
        raise files.damaged(path, "it is empty")
    return [_checked(path, kind, line, f"line {number}: ") for number, line in enumerate(lines, start=1)]


def read_reports(directory: Path) -> list[tuple[Report, Timing]]:
    """The lines of ``metrics.jsonl`` and ``timing.jsonl`` that a run in training has written so far."""
    try:
        metrics = read_lines(directory / "metrics.jsonl", REPORT, may_be_cut=True)
        timings = read_lines(directory / "timing.jsonl", TIMING, may_be_cut=True)
    except RequestError:  # whoever trains it says what is wrong
        return []
    return list(zip(metrics, timings, strict=False))


def read_anatomies(path: Path) -> list[Anatomy]:
    """The dissected examples of a run; none where the file is missing."""
    text = _text(path)
    return [] if text is None else _checked(path, ANATOMIES, text, "")["examples"]


def read_environment(path: Path) -> Environment:
    """What a run was made with; nothing where the file is missing."""
    text = _text(path)
    return {} if text is None else _checked(path, ENVIRONMENT, text, "")


def read_rows(directory: Path) -> Rows:
    """Final measurements of a finished run. Raises ``RequestError`` where they are missing or damaged."""
    path = directory / "rows.jsonl"
    rows: Rows = {}
    for number, line in enumerate(read_lines(path, ROW, required=True), start=1):
        name = line.pop("row", None)
        row: Any = line.get("values", line)
        if not isinstance(name, str) or not all(map(is_measurement, row if isinstance(row, list) else [row])):
            raise files.damaged(path, f"line {number} is not a measurement")
        rows[name] = row
    if not isinstance(rows.get("exact"), dict):
        raise files.damaged(path, "it has no row 'exact'")
    return rows


def rows_as_lines(rows: Rows) -> list[dict[str, Any]]:
    """``read_rows`` backwards."""
    return [
        {"row": name, "values": value} if isinstance(value, list) else {"row": name, **value}
        for name, value in rows.items()
    ]


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise files.damaged(path, error) from None


def _checked(path: Path, kind: TypeAdapter[T], text: str, where: str) -> T:
    try:
        return kind.validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    raise files.damaged(path, f"{where}{place}: {first['msg']}" if place else f"{where}{first['msg']}")


def one_by_one(given: Iterable[Any]) -> list[Any]:
    """What is given, alone or in lists of it."""
    return [part for each in given for part in (one_by_one(each) if isinstance(each, list | tuple) else [each])]


def locate_run(name: str | Path, runs: str | Path = "runs") -> Path:
    """The folder of a run that is named by it, or by its digest or the start of that, anywhere below ``runs``. Raises
    ``RequestError`` where none is, or several are."""
    if not isinstance(name, str | PathLike):
        raise RequestError(f"a run is named by its folder or its digest, not by a {type(name).__name__}")
    if Path(name).exists() or not re.fullmatch(r"[0-9a-f]{1,16}", str(name)):
        return Path(name)
    found = sorted({path.parent for path in Path(runs).rglob(f"{name}*/spec.json")})
    if not found:
        raise RequestError(f"no run below {runs} has a name that begins with {name}; `foresee runs {runs}` lists them")
    if len(found) > 1:
        shown = ", ".join(map(str, found[:4])) + (", ..." if len(found) > 4 else "")
        raise RequestError(f"{len(found)} runs below {runs} have a name that begins with {name}: {shown}; give more")
    return found[0]


def read_spec(directory: Path) -> Settings:
    """The settings of a run's folder. Raises ``RequestError`` where it is none or is damaged."""
    if not directory.is_dir():
        raise RequestError(f"{directory} is not a run directory: no such folder; `foresee runs` lists them by name")
    path = directory / "spec.json"
    if not path.exists():
        raise RequestError(f"{directory} is not a run directory: it holds no spec.json")
    try:
        spec = Settings.read(files.read_json(path))
    except RequestError as error:
        raise error if str(path) in str(error) else files.damaged(path, error) from None
    # A folder that was given another name says nothing; one that has a digest's form must have the right one.
    name = directory.resolve().name
    if re.fullmatch("[0-9a-f]{16}", name) and name != spec.digest:
        raise files.damaged(path, f"its digest is {spec.digest}, not the name of its folder")
    return spec


def value_of(rows: Rows, name: str = "exact") -> float:
    """The value of a row that is one rate; every finished run has ``exact``."""
    row = rows[name]
    assert isinstance(row, dict)
    return float(row["value"])
