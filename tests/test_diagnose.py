"""``foresee diagnose`` end to end on a tiny file: the question, the plan, resuming, the page, the command."""

from __future__ import annotations

import itertools
import json
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import Browser
from data_files import sums, write_jsonl
from hypothesis import given
from hypothesis import strategies as st
from program import Program
from refusals import refused
from test_data_checkpoint import write_tokenizer
from tiny import BACKBONE, outcome, tiny
from tiny_checkpoints import save

from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.spec import resolve
from foresee.experiments.diagnose import Diagnosis, DiagnosisSettings, diagnose, measure, read_task
from foresee.experiments.diagnose.timing import (
    FINAL_MEASUREMENTS,
    LEAST_STEPS,
    MARGIN,
    PAGE_SECONDS,
    WORKER_SECONDS,
    Speed,
    fit_steps,
    measure_crowding,
    measure_speed,
)
from foresee.experiments.diagnose.verdict import OPEN
from foresee.experiments.engine import InProcess
from foresee.experiments.pool import ignored_warnings
from foresee.report.diagnosis import page, write_page
from foresee.tasks.base import Task, tasks
from foresee.tasks.data import Data
from foresee.training.data import FixedData, draw
from foresee.training.loop import InterruptedTrainingError

ROWS = [(f"{'<b>' if n % 2 else 'x'} {n % 7} {n} y", f"{n % 7} <i>{n % 5}</i>" + " z" * (n % 3)) for n in range(240)]
SETTINGS: dict[str, Any] = {"backbone": BACKBONE, "seeds": 1, "steps": 6, "batch": 16}


