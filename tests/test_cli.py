"""The command line: what each command prints where, its exit status, and one sentence for every wrong request."""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fabricated_runs import fabricate_run
from program import Program
from tiny import EASY, QUICK, TASK, arguments, tiny

from foresee.cli import main
from foresee.cli.app import COMMANDS
from foresee.cli.list import list_registered
from foresee.core.isolation import keep_large_blocks
from foresee.experiments.catalogue import all_registries
from foresee.experiments.runner import run_all
from foresee.training.loop import train
from foresee.training.run import Run, load

QUICKLY = ["--steps=4", "--eval-every=2", "--data=300", "--test=40"]

PLUGIN = '''
"""A task and an objective in one file."""

from dataclasses import dataclass

from foresee.objectives import LossOut, objectives
from foresee.objectives.next_token import NextToken
from foresee.tasks import tasks
from foresee.tasks.path_star import PathStar


@tasks.register("my-star")
@dataclass(frozen=True, kw_only=True)
class MyStar(PathStar):
    summary = "a star of my own"


@objectives.register("my-objective")
class MyObjective(NextToken):
    summary = "an objective of my own"

    def __init__(self, backbone, vocab, generator, *, scale: float = 2.0):
        super().__init__(backbone, vocab, generator)
        self.scale = scale

    def loss(self, batch, rng):
        out = super().loss(batch, rng)
        return LossOut(out.total * self.scale, {"mine": out.total * self.scale}, out.per_token * self.scale)
'''


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that no test may change."""
    return train(tiny(**QUICK), tmp_path_factory.mktemp("runs"))


# In a process of its own --------------------------------------------------------------------------------------------

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(["foresee.experiments.compare", "torch._dynamo"])


def child(argv: list[str], directory: Path) -> None:
    """The command line, its output in two files."""
    for handle, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), handle)
    torch.set_num_threads(1)
    sys.argv = ["foresee", *argv]
    main()


def elsewhere(directory: Path, *argv: str) -> tuple[int | None, str, str]:
    """Exit status and output of the command line in a fresh process, where plug-ins can be loaded."""
    process = processes.Process(target=child, args=(list(argv), directory))
    process.start()
    process.join()
    return process.exitcode, (directory / "out").read_text(), (directory / "err").read_text()


def shell(command: str) -> subprocess.CompletedProcess[str]:
    """A line of shell in which ``$foresee`` is the command line."""
    code = "from foresee.cli import main; main()"
    return subprocess.run(
        ["bash", "-c", f'foresee() {{ "{sys.executable}" -c "{code}" "$@"; }}; {command}'],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


# What there is ------------------------------------------------------------------------------------------------------


LISTS = """
import sys
from foresee.cli.app import COMMANDS, main
large = {"torch", "pandas", "transformers", "altair", "jinja2", "ray", "scipy.stats", "scipy.optimize"}
helps = [[name, "--help"] for name in COMMANDS]
for argv in (["--help"], *helps, ["list"], ["list", "--json"], ["study", "pitfalls-mamba", "--json"]):
    sys.argv = ["foresee", *argv]
    try:
        main()
    except SystemExit as ended:
        assert ended.code == 0
    print(argv[0], *sorted(large & set(sys.modules)), file=sys.stderr)
