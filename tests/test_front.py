"""What a user sees first: narrow terminals, the scaffold, one thing shown in full, and the words in Python."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from fabricated_runs import add_anatomy, add_position_loss, fabricate_run
from program import Program
from refusals import refused
from rich.console import Console
from support import VOCAB
from tiny import BACKBONE, QUICK

import foresee
from foresee.backbones import Backbone
from foresee.cli.app import COMMANDS
from foresee.cli.display import show_comparison, show_records
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.plugins import load_plugin_file
from foresee.experiments.compare import Comparison, ObjectiveRuns
from foresee.experiments.engine import Job, train_one
from foresee.experiments.scaffold import KINDS, write_plugin
from foresee.training.bars import Bars
from foresee.training.loop import continue_run
from foresee.training.progress import Lines, Progress
from foresee.training.run import Run, find_runs, load
from foresee.training.run_table import SHOWN, runs_table, table_records, telling_columns
from foresee.training.settings import Settings
from foresee.training.values import canonical_data

WIDTHS = (80, 140)
MINI = "path-star-mini"
untyped: Any = foresee  # for what is wrong on purpose


def body(vocab_size: Any = 13, **options: Any) -> Backbone:
    """A network of one layer."""
    return foresee.backbone("transformer:layers=1,width=16,heads=2", vocab_size=vocab_size, **options)


@pytest.fixture
def runs(tmp_path: Path) -> list[Run]:
    """Two objectives, two seeds each, and one that is unfinished."""
    for objective, behaviour in (("next-token", "follows"), ("reversed", "solves")):
        for seed in (0, 1):
            add_position_loss(fabricate_run(tmp_path / "runs", objective, behaviour, seed=seed))  # type: ignore[arg-type]
    fabricate_run(tmp_path / "runs", "teacherless", seed=2, finished=False)
    return [run for run in find_runs(tmp_path / "runs") if isinstance(run, Run)]


@pytest.fixture
def compared(runs: list[Run]) -> Comparison:
    """The finished ones as a comparison."""
    groups = (
        ObjectiveRuns(name, tuple(run for run in runs if run.spec.objective == name))
        for name in ("next-token", "reversed")
    )
    return Comparison(runs[0].spec, tuple(groups))


def rendered(width: int, show: Any) -> list[str]:
    console = Console(width=width, color_system=None, file=io.StringIO())
    with console.capture() as captured:
        show(console)
    return captured.get().splitlines()


# Narrow terminals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", WIDTHS)
def test_runs_fit(runs: list[Run], width: int) -> None:
    """Columns that have no room beside each other stand below each other."""
    records = table_records(runs_table(runs))
    assert telling_columns(records) == list(SHOWN)  # these runs differ in nothing else
    lines = rendered(width, lambda console: show_records(records, telling_columns(records), console))
    assert lines[0].startswith("task: "), "what all agree on stands once, above the table"
    table = lines[lines.index(next(line for line in lines if "verdict" in line)) :]
    assert all(len(line) <= width and "…" not in line for line in table)
    assert all(any(run.spec.digest[:8] in line for line in table) for run in runs)
    heads = table[0].split()
    assert {"run", "objective", "seed", "steps", "batch", "exact", "follow", "verdict"} <= {*heads, *_above(lines)}
    lines = rendered(80, lambda console: show_records(records, [*records[0]], console))
    assert {"run", "exact", "exact.low", "verdict"} <= _above(lines)
    assert all(any(run.spec.digest[:8] in line for line in lines) for run in runs)
    assert "clever-hans" in " ".join(lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_settings_in_which_like_runs_differ_are_shown(tmp_path: Path, width: int) -> None:
    for lr, seed, warmup in ((0.0015, 0, 100), (0.00001, 0, 100), (0.0015, 1, 50)):
        fabricate_run(tmp_path / "runs", lr=lr, seed=seed, warmup=warmup)
    records = table_records(runs_table(find_runs(tmp_path / "runs")))
    columns = telling_columns(records)
    assert [name for name in columns if name not in SHOWN] == ["lr"], "the seed tells the third from the first"
    lines = rendered(width, lambda console: show_records(records, columns, console))
    assert all(any(lr in line.split() for line in lines) for lr in ("0.0015", "1e-05"))
    records[-1]["warmup"] = 7
    records[-1]["lr"] = 0.0015
    records.append(records[-1] | {"warmup": 8})
    assert telling_columns(records)[telling_columns(records).index("batch") + 1 :][:2] == ["lr", "warmup"]


def _above(lines: list[str]) -> set[str]:
    """Columns that are said above the table."""
    return {line.partition(":")[0] for line in lines if ": " in line}


@pytest.mark.parametrize("width", WIDTHS)
def test_a_comparison_fits(compared: Comparison, width: int) -> None:
    lines = rendered(width, lambda console: show_comparison(compared, console))
    assert "600 steps, batch 256" in " ".join(" ".join(lines).split())
    rows = [line for line in lines if line.endswith(("clever-hans (inconclusive)", "solved")) or "clever-hans" in line]
    assert rows
    assert all(len(line) <= width for line in rows)
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("width", WIDTHS)
def test_help_fits(program: Program, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    status, out, _ = program("-h")
    assert status == 0
    assert all(len(line) <= width for line in out.splitlines())
    assert all(f"\n  {name} " in out for name in COMMANDS)
    assert program() == program("--help") == (0, out, "")
    assert program("--version")[1] == f"foresee {foresee.__version__}\n"
    assert "_FORESEE_COMPLETE" in program("--show-completion", "bash")[1]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("runs", [1, 2])
def test_bars_show_step_and_time_left_and_what_fits(runs: int, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    written = io.StringIO()
    bars = Bars(Console(width=width, height=20, file=written, force_terminal=True, color_system=None))
    settings = Settings.of("path-star", "multi-token-sequential", steps=400)
    if runs > 1:
        bars.plan("on this machine", runs, 0)
    bars.start(settings, 0)
    for step in (100, 200):
        report(bars, settings, step)
    bars._bars.refresh()
    bars.close()
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", written.getvalue()).splitlines()
    assert ("training multi-token-sequential on path-star with " in written.getvalue()) == (runs == 1)
    shown = [line for line in lines if "200/400" in line]
    assert all(len(line) <= width for line in shown)
    assert "loss 1.0000  exact 0.50" in shown[-1]
    assert ("branch 0.50" in shown[-1]) == (width == 140)
    assert "…" not in shown[-1].partition("loss")[2]
    assert any(":" in word for word in shown[-1].split()), "the time left"


def test_lines_say_what_happens_to_one_run_and_to_several() -> None:
    settings = Settings.of("path-star", steps=10)
    for runs, digest in ((1, ""), (2, f" ({settings.digest[:6]})")):
        lines = Lines(written := io.StringIO())
        if runs > 1:
            lines.plan("on this machine", runs, 0)
        lines.start(settings, 0)
        lines.step(settings, 5)
        report(lines, settings, 5)
        lines.close()
        assert "\r" not in written.getvalue()
        assert f"next-token on path-star, seed 0{digest}: step 5/10  loss 1.0000" in written.getvalue()
        assert written.getvalue().rstrip().endswith(" left")


def report(shown: Progress, settings: Settings, step: int) -> None:
    line: Any = {"step": step, "loss": 1.0, "eval": {"exact": 0.5, "branch": 0.5}}
    shown.report(settings, line, {"step": step, "seconds": step / 10, "examples_per_second": 1000.0})


# Python -------------------------------------------------------------------------------------------------------------


def test_runs_and_comparisons_show_themselves(runs: list[Run], compared: Comparison) -> None:
    for run in runs:
        assert len(repr(run).splitlines()) == 2
        assert run.spec.digest in repr(run)
        assert run.spec.digest in run._repr_html_()
    solved = next(run for run in runs if run.spec.objective == "reversed")
    assert repr(solved).splitlines()[1].startswith("solved: exact 0.99")
    assert "<table>" in solved._repr_html_()
    assert "unfinished" in repr(next(run for run in runs if not run.rows))
    table = compared.table
    assert list(table["objective"]) == ["next-token"] * 2 + ["reversed"] * 2
    assert {"seed", "exact", "branch", "follow", "solved_at", "verdict", "inconclusive", "run"} <= set(table.columns)
    assert "reversed: 2 of 2 seeds solved" in repr(compared)
    assert "reversed: 2 of 2 seeds solved" in compared._repr_html_()


def test_the_charts(compared: Comparison, runs: list[Run], tmp_path: Path) -> None:
    drawn = {
        "curves": foresee.plot.curves(compared, measure="exact"),
        "positions": foresee.plot.positions([compared]),
        "survival": foresee.plot.survival(*(run.dir for run in compared.runs)),
        "supervision": foresee.plot.supervision(compared.runs[0]),
    }
    add_anatomy(compared.runs[0].dir)
    drawn["anatomy"] = foresee.plot.anatomy(compared.runs[0].dir)
    for name, chart in drawn.items():
        made = chart.to_dict()
        assert made["vconcat"], name
        assert len(json.dumps(made)) > 1000
    with pytest.raises(RequestError, match="did you mean 'exact'"):
        foresee.plot.curves(compared, measure="exat")
    with pytest.raises(RequestError, match="example 7 is not kept"):
        foresee.plot.anatomy(compared.runs[0].dir, 7)


def test_tables_and_pages_in_python(runs: list[Run], compared: Comparison, tmp_path: Path) -> None:
    found = foresee.runs(tmp_path / "runs", where="objective=reversed", sort="seed")
    assert list(found["seed"]) == [0, 1]
    page = foresee.report(compared, out=tmp_path / "page.html")
    assert compared.runs[0].spec.digest in page.read_text(encoding="utf-8")
    result = foresee.study("pitfalls-next-token", runs=tmp_path / "none")
    committed = Path(foresee.__file__).parents[2] / "results"
    assert committed in [Path(each).resolve() for each in result.searched], "found from anywhere"
    assert {"published", "measured", "agreement"} <= set(result.table.columns)


def test_an_empty_list_of_runs_is_not_all_of_them(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs[0].dir.parent.parent)
    assert len(foresee.runs()) >= len(runs)
    assert foresee.runs([]).empty
    assert foresee.runs([], where="exact>=0.5", sort="exact").empty
    page = tmp_path / "page.html"
    for ask in (
        lambda: foresee.report([], out=page),
        lambda: foresee.plot.curves([]),
        lambda: foresee.plot.anatomy([]),
    ):
        with refused("an empty list of runs was given; name some"):
            ask()
    assert not page.exists()


def test_a_run_is_named_by_the_start_of_its_digest(runs: list[Run], tmp_path: Path, program: Program) -> None:
    run = next(run for run in runs if run.rows)
    start = run.spec.digest[:8]
    assert load(start, tmp_path).dir == run.dir
    assert "begins with" not in program("report", start, "--runs", str(tmp_path), "-o", str(tmp_path / "p.html"))[2]
    with pytest.raises(RequestError, match=r"no run below .* has a name that begins with 000000"):
        load("000000", tmp_path)
    copy = tmp_path / "copy" / run.dir.name
    copy.mkdir(parents=True)
    (copy / "spec.json").write_bytes((run.dir / "spec.json").read_bytes())
    with pytest.raises(RequestError, match=r"2 runs below .* begin"):
        load(start, tmp_path)


WRONG: dict[str, Callable[[], object]] = {
    "no setting 'stpes': did you mean 'steps'": lambda: untyped.train(MINI, stpes=3),
    "unknown task 'rows.jsonl'": lambda: untyped.train(Path("rows.jsonl")),
    "objective=<function> must be a text": lambda: untyped.train(MINI, foresee.train),
    "track=True must be a text or None": lambda: untyped.train(MINI, track=True),
    "unknown tracker 'x'": lambda: untyped.train(MINI, track="x"),
    "runs=None must be a text or a path": lambda: untyped.train(MINI, runs=None),
    "runs=3 must be a text or a path": lambda: untyped.load("0", 3),
    "progress='no' must be true or false or a Progress": lambda: untyped.train(MINI, progress="no"),
    "did you mean seeds": lambda: untyped.compare(MINI, "next-token", seed=1),
    "seeds=[0, 1] must be a whole number": lambda: untyped.compare(MINI, "next-token", seeds=[0, 1]),
    "seeds=-1 must be at least 0": lambda: untyped.compare(MINI, "next-token", seeds=-1),
    "objectives=None must be a text or a list of such": lambda: untyped.compare(MINI, None),
    "objectives=['reversed', 3] must be a text or a list of such": lambda: untyped.compare(MINI, ["reversed", 3]),
    "jobs='2' must be a whole number or None": lambda: untyped.compare(MINI, "next-token", jobs="2"),
    "engine=3 must be a text or an Engine": lambda: untyped.compare(MINI, "next-token", engine=3),
    "spec=None must be a text": lambda: untyped.task(None),
    "spec=<PathStar> must be a text": lambda: untyped.task(foresee.task(MINI)),
    "spec=3 must be a text": lambda: untyped.backbone(3, vocab_size=4),
    "vocab=14 must be a Vocabulary or None": lambda: untyped.backbone("gpt-nano", 14),
    "vocab=['a', 'b'] must be a Vocabulary or None": lambda: untyped.backbone("gpt-nano", ["a", "b"]),
    "vocab_size=-3 must be at least 1": lambda: untyped.backbone("gpt-nano", vocab_size=-3),
    "vocab_size=0 must be at least 1": lambda: untyped.backbone("gpt-nano", vocab_size=0),
    "backbone=<Vocabulary> must be a Backbone": lambda: untyped.objective("next-token", VOCAB, body()),
    "the backbone scores 4 tokens, and the vocabulary has 13": lambda: untyped.objective("next-token", body(4), VOCAB),
    "name=None must be a text": lambda: untyped.study(None),
    "nowhere: no such folder": lambda: untyped.study("defaults", results="nowhere"),
    "where=None must be a text or a list of such": lambda: untyped.runs(where=None),
    "sort=['exact'] must be a text or None": lambda: untyped.runs(sort=["exact"]),
    "name=None must be a text or a path": lambda: untyped.load(None),
    "data=3 must be a text or a path or None": lambda: untyped.evaluate("0", 3),
    "out=None must be a text or a path": lambda: untyped.export("0", None),
    "path=None must be a text or a path": lambda: untyped.plugin(None),
    "a run is named by its folder or its digest, not by a int": lambda: untyped.report(3),
    "warn=3 must be a function or None": lambda: untyped.report(warn=3),
    "measure=3 must be a text or None": lambda: untyped.plot.curves(measure=3),
    "minutes='3' must be a number": lambda: untyped.diagnose(MINI, minutes="3"),
    "objectives=3 must be a text or a list of such": lambda: untyped.diagnose(MINI, objectives=3),
    "batch='x' must be a whole number": lambda: untyped.diagnose(MINI, batch="x"),
    "backbone=3 must be a text or None": lambda: untyped.diagnose(MINI, backbone=3),
    "how its rows are read stands in it": lambda: untyped.diagnose(foresee.task(MINI), prompt="question"),
}
"""Wrong requests, by what is said of them."""


@pytest.mark.parametrize("said", WRONG)
def test_python_is_told_what_it_should_have_been_given(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with refused(said):
        WRONG[said]()
    assert not [*tmp_path.iterdir()]


def test_numbers_are_read_as_those_of_settings_and_lists_in_any_form() -> None:
    weights = [next(body(numpy.int64(13), seed=seed).parameters()) for seed in (1, 1.0, numpy.int64(1), 2)]
    assert [torch.equal(weights[0], each) for each in weights] == [True, True, True, False]
    assert canonical_data(Path("a.txt")) == "file:a.txt"


# Scaffold and show --------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("forget_plugins")
@pytest.mark.parametrize("kind", KINDS)
def test_a_scaffold_runs_as_it_is(kind: str, tmp_path: Path, program: Program) -> None:
    status, out, _ = program("new", kind, f"my-{kind}", "-o", str(tmp_path))
    path = tmp_path / f"my_{kind}.py"
    assert (status, out.splitlines()[0]) == (0, str(path))
    load_plugin_file(path)
    own = sys.modules[f"foresee_plugin_my_{kind}"]
    tests = [value for name, value in vars(own).items() if name.startswith("test_")]
    assert tests
    for test in tests:
        test()
    assert f"my-{kind}" in program("show", f"my-{kind}")[1]
    with pytest.raises(RequestError, match="there already"):
        write_plugin(kind, f"my-{kind}", tmp_path / "elsewhere")


@pytest.mark.usefixtures("forget_plugins")
def test_a_plugin_that_is_edited_meanwhile_trains_nothing_under_its_old_name(tmp_path: Path) -> None:
    path = write_plugin("objective", "my-edited", tmp_path)
    load_plugin_file(path)
    job = Job(Settings.of("path-star-mini", "my-edited", steps=1), 0)
    path.write_text(path.read_text() + "\nEDITED = True\n")
    with refused("my_edited.py changed since this run was asked for"):
        train_one(job.order(tmp_path / "runs", 1))


@pytest.mark.usefixtures("forget_plugins")
def test_a_run_whose_plugin_was_edited_since_is_measured_with_a_warning(tmp_path: Path) -> None:
    path = write_plugin("objective", "my-changed", tmp_path)
    load_plugin_file(path)
    run = foresee.train("path-star-mini", "my-changed", BACKBONE, runs=tmp_path / "runs", progress=False, **QUICK)
    assert foresee.evaluate(run).rows["exact"] == run.rows["exact"]
    path.write_text(path.read_text() + "\nEDITED = True\n")
    load_plugin_file(path)
    said = rf"{run.spec.digest} was trained with another version of MyChanged \(.*my_changed.py\); what is measured now"
    with pytest.warns(ForeseeWarning, match=said):
        foresee.evaluate(load(run.dir))
    with pytest.warns(ForeseeWarning, match=said):
        load(run.dir).generate(run.examples[0]["prompt"])
    further = continue_run(run, 2)
    assert further.spec.plugins != run.spec.plugins
    assert further.objective.training is False, "without a warning: it is trained with what it is named by"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("new objektive x", "unknown kind 'objektive': did you mean 'objective'"),
        ("new task My_Task", "'My_Task' is no name for a task; write lower-case words joined by hyphens"),
        (
            "new objective torch",
            "torch.py would hide the module torch from what lies beside it; choose another name",
        ),
        ("new metric json", "json.py would hide the module json"),
        ("new task path-star", "there already"),
        ("show pathstar", "did you mean 'path-star'"),
    ],
)
def test_wrong_requests(program: Program, command: str, said: str) -> None:
    assert said in program.refusal(*command.split())


def test_one_thing_in_full(program: Program) -> None:
    shown = program("show", "path-star")[1]
    for word in ("degree", "arm-wise", "Source: ", "foresee generate path-star", "an example: "):
        assert word in shown
    (entry,) = program.json("show", "multi-token")["entries"]
    assert [option["name"] for option in entry["options"]] == ["heads", "weight", "curriculum"]
    assert "arXiv 2404.19737" in entry["source"]
    assert "a preset for transformer:" in program("show", "gpt-nano")[1]
    assert "Mamba" in program("show", "pitfalls-mamba")[1]
    for row, metric in {"exact": "accuracy", "follow": "shortcut", "rest": "decision", "heeds": "lure"}.items():
        assert program("show", row)[1].startswith(f"{metric}, a metric: ")
    assert len(program.refusal("show", "qqqq")) < 700, "a sentence lists no hundred names"


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["train", "{rows}"], "{rows} is a file, and a task is asked for: write data:{rows}"),
        (["train", "data"], "task 'data' needs path=..., as in data:path=..."),
        (["diagnose", "data:{rows}", "--test-data", "no.jsonl"], "data:{rows} is a task's spec, and how its rows are"),
        (["diagnose", "{rows},prompt=answer"], "{rows},prompt=answer: options of a file stand apart here"),
        (["train", "data:{rows},test_file={rows}"], "{rows}: every prompt is in {rows} too, so no row"),
        (["inspect", "{wide}"], "{wide}: the file is UTF-16 or UTF-32 text; save it as UTF-8"),
    ],
)
def test_a_file_that_is_named_in_the_wrong_way_gets_the_right_one(
    argv: list[str], sentence: str, tmp_path: Path, program: Program
) -> None:
    rows, wide = tmp_path / "rows.jsonl", tmp_path / "wide.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"{n}", "answer": f"{n % 3}"}) + "\n" for n in range(60)))
    wide.write_text("[]", "utf-16")
    status, _, err = program(*(word.format(rows=rows, wide=wide) for word in argv))
    assert status == 2
    last = err.splitlines()[-1]  # diagnose says what it does
    assert last.startswith(f"foresee: {sentence.format(rows=rows, wide=wide)}")
