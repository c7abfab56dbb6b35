"""Runs as a table: every run has a row, conditions and orders mean what they say, exports lose nothing."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from fabricated_runs import fabricate_run

from foresee.cli import main
from foresee.core.errors import RequestError
from foresee.training.run_table import (
    Record,
    in_order,
    matching,
    record_of,
    runs_under,
    without_common,
    write_csv,
    write_parquet,
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five runs: two that follow, one that solves, one unfinished, one damaged."""
    folder = tmp_path_factory.mktemp("runs")
    for seed in (0, 1):
        _named_by_digest(fabricate_run(folder, seed=seed))
    _named_by_digest(fabricate_run(folder, "reversed", "solves"))
    _named_by_digest(fabricate_run(folder, seed=7, finished=False))
    damaged = _named_by_digest(fabricate_run(folder, seed=8))
    (damaged / "rows.jsonl").write_text("{\n")
    return folder


def _named_by_digest(directory: Path) -> Path:
    """Fabricated runs have made-up names; a name that is no digest is left unchecked when it is read."""
    return directory.rename(directory.with_name(f"run-{directory.name}"))


def records(root: Path) -> list[Record]:
    return [record_of(directory) for directory in runs_under([root])]


def test_every_run_has_a_row_and_says_how_it_stands(root: Path) -> None:
    states = sorted(record["state"] for record in records(root))
    assert states == ["damaged", "finished", "finished", "finished", "unfinished"]
    (damaged,) = matching(records(root), ["state=damaged"])
    assert "rows.jsonl" in damaged["reason"]
    (unfinished,) = matching(records(root), ["state=unfinished"])
    assert unfinished["steps_done"] == 300
    assert "exact" not in unfinished


def test_a_row_holds_options_measurements_and_verdict(root: Path) -> None:
    row: dict[str, Any]
    (row,) = matching(records(root), ["objective=reversed"])
    assert row["task.degree"] == 2
    assert row["backbone.name"] == "transformer"
    assert row["exact.low"] <= row["exact"] <= row["exact.high"]
    assert row["verdict"] == "solved"
    assert row["forced.0"] > 0.9


@pytest.mark.parametrize(
    ("condition", "found"),
    [
        ("exact>=0.95", 1), ("exact<0.95", 2), ("objective!=reversed", 4), ("task=path-star", 5), ("seed>6", 2),
        ("task.degree=2", 5), ("task.degree=3", 0), ("verdict=solved", 1), ("until_solved=false", 5),
    ],
)  # fmt: skip
def test_conditions(root: Path, condition: str, found: int) -> None:
    assert len(matching(records(root), [condition])) == found


def test_conditions_add_up(root: Path) -> None:
    assert len(matching(records(root), ["objective=next-token", "state=finished", "seed>=1"])) == 1


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("exakt>1", "no run has a column 'exakt'; did you mean 'exact'"),
        ("exact", "is no condition; write a column, one of"),
        ("objective>1", "have no order; compare them with = or !="),
    ],
)
def test_a_wrong_condition_is_one_sentence(root: Path, condition: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        matching(records(root), [condition])


def test_runs_without_the_column_come_last_either_way(root: Path) -> None:
    for descending in (False, True):
        found: list[Any] = [record.get("exact") for record in in_order(records(root), "exact", descending)]
        assert found[3:] == [None, None]
        assert found[:3] == sorted(found[:3], reverse=descending)
    with pytest.raises(RequestError, match="--sort sede"):
        in_order(records(root), "sede", False)


def test_csv_and_parquet_hold_every_cell(root: Path, tmp_path: Path) -> None:
    rows = records(root)
    write_csv(rows, tmp_path / "runs.csv")
    with (tmp_path / "runs.csv").open(newline="") as handle:
        written = list(csv.DictReader(handle))
    assert [row["run"] for row in written] == [record["run"] for record in rows]
    assert [row["exact"] for row in written] == ["" if "exact" not in each else str(each["exact"]) for each in rows]
    assert {row["until_solved"] for row in written} == {"false"}

    parquet = pytest.importorskip("pyarrow.parquet", reason="the extra 'data' is not installed")
    write_parquet(rows, tmp_path / "runs.parquet")
    for read, record in zip(parquet.read_table(tmp_path / "runs.parquet").to_pylist(), rows, strict=True):
        assert {key: value for key, value in read.items() if value is not None} == {
            key: value for key, value in record.items() if value is not None
        }


def test_specs_are_cut_to_what_tells_them_apart() -> None:
    assert without_common(["a:x=1,y=2", "a:x=1,y=3"]) == ["y=2", "y=3"]
    assert without_common(["a:x=1", "b:x=1"]) == ["a", "b"]
    assert without_common(["a", "a:y=3"]) == ["a", "a:y=3"]


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *argv: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["foresee", "runs", *argv])
    with pytest.raises(SystemExit) as ended:
        main()
    out, err = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, out, err


def test_the_command_lists_and_exports(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = run(capsys, monkeypatch, str(root), "--where", "exact>=0", "--sort", "exact", "--descending")
    assert status == 0, err
    assert "3 runs" in out
    assert out.index("reversed") < out.index("next-token")
    status, out, _ = run(capsys, monkeypatch, str(root), "--json")
    assert status == 0
    assert len(json.loads(out)["runs"]) == 5
    status, _, err = run(capsys, monkeypatch, str(root), "--columns", "run,exakt")
    assert (status, err.count("\n")) == (2, 1)
    assert "exakt" in err
    status, _, err = run(capsys, monkeypatch, str(tmp_path / "none"))
    assert status == 2
    assert "is no folder of runs" in err