"""


def test_help_a_listing_and_a_study_wait_for_no_large_library() -> None:
    """Without PyTorch a listing says what is registered, which takes PyTorch to know; a study needs SciPy beside it."""
    ended = subprocess.run([sys.executable, "-c", LISTS], capture_output=True, text=True, check=True)
    assert ended.stderr.splitlines() == ["--help", *COMMANDS, "list", "list", "study scipy.optimize scipy.stats torch"]
    listed, registered = json.loads(ended.stdout.splitlines()[-2]), list_registered()
    for kind, registry in all_registries().items():
        of_plugins = {name for name in registry.names() if not registry.get(name).__module__.startswith("foresee.")}
        assert listed[kind] == {name: each for name, each in registered[kind].items() if name not in of_plugins}


@pytest.mark.skipif(sys.platform != "linux", reason="the allocator is glibc's")
def test_commands_set_the_allocator_and_the_library_does_not(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    class Library:
        @staticmethod
        def mallopt(parameter: int, value: int) -> int:
            told.append(parameter)
            return 1

    monkeypatch.setattr("foresee.core.isolation.ctypes.CDLL", lambda _: Library)
    keep_large_blocks.cache_clear()
    run_all([tiny(**QUICK)], tmp_path / "library", engine="in-process")
    assert told == []
    program.json("train", TASK, *arguments(tmp_path / "runs", *QUICKLY))
    assert len(told) == 3


def test_list(program: Program) -> None:
    _, out, _ = program("list")
    words = (
        "tasks", "path-star", "pairs=<int>", "goals=all", "objectives", "teacherless", "hybrid=0.0", "backbones",
        "transformer", "gpt-nano", "preset for transformer:", "metrics", "shortcut",
    )  # fmt: skip
    assert [word for word in words if word not in out] == []
    _, only, _ = program("list", "objectives")
    assert "teacherless" in only
    assert "path-star" not in only
    listed = program.json("list")
    assert list(listed) == ["tasks", "objectives", "backbones", "metrics", "studies"]
    assert listed["objectives"]["teacherless"]["options"] == {"hybrid": "0.0"}
    assert listed["tasks"]["path-star"]["summary"]
    assert listed["backbones"]["gpt-nano"] == {"preset": "transformer:layers=6,width=128,heads=4,positions=rotary"}
    assert program.json("list", "tasks") == {"tasks": listed["tasks"]}


# Examples -----------------------------------------------------------------------------------------------------------


def test_generate_to_standard_output(program: Program) -> None:
    status, out, err = program("generate", TASK, "-n", "5")
    assert (status, err, len(out.splitlines())) == (0, "", 5)
    task = tiny().build_task()
    assert all(task.verify(*task.read_line(line)) for line in out.splitlines())
    assert program("generate", TASK, "-n", "5")[1] == out
    assert program("generate", TASK, "-n", "5", "--seed", "1")[1] != out
    assert program("generate", TASK, "-n", "5", "--split", "test")[1] != out


@pytest.mark.parametrize("form", ["text", "jsonl"])
def test_train_and_evaluate_on_generated_files(program: Program, tmp_path: Path, form: str) -> None:
    learn, test = tmp_path / f"learn.{form}", tmp_path / f"test.{form}"
    for path, split, n in ((learn, "train", 300), (test, "test", 50)):
        given = ("generate", TASK, "-n", str(n), "--split", split, "--format", form)
        assert program(*given, "--out", str(path)) == (0, "", "")
        assert path.read_text() == program(*given)[1]
    if form == "jsonl":
        assert [list(json.loads(line)) for line in test.read_text().splitlines()] == [["prompt", "answer"]] * 50
    run = program.json("train", TASK, *arguments(tmp_path / "runs", *QUICKLY, f"--data={learn}"))
    assert load(run["dir"]).spec.data == f"file:{learn}"
    measured = program.json("evaluate", run["dir"], "--data", str(test))
    assert (measured["rows"]["exact"]["n"], measured["run"]) == (50, run["run"])


@pytest.mark.parametrize("command", [f"generate {EASY} -n 100000", "list"])
def test_a_reader_that_goes_away_and_a_full_disk(command: str) -> None:
    ended = shell(f"foresee {command} | head -n 1; exit ${{PIPESTATUS[0]}}")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(ended.stdout.splitlines()) == 1
    if command == "list" and Path("/dev/full").exists():
        ended = shell("foresee list --json > /dev/full")
        said = "foresee: standard output could not be read or written: No space left on device\n"
        assert (ended.returncode, ended.stderr) == (1, said)


# Training and measuring ---------------------------------------------------------------------------------------------

RUN_KEYS = ["run", "dir", "task", "objective", "backbone", "seed", "steps", "rows", "verdict", "seconds"]


def test_train(program: Program, tmp_path: Path) -> None:
    given = ["train", TASK, *arguments(tmp_path / "runs", *QUICKLY)]
    status, out, err = program(*given)
    assert status == 0
    for word in ("exact", "forced[2]", "follow", "verdict: ", "because: ", "run: "):
        assert word in out
    lines = err.splitlines()
    assert lines[0].startswith("training next-token on path-star:")
    assert lines[1].startswith("warning: the backbone has 1 layer and the decision takes 2")
    assert [line.split("  ")[0] for line in lines[2:4]] == [
        "next-token on path-star, seed 0: step 2/4", "next-token on path-star, seed 0: step 4/4",
    ]  # fmt: skip
    assert lines[4:] == ["measuring on 40 test examples"]
    run = program.json(*given, "--objective=reversed")
    assert list(run) == RUN_KEYS
    assert run["dir"] == str(tmp_path / "runs" / run["run"])
    assert (run["objective"], run["steps"], run["rows"]["exact"]["n"]) == ("reversed", 4, 40)
    assert program.json(*given, "--objective=reversed") == run, "a finished run is not run again"


def test_options_reach_the_run_and_a_default_that_is_given_is_not_a_default(program: Program, tmp_path: Path) -> None:
    more = ["--lr=0.5", "--seed=3", "--schedule=cosine", "--weight-decay=0.5", "--beta2=0.5", "--clip=0", "--warmup=1",
            "--precision=float32", "--device=cpu", "--until-solved", "--data=fresh"]  # fmt: skip
    run = program.json("train", TASK, *arguments(tmp_path / "runs", *QUICKLY, *more))
    assert load(run["dir"]).spec == tiny(
        **QUICK | {"data": "fresh"}, lr=0.5, seed=3, schedule="cosine", weight_decay=0.5, beta2=0.5, clip=0, warmup=1,
        precision="float32", device="cpu", until_solved=True,
    )  # fmt: skip
    words = ["--backbone=transformer:layers=1,width=8,heads=1", "--steps=1", "--test=8", "--data=fresh"]
    for given, batch in ([], 256), (["--batch=128"], 128):
        run = program.json("train", "path-star:degree=4,length=2,nodes=10", *words, *given, f"--runs={tmp_path}")
        assert load(run["dir"]).spec.batch == batch


def test_evaluate(program: Program, finished: Run) -> None:
    measured = program.json("evaluate", str(finished.dir))
    assert list(measured) == RUN_KEYS
    assert measured["rows"] == {name: row for name, row in finished.rows.items() if name != "train_branch"}
    status, out, err = program("evaluate", str(finished.dir))
    assert (status, err, f"run: {finished.dir}\n" in out) == (0, "", True)


def test_compare(program: Program, tmp_path: Path) -> None:
    given = ["compare", TASK, "--objectives=next-token,teacherless:hybrid=0.5", "--seeds=2"]
    given += arguments(tmp_path / "runs", *QUICKLY)
    compared = program.json(*given)
    assert list(compared) == ["task", "backbone", "groups"]
    assert compared["task"] == TASK
    assert [group["objective"] for group in compared["groups"]] == ["next-token", "teacherless:hybrid=0.5", "reversed"]
    for group in compared["groups"]:
        assert list(group) == ["objective", "solved", "exact", "steps_to_solve", "runs"]
        assert [run["seed"] for run in group["runs"]] == [0, 1]
        assert all(list(run) == RUN_KEYS for run in group["runs"])
    status, out, err = program(*given)
    assert (status, err) == (0, "")
    for word in ("next-token", "teacherless:hybrid=0.5", "reversed", "0 of 2 seeds solved", "(inconclusive)"):
        assert word in out


def test_report(program: Program, finished: Run, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    for asked in (finished.dir, finished.dir.parent):
        status, out, _ = program("report", str(asked), "-o", str(page))
        assert (status, out) == (0, f"{page}\n")
        assert page.read_text().startswith("<!")
        assert finished.spec.digest in page.read_text()
        page.unlink()
    assert "is no folder of runs" in program.refusal("report", "--runs", str(tmp_path / "none"))


# Plug-ins -----------------------------------------------------------------------------------------------------------


def test_a_plug_in_of_one_file(tmp_path: Path) -> None:
    plugin = tmp_path / "ideas.py"
    plugin.write_text(PLUGIN)
    star = "my-star:degree=2,length=3,nodes=10"
    given = arguments(tmp_path / "runs", *QUICKLY, "--plugin", str(plugin), "--json")

    status, out, _ = elsewhere(tmp_path, "list", "--json", "--plugin", str(plugin))
    assert status == 0
    listed = json.loads(out)
    assert listed["objectives"]["my-objective"] == {"summary": "an objective of my own", "options": {"scale": "2.0"}}
    assert listed["tasks"]["my-star"]["summary"] == "a star of my own"

    status, out, _ = elsewhere(tmp_path, "train", star, "--objective=my-objective", *given)
    assert status == 0
    trained = json.loads(out)
    assert trained["objective"] == "my-objective:scale=2.0"
    assert list(load(trained["dir"]).metrics[0]["parts"]) == ["mine"]

    # An edited plug-in is another run.
    plugin.write_text(PLUGIN.replace("return LossOut", "# edited\n        return LossOut"))
    _, out, _ = elsewhere(tmp_path, "train", star, "--objective=my-objective", *given)
    assert json.loads(out)["run"] != trained["run"]

    status, out, err = elsewhere(tmp_path, "evaluate", trained["dir"], "--json")
    assert (status, out) == (2, "")
    assert err.startswith("foresee: unknown task 'my-star'")


@pytest.mark.slow
def test_a_plug_in_is_compared(tmp_path: Path) -> None:
    """In processes of their own; in whatever order objectives are named, the control stands beside each."""
    (tmp_path / "ideas.py").write_text(PLUGIN)
    given = arguments(tmp_path / "runs", *QUICKLY, "--plugin", str(tmp_path / "ideas.py"), "--json")
    for names in ("my-objective:scale=2,next-token", "next-token,my-objective:scale=2"):
        asked = ("compare", "my-star:degree=2,length=3,nodes=10", f"--objectives={names}", "--seeds=1", *given)
        status, out, _ = elsewhere(tmp_path, *asked)
        assert status == 0
        groups = [group["objective"] for group in json.loads(out)["groups"]]
        assert sorted(groups) == ["my-objective:scale=2.0", "next-token", "reversed"]
    assert len(list((tmp_path / "runs").iterdir())) == 3


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file; give the path of a Python file that registers something"),
        ("def broken(:\n", "line 1: invalid syntax"),
        (PLUGIN.replace("my-objective", "next-token"), "objective name 'next-token' is taken by"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded(tmp_path: Path, content: str | None, said: str) -> None:
    plugin = tmp_path / "ideas.py"
    if content is not None:
        plugin.write_text(content)
    status, out, err = elsewhere(tmp_path, "list", "--plugin", str(plugin))
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("foresee: ")
    assert said in err


# Wrong requests -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("trian x", "No such command 'trian'. Did you mean 'train'?"),
        ("list taks", "unknown kind 'taks': did you mean 'tasks'?"),
        (f"train {TASK} --stpes 3", "No such option: --stpes"),
        (f"train {TASK} --steps many", "Invalid value for '--steps'"),
        ("train", "Missing argument 'TASK'"),
        (f"compare {TASK}", "Missing option '--objectives'"),
        (f"generate {TASK} --split tset", "Invalid value for '--split'"),
        ("train path-star:degree=2,length=5,nodes=8", "nodes=8, but degree=2,length=5 needs at least 9 node labels"),
        ("train in-weights-path-star:degree=5", "needs length=..., as in in-weights-path-star:degree="),
        (f"train {TASK} --objective next-tokn", "unknown objective 'next-tokn': did you mean 'next-token'"),
        (f"train {TASK} --backbone gpt-nan", "unknown backbone 'gpt-nan': did you mean 'gpt-nano'"),
        (f"train {TASK} --backbone gpt-nano:context=10", "needs 18 positions, but backbone"),
        (f"train {TASK} --steps 0", "steps=0 must be at least 1"),
        (f"train {TASK} --batch 0", "batch=0 must be at least 1"),
        (f"train {TASK} --lr -1", "lr=-1.0 must be above 0"),
        (f"train {TASK} --schedule linear", "schedule='linear' must be constant or cosine"),
        (f"train {TASK} --data none.txt", "none.txt: cannot be read: No such file or directory"),
        (f"train {TASK} --data frehs", "data 'frehs' is none of fixed:N"),
        (f"compare {TASK} --objectives next-token,revresed", "unknown objective 'revresed': did you mean 'reversed'?"),
        (f"compare {TASK} --objectives next-token --seeds 0", "Invalid value for '--seeds'"),
        (f"generate {TASK} -n 0", "0 train examples were asked for; ask for at least 1"),
        (f"generate {TASK} --out nowhere/examples.txt", "the folder nowhere does not exist; make it first"),
        ("evaluate nowhere", "nowhere is not a run directory: no such folder"),
        ("evaluate .", "is not a run directory: it holds no spec.json"),
        ("report nowhere", "nowhere is no folder of runs"),

    ],
)  # fmt: skip
def test_a_wrong_request_is_one_sentence(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert said in program.refusal(*command.split(" "))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("3,1|0,3|0,4|4/0,5=0,4,5", "edge 4 is '4', but an edge is two labels joined by a comma"),
        ("3,1|0,3|0,4|4,5/0,5=", "the answer is missing after the prompt"),
        ("", "the line is empty"),
    ],
)
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_bad_line_is_named_by_file_and_number(
    program: Program, finished: Run, tmp_path: Path, command: str, line: str, said: str
) -> None:
    path = tmp_path / "examples.txt"
    good = "3,1|0,3|0,4|4,5/0,5=0,4,5\n"
    path.write_text(good * 2 + line + "\n" + good)
    given = ["evaluate", str(finished.dir)] if command == "evaluate" else ["train", TASK, f"--runs={tmp_path / 'runs'}"]
    sentence = program.refusal(*given, "--data", str(path))
    assert sentence.startswith(f"{path}, line 3: ")
    assert said in sentence
    assert not (tmp_path / "runs").exists()


def test_a_file_in_place_of_a_folder_is_refused_before_anything_is_done(program: Program, tmp_path: Path) -> None:
    (file := tmp_path / "file").write_text("")
    for given in (["train", TASK, *arguments(file, *QUICKLY)], ["study", "pitfalls-mamba", "--runs", str(file)],
                  ["demo", "-o", str(file)]):  # fmt: skip
        assert f"'{file}' is a file" in program.refusal(*given)
    for given in (["runs", "--csv", str(tmp_path)], ["report", "-o", str(tmp_path)]):
        assert f"'{tmp_path}' is a directory" in program.refusal(*given)
    assert "scale 'foo' must be one of laptop, paper" in program.refusal("report", "--scale", "foo")
    assert "2^63" in program.refusal("train", TASK, "--steps", "1" + "0" * 20)
    assert "greater than or equal to 0" in program.refusal("generate", TASK, "--seed", "-1")


def test_a_table_for_a_paper_keeps_what_is_in_doubt(program: Program, tmp_path: Path) -> None:
    fabricate_run(tmp_path / "runs", "next-token")
    given = ["--markdown", str(tmp_path / "t.md"), "--latex", str(tmp_path / "t.tex")]
    assert program("runs", str(tmp_path / "runs"), *given)[0] == 0
    for name in ("t.md", "t.tex"):
        assert "clever-hans (inconclusive)" in (tmp_path / name).read_text("utf-8")


def test_what_failed_though_it_was_rightly_asked_for(program: Program, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    given = ["train", TASK, *arguments(tmp_path / "file" / "runs", *QUICKLY)]
    assert "could not be written: Not a directory" in program.refusal(*given, status=1)