@pytest.fixture(scope="module")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ragged rows that hold HTML, some of them twice and some contradicting one another."""
    path = tmp_path_factory.mktemp("notes") / "notes.jsonl"
    return write_jsonl(path, [*ROWS, *ROWS[:3], (ROWS[5][0], "6 other")], "question", "answer")


@pytest.fixture(scope="module")
def task(notes: Path) -> Task:
    return read_task(str(notes), prompt="question", answer="answer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diagnosis") / "out"


@pytest.fixture(scope="module")
def found(task: Task, folder: Path) -> Diagnosis:
    return ask(DiagnosisSettings.of(task, **(SETTINGS | {"seeds": 2})), task, folder)


def ask(asked: DiagnosisSettings, task: Task, folder: Path, **options: Any) -> Diagnosis:
    """A diagnosis in this process, which takes no time to start."""
    return diagnose(asked, task, folder, engine=InProcess(), **options)


# What is asked.


def test_a_file_of_few_words_is_cut_into_words_and_one_of_many_into_characters(notes: Path, tmp_path: Path) -> None:
    """Unless it says otherwise; responses of one length need no symbol that closes them."""
    many = write_jsonl(tmp_path / "many.jsonl", [(f"w{n}", "a b") for n in range(600)])
    same = write_jsonl(tmp_path / "same.jsonl", [(f"{n} 1", f"{n} 2") for n in range(50)])
    named: dict[str, Any] = {"prompt": "question", "answer": "answer"}
    cut = [(notes, named, "words", True), (notes, named | {"tokenizer": "bytes"}, "bytes", True),
           (many, {}, "characters", False), (same, {}, "words", False)]  # fmt: skip
    for path, options, tokenizer, closed in cut:
        task = read_task(str(path), **options)
        assert isinstance(task, Data)
        assert (task.tokenizer, task.end is not None) == (tokenizer, closed)


def test_a_task_spec_is_data_too_and_what_is_neither_is_refused() -> None:
    assert read_task("copying:length=3,symbols=5").answer_length == 3
    for asked in ("nothing.jsonl", "copyin:length=3"):
        with refused("neither a file nor a task"):
            read_task(asked)


def test_a_question_that_cannot_be_is_refused(task: Task, tmp_path: Path) -> None:
    wrong: dict[str, Any] = {"minutes": 0, "seeds": 0, "steps": 0, "batch": 0, "others": ["next-tokens"]}
    for name, value in wrong.items():
        with refused(f"{name}=0" if value == 0 else "next-token"):
            DiagnosisSettings.of(task, **{name: value})
    alone = read_task(str(write_jsonl(tmp_path / "alone.jsonl", [("a", "b")] * 9)))
    with refused("alone.jsonl: no row belongs to the test split"):
        ask(DiagnosisSettings.of(alone, steps=3), alone, tmp_path / "out")
    assert not (tmp_path / "out" / "plan.json").exists()


def test_the_small_backbone_is_given_a_context_that_holds_the_rows() -> None:
    assert "context=256" in DiagnosisSettings.of(read_task("copying:length=100,symbols=5")).backbone
    assert "context=704" in DiagnosisSettings.of(read_task("copying:length=300,symbols=5")).backbone


# Runs.


def test_all_objectives_have_the_same_budget_and_start(found: Diagnosis, folder: Path) -> None:
    assert [each.objective for each in found.learned] == ["next-token", "reversed", "teacherless"]
    specs = [json.loads(path.read_text()) for path in sorted((folder / "runs").glob("*/spec.json"))]
    assert len(specs) == 6
    shared = [{key: value for key, value in spec.items() if key not in ("objective", "seed")} for spec in specs]
    assert all(each == shared[0] for each in shared)
    assert sorted(spec["seed"] for spec in specs) == [0, 0, 0, 1, 1, 1]
    assert all((folder / "runs" / run / "model.safetensors").exists() for each in found.learned for run in each.runs)


def test_a_diagnosis_holds_numbers_for_every_part(found: Diagnosis) -> None:
    assert found.held_out > 10
    assert len(found.evidence) == 2
    assert [row["position"] for row in found.positions] == list(range(len(found.positions)))
    assert found.from_end
    assert {row["class"] for row in found.by_origin} >= {"in the prompt", "end"}
    assert found.by_shape
    assert found.absorbed is not None
    total = sum(row["shown"]["value"] * row["tokens"] for row in found.positions) / found.held_out
    assert found.loss_shown is not None
    assert found.loss_shown["value"] == pytest.approx(total)
    assert found.data is not None
    assert found.data.duplicates.rows == 3
    assert found.data.contradictions.prompts == 1


def test_asking_again_trains_nothing_and_says_what_is_kept(
    found: Diagnosis, task: Task, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another question needs another folder."""
    kept = json.loads((folder / "diagnosis.json").read_text())
    assert kept == json.loads(json.dumps(found.json(), allow_nan=False))
    monkeypatch.setattr("foresee.experiments.runner.Runner.run", lambda *_: pytest.fail("trained again"))
    monkeypatch.setattr(measure, "measure", lambda *_: pytest.fail("measured again"))
    again = ask(found.question, task, folder)
    assert replace(again, seconds=0.0).json() == replace(found, seconds=0.0).json()
    assert page(again) == page(found)
    with refused("batch=16, not 8; repeat that command to continue it, or give another"):
        ask(replace(found.question, batch=8), task, folder)
    (tmp_path / "plan.json").write_text('{"question": {}}')
    with refused("plan.json is damaged"):
        ask(found.question, task, tmp_path)


