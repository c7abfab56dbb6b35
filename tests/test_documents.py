"""The documentation: its length, that every command in it can be given, and that README's commands do what they say."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fabricated_runs import fabricate_run

from foresee.backbones.base import backbones
from foresee.cli.app import COMMANDS, program
from foresee.core.errors import RequestError
from foresee.core.plugins import load_plugin_file
from foresee.core.spec import resolve, split_list
from foresee.experiments.engine import InProcess
from foresee.objectives.base import objectives
from foresee.tasks.base import tasks
from generate.documents import BLOCK, fill_tables
from generate.documents import DOCUMENTS as WITH_TABLES
from generate.lines import read_runs

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", *(path for path in sorted((ROOT / "docs").glob("*.md")) if path.name != "log.md")]
"""All but the log, which keeps what was typed in its day."""
OWN = ("hidden-prefix", "data:", "mate-in-two", "word-dropout", "running-parity")
"""What readers write or name themselves: plug-ins and files."""

SPECS: tuple[tuple[Any, str], ...] = (
    (backbones, "backbone"), (objectives, "objective"), (objectives, "objectives"),
)  # fmt: skip


def commands(path: Path) -> list[list[str]]:
    """The words of every ``foresee`` command in a document's code, comments left out."""
    text = "\n".join(re.findall(r"^```\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL))
    lines = (line.partition(" #")[0].strip() for line in text.replace("\\\n", " ").splitlines())
    found = (shlex.split(line) for line in lines if re.match(r"(?:torchrun .*-m )?foresee ", line))
    return [words[words.index("foresee") + 1 :] for words in found]


def test_the_documentation_can_be_read_in_an_afternoon_and_the_paper_takes_ten_cells() -> None:
    words = {
        # Tables and findings grow with the committed rows.
        path.name: sum(bool(re.search(r"\w", word)) for word in BLOCK.sub("", path.read_text(encoding="utf-8")).split())
        for path in DOCUMENTS
        if path.name not in ("findings.md", "runs.md")
    }
    assert sum(words.values()) <= 15_000, words
    assert len(commands(ROOT / "README.md")) > 10
    assert [path.stem for path in NOTEBOOKS] == ["the_paper_in_ten_cells", "your_own_objective"]
    assert len(code_cells(NOTEBOOKS[0])) == 10


def test_a_training_that_lies_there_at_two_lengths_counts_once(tmp_path: Path) -> None:
    """Where one goes on as the other does; under a falling learning rate another length is another training."""
    for folder, seed, steps, schedule in [
        ("a", 0, 600, "constant"), ("b", 0, 900, "constant"), ("b", 1, 600, "constant"), ("a", 0, 600, "cosine"),
        ("a", 0, 900, "cosine"),
    ]:  # fmt: skip
        fabricate_run(tmp_path / folder, seed=seed, steps=steps, schedule=schedule)

    def found() -> list[tuple[int, int, str]]:
        runs = read_runs(tmp_path, ["a", "b"])
        return sorted((run.spec.seed, run.steps, run.spec.schedule) for run in runs)

    apart = [(0, 600, "constant"), (0, 600, "cosine"), (0, 900, "constant"), (0, 900, "cosine"), (1, 600, "constant")]
    assert found() == apart
    long, short = (
        next(run.dir for run in read_runs(tmp_path, [folder]) if run.spec.schedule == "constant" and run.spec.seed == 0)
        for folder in ("b", "a")
    )
    lines = (long / "metrics.jsonl").read_text("utf-8").splitlines(keepends=True)
    (short / "metrics.jsonl").write_text("".join(lines[: 600 // 50]))
    assert found() == apart[1:]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_can_be_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, options and values are right, and so are the specs in it. Nothing is run."""
    monkeypatch.chdir(ROOT)
    for name, *rest in commands(path):
        assert name in COMMANDS, f"{path.name}: foresee {name}"
        plugins = [rest[at + 1] for at, word in enumerate(rest) if word == "--plugin"]
        words = [word for word in rest if word != "--plugin" and word not in plugins]
        if any("..." in word or word == "TASK" for word in words):
            continue
        command = program.get_command(None, name)
        context = command.make_context(name, words)
        for known, given in SPECS:
            for spec in split_list(context.params.get(given) or ""):
                if spec and not spec.startswith((*OWN, "hf:")):
                    resolve(known, spec)
        if (task := context.params.get("task")) and not task.startswith(OWN):
            resolve(tasks, task).build()


@pytest.mark.parametrize("name", WITH_TABLES)
def test_tables_are_those_of_the_committed_rows(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert "by `make docs`" in text
    assert fill_tables(text, ROOT / "results") == text, "`make docs` has not been run since rows were committed"
    with pytest.raises(RequestError, match="demo"):
        fill_tables("<!-- table demos, by `make docs` -->\n<!-- end of table -->", ROOT / "results")


@pytest.mark.slow
def test_the_commands_of_readme_do_what_they_say(tmp_path: Path) -> None:
    """All but ``make`` and what waits for a reader, from README itself, with budgets of a few steps."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "notes.jsonl").write_text((ROOT / "tests" / "own_data.jsonl").read_text(encoding="utf-8"))
    (tmp_path / "sweep.yaml").write_text("runs:\n  - {task: path-star-mini, objective: reversed, steps: 2}\n")
    small = ["--steps", "4", "--test", "64", "--eval-every", "2"]
    run = ""
    for name, *rest in commands(ROOT / "README.md"):
        words = [run if word == "DIGEST" else word for word in rest]
        if name in ("train", "compare"):
            words += [*small, "--backbone", "transformer:layers=1,width=16,heads=1"]
        if name == "diagnose":
            words += ["--steps", "40", "--seeds", "1", "--backbone", "transformer:layers=1,width=16,heads=1"]
        if name == "bench":
            words += ["--help"]  # it measures for a minute
        if name == "explore":
            continue  # it waits for its reader; tests of its own open it
        done = subprocess.run(
            [sys.executable, "-m", "foresee", name, *words], cwd=tmp_path, timeout=600, check=False,
            capture_output=True, text=True,
            env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, (name, words, done.stderr[-2000:])
        if name == "train":  # which may return a run that a comparison has made
            run = re.findall(r"runs/([0-9a-f]{16})", done.stdout + done.stderr)[-1]
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert (tmp_path / "my-checkpoint" / "model.safetensors").exists()
    assert (tmp_path / "diagnosis" / "diagnosis.html").exists()


@pytest.mark.slow
@pytest.mark.parametrize("path", [ROOT / "README.md", ROOT / "docs" / "tutorial.md"], ids=lambda path: path.name)
def test_the_python_of_readers_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With few steps; the tutorial's objective becomes one that trains."""
    monkeypatch.chdir(tmp_path)
    for code in re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL):
        if "@objectives.register" in code:
            plugin = tmp_path / "hidden_prefix.py"
            plugin.write_text(code, encoding="utf-8")
            load_plugin_file(plugin)
            code = 'import foresee\nrun = foresee.train("path-star", "hidden-prefix:share=0.3", steps=4)'
        exec(code.replace('objective="reversed",', 'objective="reversed", steps=4, test=64,'), {})  # noqa: S102  # the code of our own documents


# The notebooks run from top to bottom, with fewer steps; each cell's last expression shows itself


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
