"""Runs as a table: every run has a row, conditions and orders mean what they say, exports lose nothing."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from fabricated_runs import fabricate_run
from program import Program
from refusals import refused

from foresee.core.errors import RequestError
from foresee.training.run import find_runs
from foresee.training.run_table import (
    filter_runs,
    runs_table,
    sort_runs,
    table_records,
    without_common,
    write_table,
)
from foresee.training.settings import Settings

pandas = pytest.importorskip("pandas")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs: two that follow, one that solves, one unfinished, one damaged."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        fabricate_run(folder, seed=seed)
    fabricate_run(folder, "reversed", "solves")
    fabricate_run(folder / "below", seed=7, finished=False)
    damaged = fabricate_run(folder, seed=8)
    (damaged / "rows.jsonl").write_text("{\n")
    return folder


@pytest.fixture(scope="module")
def table(root: Path) -> Any:
    return runs_table(find_runs(root))


def test_every_run_has_a_row_and_says_how_it_stands(table: Any) -> None:
    assert sorted(table.state) == ["damaged", "finished", "finished", "finished", "unfinished"]
    (damaged,) = table_records(filter_runs(table, ["state=damaged"]))
    assert "rows.jsonl" in str(damaged["reason"])
    (unfinished,) = table_records(filter_runs(table, ["state=unfinished"]))
    assert unfinished["steps_done"] == 300
    assert "exact" not in unfinished


def test_a_row_holds_options_measurements_and_verdict(table: Any) -> None:
    ((_, row),) = filter_runs(table, ["objective=reversed"]).iterrows()
    assert row["task.degree"] == 2
    assert row["backbone.name"] == "transformer"
    assert row["exact.low"] <= row["exact"] <= row["exact.high"]
    assert row["verdict"] == "solved"
    assert row["forced.0"] > 0.9
    assert [str(table[name].dtype) for name in ("seed", "exact", "until_solved", "task")] == [
        "Int64", "float64", "boolean", "string",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "found"),
    [
        ("exact>=0.95", 1), ("exact<0.95", 2), ("objective!=reversed", 4), ("task=path-star", 4), ("seed>6", 1),
        ("task.degree=2", 4), ("task.degree==2", 4), ("task.degree=3", 0), ("verdict=solved", 1),
        ("until_solved=false", 4), ("objective=next-token state=finished seed>=1", 1), ("exact!=0.5", 5),
    ],
)  # fmt: skip
def test_conditions(table: Any, conditions: str, found: int) -> None:
    assert len(filter_runs(table, conditions.split())) == found


def test_a_wrong_condition_is_one_sentence(table: Any) -> None:
    for condition, message in (
        ("exakt>1", "no run has a column 'exakt'; did you mean 'exact'"),
        ("exact", "is no condition; write a column, one of"),
        ("__import__('os').getcwd()=1", "is no condition"),
        ("objective>1", "text has no order"),
        ("exact=>0.4", "is no condition"),
        ("exact>=half", "exact holds numbers, and 'half' is none"),
    ):
        with refused(message):
            filter_runs(table, [condition])


@pytest.mark.parametrize("descending", [False, True])
def test_runs_without_the_column_come_last_either_way(table: Any, descending: bool) -> None:
    found = list(sort_runs(table, "exact", descending=descending).exact)
    assert found[:3] == sorted(found[:3], reverse=descending)
    assert pandas.isna(found[3:]).all()
    with pytest.raises(RequestError, match="--sort sede"):
        sort_runs(table, "sede")


def test_exports_hold_every_cell(table: Any, tmp_path: Path) -> None:
    write_table(table, tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open(newline="") as handle:
        read = list(csv.DictReader(handle))
    for found, row in zip(read, table.astype(object).to_dict("records"), strict=True):
        assert found == {name: "" if pandas.isna(cell) else str(cell) for name, cell in row.items()}
    for name, start, end in (("runs.md", "| run |", "|"), ("runs.tex", r"\begin{tabular}", r"\end{tabular}")):
        write_table(table[["run", "exact"]], tmp_path / name)
        text = (tmp_path / name).read_text().strip()
        assert text.startswith(start)
        assert text.endswith(end)
        assert all(run.replace("_", r"\_") in text for run in table.run)
    with pytest.raises(RequestError, match="is written as"):
        write_table(table, tmp_path / "runs.xls")
    pytest.importorskip("pyarrow", reason="the extra 'data' is not installed")
    write_table(table, tmp_path / "runs.parquet")
    pandas.testing.assert_frame_equal(pandas.read_parquet(tmp_path / "runs.parquet"), table)


def test_the_command_lists_and_exports(root: Path, tmp_path: Path, program: Program) -> None:
    status, out, err = program("runs", str(root), "--where", "exact>=0", "--sort", "exact", "--descending")
    assert status == 0, err
    assert "3 runs" in out
    assert out.index("reversed") < out.index("next-token")
    assert len(program.json("runs", str(root))["runs"]) == 5
    assert "exakt" in program.refusal("runs", str(root), "--columns", "run,exakt")
    assert "is no folder of runs" in program.refusal("runs", str(tmp_path / "none"))


def test_conditions_on_parts_take_presets_and_short_specs(tmp_path: Path) -> None:
    assert table_records(filter_runs(runs_table(find_runs(tmp_path)), ["exact>=0.5"])) == []
    fabricate_run(tmp_path, task="path-star:degree=2,length=3,nodes=10,goals=all")
    fabricate_run(tmp_path, seed=1)
    table = runs_table(find_runs(tmp_path))
    for wanted in ("task=path-star-mini", "task=path-star:length=3,nodes=10", "task!=path-star:goals=one"):
        assert list(filter_runs(table, [wanted])["seed"]) == [0], wanted
    assert len(filter_runs(table, ["task=path-star"])) == 2
    assert without_common(["a:x=1,y=2", "a:x=1,y=3"]) == ["y=2", "y=3"]  # specs are cut to what tells them apart
    assert without_common(["a:x=1", "b:x=1"]) == ["a", "b"]
    assert without_common(["a", "a:y=3"]) == ["a", "a:y=3"]


def test_a_number_that_is_too_large_hides_no_run(tmp_path: Path) -> None:
    fabricate_run(tmp_path)
    odd = fabricate_run(tmp_path, seed=1)
    spec = json.loads((odd / "spec.json").read_text())
    (odd / "spec.json").write_text(json.dumps(spec | {"steps": 10**23}))
    assert len(runs_table(find_runs(tmp_path))) == 2
    with pytest.raises(RequestError, match=r"seed=9223372036854775808 must be a whole number from 0 to below 2\^63"):
        Settings.of("path-star", "next-token", seed=2**63)
