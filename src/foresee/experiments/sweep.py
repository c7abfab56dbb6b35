"""The file that says which runs a sweep has.

YAML: a list of runs, or a mapping of any of three parts::

    defaults:                                # what every run of the file has unless it says otherwise
      task: path-star:degree=2,length=5,nodes=50
      steps: 600
    grid:                                    # every combination, the last key varying fastest; or a list of grids
      objective: [next-token, reversed]
      seed: [0, 1, 2]
    runs:                                    # single runs
      - {objective: teacherless, seeds: [0, 1], batch: 128}

The keys of a run are the settings of ``Settings.of``, and ``seeds``, a list, for one run a seed.

Python: a file that defines ``runs``, a list, or a function ``runs()`` that gives one; its items are ``Settings``
objects or mappings with the same keys. It is executed, because it was named.
"""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ValidationError, field_validator

from foresee.core.errors import RequestError
from foresee.core.registry import nearest
from foresee.core.spec import read_value
from foresee.training.settings import Settings, settable

KINDS = {setting.name: setting.type for setting in settable()}
"""The settings of a run and their types."""


def check_item(item: Any) -> dict[str, Any]:
    """A mapping of settings. Raises ``RequestError`` where it is none, or a key is unknown."""
    if not isinstance(item, Mapping):
        raise RequestError(f"expected a mapping, as in {{task: ..., objective: ...}}, not {item!r}")
    for key in item:
        if key not in KINDS and key != "seeds":
            raise RequestError(f"unknown key {key!r}: {nearest(str(key), [*KINDS, 'seeds'])}")
    if "seed" in item and "seeds" in item:
        raise RequestError("it has both seed and seeds; give one of them")
    return dict(item)


def check_grid(grid: Any) -> dict[str, list[Any]]:
    """A mapping of settings to lists of values. Raises ``RequestError`` where it is none."""
    item = check_item(grid)
    if not item:
        raise RequestError("it is empty; a grid has a list of values for each key")
    for key, values in item.items():
        if not isinstance(values, list) or not values:
            raise RequestError(f"{key} must be a list of values, as in {key}: [{values}]")
    return item


class SweepFile(BaseModel, strict=True, extra="forbid"):
    """A sweep file as it is written."""

    defaults: Annotated[dict[str, Any], BeforeValidator(check_item)] = {}
    grid: list[Annotated[dict[str, list[Any]], BeforeValidator(check_grid)]] = []
    runs: list[Annotated[dict[str, Any], BeforeValidator(check_item)]] = []

    @field_validator("defaults", "grid", "runs", mode="before")
    @classmethod
    def _read_empty(cls, given: Any, info: Any) -> Any:
        """A part that is left empty is none, and one grid may stand alone."""
        if given is None:
            return {} if info.field_name == "defaults" else []
        return [given] if info.field_name == "grid" and isinstance(given, dict) else given

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Every run with its defaults, grids first, and what to call it in messages."""
        for number, grid in enumerate(self.grid, start=1):
            where = f"grid {number}" if len(self.grid) > 1 else "grid"
            for index, values in enumerate(itertools.product(*grid.values()), start=1):
                names = ("seed" if key == "seeds" else key for key in grid)
                yield f"{where}, combination {index}", self._complete(dict(zip(names, values, strict=True)))
        for number, item in enumerate(self.runs, start=1):
            yield f"run {number}", self._complete(item)

    def _complete(self, item: dict[str, Any]) -> dict[str, Any]:
        own_seed = "seed" in item or "seeds" in item
        return {key: value for key, value in self.defaults.items() if not (own_seed and key.startswith("seed"))} | item


def read_sweep(path: Path) -> list[Settings]:
    """The runs that a file asks for, in its order, repetitions included.

    A ``.py`` file is executed. Raises ``RequestError`` that names the file and the item where something is wrong.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file; give a YAML or Python file that lists runs")
    if path.suffix not in (".py", ".yaml", ".yml"):
        raise RequestError(f"{path}: a sweep is a file whose name ends in .yaml, .yml or .py")
    found: list[Settings] = []
    for where, item in _python_items(path) if path.suffix == ".py" else _yaml_items(path):
        try:
            found += [item] if isinstance(item, Settings) else _settings(check_item(item))
        except RequestError as error:
            raise RequestError(f"{path}: {where}: {error}") from None
    if not found:
        raise RequestError(f"{path}: it lists no runs")
    return found


def _settings(item: dict[str, Any]) -> list[Settings]:
    """One run, or one for each of ``seeds``. A number may be written as text, since YAML takes 1e-3 for text."""
    for key in ("task", "objective"):
        if key not in item:
            raise RequestError(f"{key} is missing")
    seeds = item.pop("seeds", [item.get("seed", 0)])
    if not isinstance(seeds, list) or not seeds:
        raise RequestError(f"seeds must be a list of whole numbers, as in seeds: [0, 1, 2], not {seeds!r}")
    for key, value in item.items():
        if isinstance(value, str) and KINDS[key] in (int, float):
            try:
                item[key] = read_value(value, KINDS[key])
            except ValueError as error:
                raise RequestError(f"{key}={value!r} {error}") from None
    return [Settings.of(**{**item, "seed": seed}) for seed in seeds]


def _yaml_items(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        # A safe loader, which makes plain values and nothing else.
        read = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # it is one, by another name
        return SweepFile.model_validate({"runs": read} if isinstance(read, list) else read).items()
    except UnicodeDecodeError:
        raise RequestError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise RequestError(f"{path}, line {mark.line + 1 if mark else 1}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RequestError(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RequestError(f"{path}: it is nested too deeply to be a list of runs") from None
    except ValidationError as error:
        raise RequestError(f"{path}: {_explain(error, read)}") from None


def _explain(error: ValidationError, read: Any) -> str:
    """The first thing that is wrong with a file's form."""
    first, parts = error.errors()[0], list(SweepFile.model_fields)
    if not first["loc"]:
        return f"expected a list of runs, or a mapping of {', '.join(parts)}"
    part, *place = first["loc"]
    if first["type"] == "extra_forbidden":
        return f"unknown key {part!r}: {nearest(str(part), parts)}"
    if first["type"] != "value_error":
        return f"{part} must be a list"
    number = (
        f" {int(place[0]) + 1}" if place and isinstance((read if isinstance(read, list) else read[part]), list) else ""
    )
    return f"{'run' if part == 'runs' else part}{number}: {first['ctx']['error']}"


def _python_items(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        runs = runpy.run_path(str(path), run_name="foresee_sweep").get("runs")
    except SyntaxError as error:
        raise RequestError(f"{path}, line {error.lineno or 1}: {error.msg}") from error
    if callable(runs):
        runs = runs()
    if not isinstance(runs, Sequence) or isinstance(runs, str):
        raise RequestError(f"{path}: it must define runs, a list, or a function runs() that gives one")
    return ((f"run {number}", item) for number, item in enumerate(runs, start=1))


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)
