"""A run stands by itself: its model needs no data file, which may move and change."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from data_files import data, sums, write_jsonl
from program import Program
from test_data_checkpoint import checkpoint  # noqa: F401  # a fixture
from tiny import TASK, tiny

from foresee.core.errors import ForeseeWarning, RequestError
from foresee.explore.session import Session
from foresee.report import report
from foresee.tasks.data import Data
from foresee.training.evaluate import evaluate
from foresee.training.export import export
from foresee.training.loop import continue_run, train
from foresee.training.run import Run, find_runs, load

SUMS = sums(300, most=40)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A run on a file whose fields have names of their own, both in the current folder."""
    monkeypatch.setenv("FORESEE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_jsonl(Path("sums.jsonl"), SUMS, "question", "reply")
    return train(tiny(task="data:sums.jsonl,prompt=question,answer=reply", steps=4), "runs")


def measured(run: Run) -> dict[str, Any]:
    """Its rows, without those about training examples."""
    return {name: row for name, row in run.rows.items() if not name.startswith("train_")}


def test_without_its_file_a_run_is_used_and_with_it_elsewhere_measured(run: Run, program: Program) -> None:
    said = load(run.dir).generate("3+4=")
    Path("elsewhere").mkdir()
    Path("sums.jsonl").rename("elsewhere/sums.jsonl")
    found = load(run.dir)
    assert found.generate('{"question": "3+4="}') == said
    assert set(said) <= set("0123456789+=\ufffd")
    (only,) = find_runs(run.dir)
    assert isinstance(only, Run)
    assert found.verdict == only.verdict == run.verdict
    assert "no verdict can be given" not in report(only, out="page.html").read_text()
    assert program("export", str(run.dir), "--out", "exported")[0] == 0
    assert "your prompt" in Path("exported/README.md").read_text()
    assert "--data FILE says where they lie now" in program.refusal("evaluate", str(run.dir))
    assert measured(run) == evaluate(found, Path("elsewhere/sums.jsonl"))
    assert 10 <= run.rows["exact"]["n"] <= 40  # type: ignore[call-overload]  # half of the test rows; the others were watched
    assert load(run.dir, data="elsewhere/sums.jsonl").task.rows("test")[0]  # type: ignore[attr-defined]  # of a user's
    child = continue_run(load(run.dir, data="elsewhere/sums.jsonl"), 2)
    assert child.steps == 6
    assert "path=elsewhere/sums.jsonl" in child.spec.task


def test_the_page_on_a_run_without_its_file_shows_the_examples_that_it_kept(run: Run) -> None:
    Path("sums.jsonl").unlink()
    with pytest.warns(ForeseeWarning, match=r"sums.jsonl: no such file .*; the page shows the examples"):
        session = Session(load(run.dir))
    with pytest.raises(RequestError, match=r"elsewhere\.jsonl: no such file"):
        Session(load(run.dir, data="elsewhere.jsonl"))
    for number, kept in enumerate(run.examples[:3]):
        problem = session.draw(number)
        assert problem["line"] == kept["prompt"]
        assert session.vocab.decode(problem["truth"]) == [*kept["answer"], "<end>"]
        assert session.decide(problem["prompt"], problem["truth"], 0)["right"]
        view = session.decide(problem["prompt"], [], problem["length"])
        assert view["right"] == (kept["wrote"] == kept["answer"])


def test_a_changed_file_is_named_once_and_read_by_the_runs_own_vocabulary(run: Run) -> None:
    said, vocabulary = load(run.dir).generate("3+4="), load(run.dir).task.vocab
    write_jsonl(Path("sums.jsonl"), [*SUMS[:-1], ("é+1=", "long answer")], "question", "reply")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = load(run.dir)
        assert found.generate("3+4=") == said
        assert found.task.vocab == vocabulary
        export(found, "exported")
        assert evaluate(found).keys() == measured(run).keys()
        Session(found).draw(0)
    named = [str(each.message) for each in caught if each.category is ForeseeWarning]
    assert len(named) == 1
    assert named[0].startswith(f"sums.jsonl is not as it was when {run.dir} was trained on it")
    with pytest.warns(ForeseeWarning, match="is not as it was"):
        child = continue_run(load(run.dir), 2)
    assert child.spec.task_digest != run.spec.task_digest
    assert tiny(task=run.spec.task, steps=4).digest != run.spec.digest
    assert child.task.vocab == vocabulary  # and is the child's own: nothing has changed since


def test_another_file_is_tested_on_as_a_whole_whatever_its_form(run: Run) -> None:
    """Also where both files of a pair are gone."""
    write_jsonl(Path("test.jsonl"), SUMS[:40], "question", "reply")
    paired = train(tiny(task=f"{run.spec.task},test_file=test.jsonl".replace("test_file=none,", ""), steps=2), "runs")
    Path("other.csv").write_text("reply,question\n" + "".join(f"{a},{p}\n" for p, a in SUMS[:20]) + "7,1+1=\n7,1+1=\n")
    task: Any = run.task
    trained = {task.write_prompt(task.rows("train")[row][0]) for row in range(len(task.rows("train")))}
    known = sum(prompt in trained for prompt in [*(prompt for prompt, _ in SUMS[:20]), "1+1=", "1+1="])
    with (
        pytest.warns(ForeseeWarning, match=r"other.csv holds other rows"),
        pytest.warns(ForeseeWarning, match=rf"^{known} of 22 rows of other.csv have a prompt that the run was trained"),
    ):
        evaluate(load(run.dir), Path("other.csv"))
    Path("sums.jsonl").rename("moved.jsonl")
    with pytest.warns(ForeseeWarning, match=r"other.csv holds other rows"):
        rows: Any = evaluate(load(run.dir), Path("other.csv"))
    assert (rows["exact"]["n"], rows["exact"]["problems"]) == (22, 21)
    assert evaluate(load(paired.dir), Path("moved.jsonl")) == measured(paired)
    Path("test.jsonl").rename("moved_test.jsonl")
    rows = evaluate(load(paired.dir), Path("moved_test.jsonl"))
    assert rows["exact"]["n"] == 40
    with pytest.raises(RequestError, match="no such file or folder"):
        evaluate(load(paired.dir), Path("none.jsonl"))


def test_folders_of_older_versions_need_their_file_as_it_was(run: Run) -> None:
    (run.dir / "coding.json").unlink()
    assert load(run.dir).generate("3+4=") == run.generate("3+4=")
    assert measured(run) == evaluate(load(run.dir))
    write_jsonl(Path("sums.jsonl"), SUMS[1:], "question", "reply")
    with pytest.raises(RequestError, match=r"files behind task .* are not those"):
        _ = load(run.dir).task


def test_a_damaged_coding_is_named(run: Run) -> None:
    kept = run.dir / "coding.json"
    whole = kept.read_text()
    for damaged in ("{", "[]", '{"pieces": 3}', whole.replace('"chance"', '"share"')):
        kept.write_text(damaged)
        with pytest.raises(RequestError, match=r"coding\.json is damaged: "):
            _ = load(run.dir).task


@pytest.mark.parametrize("options", [
    {"tokenizer": "words"}, {"tokenizer": "bytes", "ending": "none"}, {"boundary": "none", "skip_bad": True},
    {"tokenizer": "hf"}, {"tokenizer": "hf", "tokens": "all"}, {"template": "{a} and {b}", "answer": "c"},
])  # fmt: skip
def test_what_is_kept_makes_the_same_task(options: dict[str, Any], checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811  # the fixture
    rows = [{"prompt": f"{n}+1=", "answer": f"{n + 1:02}", "a": str(n), "b": "1", "c": str(n)} for n in range(40)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {key: f"hf:{checkpoint}" if value == "hf" else value for key, value in options.items()}
    task = data(path, **options)
    lines = [task.write_line(*task.rows("train")[row]) for row in range(5)]
    read = [task.read_line(line) for line in lines]
    (tmp_path / "kept.json").write_text(json.dumps(task.keep()))
    path.unlink()
    again = Data.restore(vars(task), tmp_path / "kept.json")
    assert [again.read_line(line) for line in lines] == read
    assert [again.write_line(*pair) for pair in read] == lines
    for name in ("vocab", "end", "unknown", "chance", "prompt_length", "answer_length", "frame"):
        assert getattr(again, name) == getattr(task, name)
    assert again.keep() == task.keep()


def test_a_changed_tokenizer_is_refused(checkpoint: Path, tmp_path: Path) -> None:  # noqa: F811  # the fixture
    task = data(write_jsonl(tmp_path / "a.jsonl", SUMS), tokenizer=f"hf:{checkpoint}")
    kept, own = tmp_path / "kept.json", task.keep()
    for change, said in (
        ({"tokenizer": "0" * 32}, "is not the one that this run was trained with"),
        ({"ids": [1, 1]}, "'ids' must be different tokens"),
    ):
        kept.write_text(json.dumps({**own, **change}))
        with pytest.raises(RequestError, match=said):
            Data.restore(vars(task), kept)
    write_jsonl(tmp_path / "a.jsonl", [("abc", "def")])
    with pytest.raises(RequestError, match="holds the token 'a', which is none of the run's vocabulary"):
        task.at(tmp_path / "a.jsonl").rows("train")


def test_a_file_of_a_tasks_own_examples_may_move_too(tmp_path: Path, program: Program) -> None:
    file = tmp_path / "rows.txt"
    assert program("generate", TASK, "-n", "300", "--out", str(file))[0] == 0
    run = train(tiny(steps=2, data=f"file:{file}"), tmp_path / "runs")
    file.rename(tmp_path / "moved.txt")
    assert evaluate(load(run.dir), tmp_path / "moved.txt") == measured(run)
    assert continue_run(load(run.dir, data=tmp_path / "moved.txt"), 2).steps == 4
    with pytest.raises(RequestError, match="cannot be read: No such file"):
        evaluate(load(run.dir))
    plain = train(tiny(steps=2), tmp_path / "runs")
    with pytest.raises(RequestError, match="draws its own examples; leave out --data"):
        _ = replace(plain, data=file).task