def test_an_interrupted_diagnosis_continues_and_ends_the_same(
    found: Diagnosis, task: Task, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = sys.modules["foresee.training.loop"]
    whole, calls = loop.take_step, 0

    def stops(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 9:
            raise InterruptedTrainingError("stopped")
        return whole(*given)

    monkeypatch.setattr(loop, "take_step", stops)
    question = replace(found.question, seeds=1)
    with pytest.raises(InterruptedTrainingError):
        ask(question, task, tmp_path / "out")
    assert len(list((tmp_path / "out" / "runs").glob("*/rows.jsonl"))) == 1
    monkeypatch.setattr(loop, "take_step", whole)
    ask(question, task, tmp_path / "out")
    for run in (each.runs[0] for each in found.learned):
        assert outcome(tmp_path / "out" / "runs" / run) == outcome(folder / "runs" / run)


def test_a_plan_keeps_to_the_minutes_by_the_clock_that_is_given(task: Task, tmp_path: Path) -> None:
    """Every reading of the clock is half a second on: a step takes 0.3 s, an evaluation 0.5 s, reading little."""
    now = iter(range(10_000))
    said: list[str] = []
    question = DiagnosisSettings.of(task, **(SETTINGS | {"steps": None, "minutes": 2.0}))
    found = ask(question, task, tmp_path / "out", say=said.append, clock=lambda: next(now) / 2)
    assert set(found.plan.speeds) == set(question.objectives)
    assert found.plan.seconds is not None
    assert found.plan.seconds < 120
    assert found.plan.steps >= 40
    assert said[0] == "measuring the speed of next-token, reversed, teacherless"


def test_no_token_is_called_a_decision_where_nothing_confirms_it(found: Diagnosis) -> None:
    """Untrained networks find many a token hard and what follows easy, by chance."""
    assert not found.decision_positions
    assert found.verdict.name != OPEN
    assert not any(token.decision for each in found.examples for token in each.tokens)
    assert all(each.decisions is None for each in found.learned)
    assert "decides" not in page(found).partition("</style>")[2].replace('<li><mark class="decides">', "")


# The page.


def test_the_page_escapes_everything(found: Diagnosis, tmp_path: Path) -> None:
    html = write_page(found, tmp_path / "diagnosis.html").read_text()
    assert "<i>" not in html
    assert "&lt;" in html
    assert found.verdict.name in html


@pytest.mark.slow
def test_the_page_shows_everything(found: Diagnosis, tmp_path: Path, browser: Browser) -> None:
    written = write_page(found, tmp_path / "diagnosis.html")
    browser.open(written)
    assert browser.requests() == [written.resolve().as_uri()]
    assert found.verdict.name in browser.text(".verdict")
    headings = [each.text for each in browser.all("h2")]
    assert headings == [
        "Which objective learned it", "What shown tokens give away", "Decision tokens", "Written freely", "The data",
        "How to reproduce this",
    ]  # fmt: skip
    assert len(browser.all(".shown")) == len(found.examples) > 0
    browser.resize((360, 740))
    assert browser.overflow() == 0


# The command.


@pytest.mark.slow
def test_the_command_prints_one_object_and_writes_the_page(notes: Path, tmp_path: Path, program: Program) -> None:
    out = tmp_path / "out"
    arguments = [
        "diagnose", str(notes), "--prompt=question", "--response=answer", "--steps=4", "--seeds=1", "--batch=16",
        f"--backbone={BACKBONE}", "--objectives=token-masking", f"--out={out}",
    ]  # fmt: skip
    status, shown, err = program(*arguments, "--json")
    assert status == 0
    found = json.loads(shown)
    assert len(found["objectives"]) == 4
    assert found["verdict"]["name"] == "not learned yet: budget too small"
    assert (out / "diagnosis.html").exists()
    assert "4 runs, 0 finished before" in err
    status, shown, _ = program(*arguments)
    assert status == 0
    assert "verdict: not learned yet" in shown


def test_a_wrong_field_is_one_sentence(notes: Path, tmp_path: Path, program: Program) -> None:
    status, _, err = program("diagnose", str(notes), f"--out={tmp_path / 'out'}")
    assert (status, "'prompt'" in err, "Traceback" in err) == (2, True, False)
    assert not (tmp_path / "out").exists()


def test_fields_that_are_not_read_are_said_once_and_not_by_each_run(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"id": n, "prompt": f"{n}", "answer": f"{n % 7}"}) + "\n" for n in range(99)))
    task = read_task(str(path))
    with pytest.warns(ForeseeWarning, match="not read: field id; ") as said:
        ask(DiagnosisSettings.of(task, **SETTINGS | {"steps": 2}), task, tmp_path / "out")
    assert sum("not read" in str(each.message) for each in said) == 1


def test_workers_keep_to_themselves_what_their_leader_ignores() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "not read", ForeseeWarning)
        warnings.filterwarnings("ignore", "of another kind", UserWarning)
        assert ignored_warnings() == ["not read"]


def test_the_paper_s_text_form_is_diagnosed(tmp_path: Path) -> None:
    star = resolve(tasks, "path-star:degree=2,length=3,nodes=10").build()
    drawn = draw(star, "star", "train", 120, 0)
    lines = [star.write_line(*pair) for pair in drawn.pairs()]
    (tmp_path / "star.txt").write_text("".join(f"{line}\n" for line in lines))
    task = read_task(str(tmp_path / "star.txt"))
    found = ask(DiagnosisSettings.of(task, **SETTINGS | {"steps": 2}), task, tmp_path / "out")
    assert found.data is not None
    assert (found.data.rows, found.data.left_out) == (120, ())
    assert [each.objective for each in found.learned] == ["next-token", "reversed", "teacherless"]
    prompts = {shown.prompt.replace(" ", "").rstrip("=") for shown in found.examples}
    assert prompts <= {line.partition("=")[0] for line in lines}


