"""Reading the file that says which runs a sweep has.

YAML: a list of runs, or a mapping of any of three parts::

    defaults:                                # what every run of the file has unless it says otherwise
      task: path-star:degree=2,length=5,nodes=50
      steps: 600
    grid:                                    # every combination, the last key varying fastest; or a list of grids
      objective: [next-token, reversed]
      seed: [0, 1, 2]
    runs:                                    # single runs
      - {objective: teacherless, seeds: [0, 1], batch: 128}

The keys of a run are the arguments of ``Settings.of``, and ``seeds``, a list, for one run a seed.

Python: a file that defines ``runs``, a list, or a function ``runs()`` that gives one; its items are ``Settings``
objects or mappings with the same keys. It is executed, because it was named.
"""

from __future__ import annotations

import itertools
import runpy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foresee.core.errors import RequestError
from foresee.core.registry import nearest
from foresee.experiments.sweeps.run_keys import keys, spec_of
from foresee.training.settings import Settings

PARTS = ("defaults", "grid", "runs")


def read_sweep(path: Path) -> list[Settings]:
    """The runs that a file asks for, in its order, repetitions included.

    A ``.py`` file is executed. Raises ``RequestError`` that names the file and the item where something is wrong.
    """
    if not path.is_file():
        raise RequestError(f"{path}: no such file; give a YAML or Python file that lists runs")
    if path.suffix == ".py":
        specs = _read_python(path)
    elif path.suffix in (".yaml", ".yml"):
        specs = _read_yaml(path)
    else:
        raise RequestError(f"{path}: a sweep is a file whose name ends in .yaml, .yml or .py")
    if not specs:
        raise RequestError(f"{path}: it lists no runs")
    return specs


def _read_yaml(path: Path) -> list[Settings]:
    try:
        # A safe loader, which makes plain values and nothing else.
        read = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  # it is one, by another name
    except UnicodeDecodeError:
        raise RequestError(f"{path}: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise RequestError(f"{path}, line {mark.line + 1 if mark else 1}: {error.problem}") from None
    except yaml.YAMLError as error:
        raise RequestError(f"{path}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise RequestError(f"{path}: it is nested too deeply to be a list of runs") from None
    if isinstance(read, list):
        read = {"runs": read}
    if not isinstance(read, dict):
        raise RequestError(f"{path}: expected a list of runs, or a mapping of {', '.join(PARTS)}")
    for key in read:
        if key not in PARTS:
            raise RequestError(f"{path}: unknown key {key!r}: {nearest(str(key), list(PARTS))}")
    defaults = read.get("defaults") or {}
    _require_keys(defaults, f"{path}: defaults")
    specs: list[Settings] = []
    for where, item in itertools.chain(_of_grids(read.get("grid"), path), _of_runs(read.get("runs"), path)):
        if "seed" in item or "seeds" in item:
            inherited = {key: value for key, value in defaults.items() if key not in ("seed", "seeds")}
        else:
            inherited = defaults
        specs += _expand({**inherited, **item}, where)
    return specs


def _of_grids(grids: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every combination of each grid, with what to call it in messages."""
    if grids is None:
        return
    several = isinstance(grids, list)
    for number, grid in enumerate(grids if several else [grids], start=1):
        where = f"{path}: grid {number}" if several else f"{path}: grid"
        _require_keys(grid, where)
        if "seed" in grid and "seeds" in grid:
            raise RequestError(f"{where}: it has both seed and seeds; give one of them")
        if not grid:
            raise RequestError(f"{where}: it is empty; a grid has a list of values for each key")
        for key, values in grid.items():
            if not isinstance(values, list) or not values:
                raise RequestError(f"{where}: {key} must be a list of values, as in {key}: [{values}]")
        for index, values in enumerate(itertools.product(*grid.values()), start=1):
            item = {"seed" if key == "seeds" else key: value for key, value in zip(grid, values, strict=True)}
            yield f"{where}, combination {index}", item


def _of_runs(runs: Any, path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each single run, with what to call it in messages."""
    if runs is None:
        return
    if not isinstance(runs, list):
        raise RequestError(f"{path}: runs must be a list")
    for number, item in enumerate(runs, start=1):
        where = f"{path}: run {number}"
        _require_keys(item, where)
        yield where, item


def _require_keys(item: Any, where: str) -> None:
    if not isinstance(item, Mapping):
        raise RequestError(f"{where}: expected a mapping, as in {{task: ..., objective: ...}}, not {item!r}")
    for key in item:
        if key not in keys() and key != "seeds":
            raise RequestError(f"{where}: unknown key {key!r}: {nearest(str(key), [*keys(), 'seeds'])}")


def _expand(item: Mapping[str, Any], where: str) -> list[Settings]:
    """One run, or one for each of ``seeds``."""
    if "seeds" not in item:
        return [spec_of(item, where)]
    if "seed" in item:
        raise RequestError(f"{where}: it has both seed and seeds; give one of them")
    seeds = item["seeds"]
    if not isinstance(seeds, list) or not seeds:
        raise RequestError(f"{where}: seeds must be a list of whole numbers, as in seeds: [0, 1, 2], not {seeds!r}")
    rest = {key: value for key, value in item.items() if key != "seeds"}
    return [spec_of({**rest, "seed": seed}, where) for seed in seeds]


def _read_python(path: Path) -> list[Settings]:
    try:
        defined = runpy.run_path(str(path), run_name="foresee_sweep")
    except SyntaxError as error:
        raise RequestError(f"{path}, line {error.lineno or 1}: {error.msg}") from error
    runs = defined.get("runs")
    if callable(runs):
        runs = runs()
    if not isinstance(runs, Sequence) or isinstance(runs, str):
        raise RequestError(f"{path}: it must define runs, a list, or a function runs() that gives one")
    specs: list[Settings] = []
    for number, item in enumerate(runs, start=1):
        where = f"{path}: run {number}"
        if isinstance(item, Settings):
            specs.append(item)
        else:
            _require_keys(item, where)
            specs += _expand(item, where)
    return specs


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
