"""The notebooks run from top to bottom, with fewer steps; each cell's last expression shows itself."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

from foresee.experiments.engine import InProcess

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
@pytest.mark.usefixtures("forget_plugins")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("foresee.experiments.pool.WorkerPool", InProcess)
    names: dict[str, Any] = {"__name__": "notebook"}
    shown = []
    for source in code_cells(path):
        assert "steps = 400" in source or "steps=" not in source or "steps=steps" in source
        value = run_cell(source.replace("steps = 400", QUICK), names)
        shown.append(getattr(value, "_repr_html_", lambda value=value: repr(value))())
    assert any("next-token" in str(each) for each in shown)
    assert all(isinstance(each, str) for each in shown)
