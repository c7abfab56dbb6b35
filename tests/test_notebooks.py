"""The notebooks run from top to bottom, with fewer steps; each cell's last expression shows itself."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from foresee.experiments.engine import InProcess
from foresee.metrics.base import metrics
from foresee.training.settings import part_registries

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "examples" / "notebooks").glob("*.ipynb"))
QUICK = "steps = 4"


def code_cells(path: Path) -> list[str]:
    """The code of a notebook, cell by cell."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def run_cell(source: str, names: dict[str, Any]) -> Any:
    """What a cell shows: the value of its last expression."""
    tree = ast.parse(source)
    *_, last = tree.body
    if isinstance(last, ast.Expr):
        tree.body.pop()
    exec(compile(tree, "cell", "exec"), names)  # noqa: S102  # a notebook of this repository
    return None if not isinstance(last, ast.Expr) else eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307


def test_the_paper_takes_ten_cells() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["the_paper_in_ten_cells", "your_own_objective"]
    assert len(code_cells(NOTEBOOKS[0])) == 10


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("foresee.experiments.pool.WorkerPool", InProcess)
    for registry in (*part_registries().values(), metrics):
        registry.discover()
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    before, names, shown = set(sys.modules), {"__name__": "notebook"}, []
    for source in code_cells(path):
        assert "steps = 400" in source or "steps=" not in source or "steps=steps" in source
        value = run_cell(source.replace("steps = 400", QUICK), names)
        shown.append(getattr(value, "_repr_html_", lambda value=value: repr(value))())
    for name in set(sys.modules) - before:
        if name.startswith("foresee_plugin_"):
            del sys.modules[name]
    assert any("next-token" in str(each) for each in shown)
    assert all(isinstance(each, str) for each in shown)