@pytest.mark.slow
def test_on_a_checkpoint_its_tokenizer_cuts_the_rows(tmp_path: Path, program: Program) -> None:
    checkpoint = save(tmp_path / "gpt2", "gpt2", std=0.1)
    write_tokenizer(checkpoint)
    rows = write_jsonl(tmp_path / "sums.jsonl", sums(120, most=40))
    settings = (f"--backbone=hf:path={checkpoint}", "--steps=2", "--seeds=1", "--batch=8", f"--out={tmp_path / 'out'}")
    question = program.json("diagnose", str(rows), *settings)["question"]
    assert f"tokenizer=hf:{checkpoint}" in question["task"]
    assert question["lr"] == 1e-5


# The time budget: arithmetic on measured seconds, and measuring them by a clock that is made up.

SPEEDS = {"next-token": Speed(0.1, 1.0), "reversed": Speed(0.1, 1.0), "teacherless": Speed(0.2, 0.5)}

seconds = st.floats(0.001, 2.0)


@given(
    st.lists(st.tuples(seconds, seconds), min_size=1, max_size=5), st.integers(1, 4), st.floats(60, 3600),
    st.integers(1, 3),
)  # fmt: skip
def test_what_is_planned_fits(pairs: list[tuple[float, float]], seeds: int, left: float, beside: int) -> None:
    speeds = {str(number): Speed(*pair) for number, pair in enumerate(pairs)}
    try:
        steps, eval_every, taken = fit_steps(speeds, seeds, left, beside)
    except RequestError:
        least = seeds * sum(LEAST_STEPS * each.step + FINAL_MEASUREMENTS * each.evaluation for each in speeds.values())
        assert least > left * MARGIN / 5  # a refusal where there was plenty of time would be wrong
        return
    assert taken <= left * MARGIN * (1 + 1e-9)
    assert steps >= LEAST_STEPS
    assert 1 <= eval_every <= steps
    evaluations = -(-steps // eval_every) + FINAL_MEASUREMENTS
    each_run = [steps * each.step + evaluations * each.evaluation for each in speeds.values()] * seeds
    fixed = PAGE_SECONDS + WORKER_SECONDS * (beside > 1) + seeds * sum(each.evaluation for each in speeds.values())
    # Runs beside each other take their share of the whole, and up to one run more where the last is alone.
    assert sum(each_run) / beside <= taken - fixed + 1e-6
    assert taken - fixed <= sum(each_run) / beside + max(each_run) * (beside > 1) + 1e-6


def test_more_time_gives_more_steps_more_seeds_fewer_and_too_little_says_so() -> None:
    assert fit_steps(SPEEDS, 1, 600)[0] > fit_steps(SPEEDS, 1, 300)[0] > fit_steps(SPEEDS, 2, 300)[0]
    assert fit_steps(SPEEDS, 2, 600, 2)[0] > 1.5 * fit_steps(SPEEDS, 2, 600)[0]  # runs beside each other
    assert fit_steps(SPEEDS, 1, 600)[0] * 0.4 > 0.7 * 600 * MARGIN  # most of the time is spent on steps
    with refused("too small: 20 s are left for 3 runs, which need ", " --minutes "):
        fit_steps(SPEEDS, 1, 20)
    with refused("0 s are left"):
        fit_steps(SPEEDS, 1, -5)


def test_work_beside_other_work_is_never_quicker() -> None:
    ticks = itertools.count(0, 0.5)
    assert measure_crowding(1) == 1.0
    assert measure_crowding(2, lambda: next(ticks)) == 1.0


def test_speed_is_measured_by_the_clock_that_is_given() -> None:
    run = tiny(batch=8)
    task = run.build_task()
    batch = draw(task, run.task, "train", 64, 0)
    # Read once before the steps, at the fourth and fifth to see whether the time is up, and once after: at 0, 1, 2, 3.
    ticks = itertools.count(0, 1.0)
    speed = measure_speed(run, task, FixedData(batch, run.task, 0), batch, 100.0, lambda: next(ticks))
    assert speed.step == pytest.approx(3 / 5)
    assert speed.evaluation == 1.0
