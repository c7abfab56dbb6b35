"""The training loop: what decides its outcome, what it draws on, and what it refuses."""

from __future__ import annotations

import importlib
import json
import math
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any
from unittest.mock import ANY, call, create_autospec

import numpy
import pytest
import torch
from data_files import write_jsonl
from tiny import CANONICAL, TASK, outcome, shared, tiny
from torch import Tensor

from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.errors import ForeseeError, ForeseeWarning, RequestError
from foresee.metrics.measure import measure_quickly
from foresee.objectives.base import LossOut
from foresee.objectives.next_token import NextToken
from foresee.tasks.example_files import read_examples, write_examples
from foresee.training import evaluate as evaluation
from foresee.training.data import FixedData, draw
from foresee.training.evaluate import DISSECTED, SCORE_BYTES, SHOWN_EXAMPLES, evaluate, rows_at_a_time
from foresee.training.examples import (
    WATCHED,
    batch_of,
    draw_problems,
    first_trained,
    test_examples,
    training_data,
    watched_and_measured,
)
from foresee.training.loop import train
from foresee.training.process import in_use, locked
from foresee.training.progress import Progress
from foresee.training.run import Run, load
from foresee.training.settings import Settings

# ``foresee.train`` is also a function.
loop = importlib.import_module("foresee.training.loop")
# Pytest would take it for a test.
held_out = test_examples
del test_examples

PAIRED = TASK.replace("goals=one", "goals=all")
MIXED = "path-star:degree=2,length=4,nodes=12,goals=one,sizes=mixed"


def spec_of_file(path: Path, task: str = TASK, **changes: Any) -> Settings:
    return tiny(task=task, data=f"file:{path}", **changes)


def write(path: Path, *, task: str = TASK, n: int = 300, split: Any = "train", seed: int = 5) -> Path:
    """A file of examples."""
    built = tiny(task=task).build_task()
    write_examples(built, draw(built, tiny(task=task).task, split, n, seed), path)
    return path


# What decides the outcome -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("objective", "settings"),
    [
        ("next-token", {}),
        ("reversed", {"task": MIXED, "data": "fresh", "accumulate": 2}),
        ("teacherless:hybrid=0.5", {"task": MIXED}),
    ],
)
def test_the_same_spec_gives_the_same_bytes_whatever_the_global_random_state(
    tmp_path: Path, objective: str, settings: dict[str, Any]
) -> None:
    spec = tiny(objective, steps=10, **settings)
    first = outcome(train(spec, tmp_path / "a").dir)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        assert outcome(train(spec, tmp_path / "b").dir) == first
    other = outcome(train(spec.replace(seed=1), tmp_path / "a").dir)
    for name in ("metrics.jsonl", "model.safetensors"):
        assert other[name] != first[name]


def test_both_precisions_and_both_kinds_of_data_train(tmp_path: Path) -> None:
    runs = [
        train(tiny(precision=precision, data=data), tmp_path)
        for precision in ("float32", "bf16")
        for data in ("fixed:2000", "fresh")
    ]
    assert len({(run.dir / "model.safetensors").read_bytes() for run in runs}) == 4
    for run in runs:
        losses = [line["loss"] for line in run.metrics]
        assert losses[-1] < losses[0]


def test_a_finished_run_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tiny(steps=10)
    first = train(spec, tmp_path)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.dir.iterdir()}
    monkeypatch.setattr(loop, "build_parts", None)  # whatever would train now fails
    told = create_autospec(Progress, instance=True)
    again = train(spec, tmp_path, told)
    assert told.mock_calls == [call.say(ANY), call.done(again), call.close()]
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in first.dir.iterdir()} == before
    assert again == first == load(first.dir), "what is returned is all that the folder says"
    assert again.layers == first.environment["layers"]


def test_what_is_reported(tmp_path: Path) -> None:
    told = create_autospec(Progress, instance=True)
    run = train(tiny(steps=25, eval_every=10, batch=32, lr=0.01, warmup=20), tmp_path, told)
    assert [(line["step"], line["examples"]) for line in run.metrics] == [(10, 320), (20, 640), (25, 800)]
    assert [line["lr"] for line in run.metrics] == pytest.approx([0.005, 0.01, 0.01])
    for line in run.metrics:
        assert line["parts"] == {"next-token": line["loss"]}
        assert line["eval"]["n"] == WATCHED
        assert {"exact", "branch", "forced_loss", "forced", "free", "child"} <= line["eval"].keys()
    # Almost nothing is learned yet: the loss is that of guessing among 14 symbols.
    assert run.metrics[0]["loss"] == pytest.approx(math.log(14), abs=0.2)
    assert [told_of.args[1]["step"] for told_of in told.report.mock_calls] == [10, 20, 25]
    assert [told_of.args for told_of in told.step.mock_calls] == [(run.spec, step) for step in range(1, 26)]
    assert told.mock_calls[0] == call.start(run.spec, 0)
    assert told.mock_calls[-3:] == [call.say("measuring on 200 test examples"), call.done(run), call.close()]
    assert [line["step"] for line in run.timing] == [10, 20, 25]
    assert run.seconds == run.timing[-1]["seconds"] > 0


def test_a_reported_loss_is_the_mean_since_the_last_report_and_evaluating_changes_no_weight(tmp_path: Path) -> None:
    runs = [train(tiny(steps=12, eval_every=every), tmp_path) for every in (1, 5)]
    often, seldom = ([line["loss"] for line in run.metrics] for run in runs)
    assert seldom == pytest.approx([sum(often[:5]) / 5, sum(often[5:10]) / 5, sum(often[10:]) / 2], rel=1e-5)
    assert outcome(runs[0].dir)["model.safetensors"] == outcome(runs[1].dir)["model.safetensors"]


@pytest.mark.parametrize("task", [TASK, MIXED, "path-star:degree=2,length=4,nodes=20,generalised=path,goals=all"])
def test_what_a_run_leaves(tmp_path: Path, task: str) -> None:
    run = train(tiny(task=task, steps=10), tmp_path)
    assert {path.name for path in run.dir.iterdir()} == {
        "spec.json", "env.json", "metrics.jsonl", "timing.jsonl", "rows.jsonl", "examples.jsonl", "anatomy.json",
        "model.safetensors", "lock",
    }  # fmt: skip
    run = load(run.dir)
    assert run.environment["parameters"] == sum(each.numel() for each in run.objective.parameters())
    assert len(run.examples) == SHOWN_EXAMPLES
    for example in run.examples:
        prompt, _ = run.task.read_line(example["prompt"])
        assert example["answer"] == run.task.write_answer(run.task.solve(prompt))
        assert example["wrote"] == run.generate(example["prompt"])
        assert len(example["wrote"].split(",")) == len(example["answer"].split(","))
    assert len(run.anatomies) == DISSECTED
    for anatomised, example in zip(run.anatomies, run.examples, strict=False):
        assert anatomised["prompt"] == example["prompt"]
        assert ",".join(step["symbol"] for step in anatomised["free"]) == example["wrote"]
        assert all(float(step["top"][0][1]) >= step["p"] for step in anatomised["truth"])
        assert len(anatomised["attention"]["layers"][0][0]) == len(anatomised["attention"]["read"])


@pytest.mark.parametrize("task", [TASK, MIXED])
def test_the_loss_of_each_answer_place_is_reported(tmp_path: Path, task: str) -> None:
    """Of next-token training the places' losses are all of the loss, so weighted by rows they add up to it."""
    spec = tiny(task=task, steps=10)
    run = train(spec, tmp_path)
    (line,) = run.metrics
    lengths = torch.cat(
        [batch_of(training_data(spec, run.task), run.task, spec, step).answer_len for step in range(10)]
    )
    rows = (lengths[:, None] > torch.arange(run.task.answer_length)).sum(0)
    assert len(line["position_loss"]) == run.task.answer_length
    assert line["position_loss"][0] > 0
    mean = float((torch.tensor(line["position_loss"]) * rows).sum() / rows.sum())
    assert mean == pytest.approx(line["loss"], rel=1e-4 if task == TASK else 2e-2)


def test_clip_bounds_the_gradient_and_zero_leaves_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    real = torch.optim.AdamW.step

    def watch(self: torch.optim.AdamW, closure: None = None) -> None:
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        norms.append(float(torch.stack([gradient.norm() for gradient in gradients]).norm()))
        real(self, closure)

    monkeypatch.setattr(torch.optim.AdamW, "step", watch)
    for clip in (0.0, 0.125):
        train(tiny(steps=3, clip=clip), tmp_path)
    assert min(norms[:3]) > 0.2
    assert norms[3:] == pytest.approx([0.125] * 3, rel=1e-3)


def test_until_solved_stops_at_the_first_evaluation_that_is_solved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = measure_quickly

    def good_at_last(*given: Any) -> dict[str, Any]:
        calls.append(1)
        measured: dict[str, Any] = real(*given)
        return measured | {"exact": evaluation.SOLVED_ENOUGH - (len(calls) != 3) * 0.01}

    monkeypatch.setattr(evaluation, "measure_quickly", good_at_last)
    for until_solved, steps in ((True, 6), (False, 10)):
        calls: list[int] = []
        run = train(tiny(steps=10, eval_every=2, until_solved=until_solved), tmp_path)
        assert run.steps == steps


def test_training_works_outside_the_main_thread(tmp_path: Path) -> None:
    runs: list[Run] = []
    thread = threading.Thread(target=lambda: runs.append(train(tiny(steps=5), tmp_path)))
    thread.start()
    thread.join()
    assert runs[0].steps == 5


# What training and test examples are --------------------------------------------------------------------------------


def test_watched_final_and_training_examples_are_disjoint() -> None:
    spec = tiny(test=500)
    task = spec.build_task()
    data = training_data(spec, task)
    assert isinstance(data, FixedData)
    test = held_out(spec, task, data)
    assert len(test) == WATCHED + 500
    assert not shared(task, test, data.batch).any()
    assert torch.equal(held_out(spec.replace(seed=3), task, data).tokens, test.tokens)


@pytest.mark.parametrize("data", ["fixed:100", "fresh"])
def test_each_seed_has_training_examples_of_its_own(data: str) -> None:
    task = tiny().build_task()
    sources = (training_data(tiny(data=data, seed=seed), task) for seed in (0, 0, 1))
    first, same, other = (set(task.identity(source.batch_at(0, 100)).tolist()) for source in sources)
    assert first == same
    assert len(first & other) < 10


def test_the_first_trained_examples_are_those_that_were_seen_once_each() -> None:
    spec = tiny(batch=32, data="fixed:100")
    task = spec.build_task()
    data = training_data(spec, task)
    all_of_it = first_trained(data, spec, 30, 1000)
    assert sorted(all_of_it.tokens.tolist()) == sorted(draw(task, CANONICAL, "train", 100, 0).tokens.tolist())
    assert torch.equal(first_trained(data, spec, 30, 40).tokens, data.batch_at(0, 40).tokens)
    assert torch.equal(first_trained(data, spec, 2, 1000).tokens, data.batch_at(0, 64).tokens)


def test_training_on_a_file_which_is_another_run_where_it_changed(tmp_path: Path) -> None:
    path, other = write(tmp_path / "examples.txt"), tmp_path / "examples.jsonl"
    spec = spec_of_file(path)
    run = train(spec, tmp_path / "runs")
    assert run.spec.data == f"file:{path}"
    assert run.rows["exact"]["n"] == 200  # type: ignore[call-overload]  # a single row
    write_examples(run.task, read_examples(path, run.task), other, "jsonl")
    alike = train(spec_of_file(other), tmp_path / "runs")
    assert alike.spec.digest != run.spec.digest
    assert (alike.dir / "metrics.jsonl").read_bytes() == (run.dir / "metrics.jsonl").read_bytes()
    write(path, seed=6)
    with pytest.raises(RequestError, match=r"examples\.txt has changed since this run was asked for"):
        train(spec, tmp_path / "others")
    assert not (tmp_path / "others").exists()
    assert spec_of_file(path).digest != spec.digest
    write(path)
    assert spec_of_file(path) == spec


def test_test_examples_whose_problem_is_in_the_file_are_left_out(tmp_path: Path) -> None:
    task = tiny().build_task()
    path = tmp_path / "examples.txt"
    lines = [write(tmp_path / "train.txt").read_text()]
    # The first test examples of every run: 40 of the watched and then 10 of the final ones.
    test = draw_problems(task, CANONICAL, WATCHED + 200, 0)
    leaked = test.rows(torch.cat([torch.arange(40), torch.arange(WATCHED, WATCHED + 10)]))
    write_examples(task, leaked, tmp_path / "leaked.txt")
    path.write_text("".join([*lines, (tmp_path / "leaked.txt").read_text()]))

    spec = spec_of_file(path, steps=5)
    kept = held_out(spec, task, training_data(spec, task))
    assert int(shared(task, test, leaked).sum()) >= 50
    assert len(kept) == WATCHED + 200, "others take their places"
    assert not shared(task, kept, read_examples(path, task)).any()
    run = train(spec, tmp_path / "runs")
    assert run.rows["exact"]["n"] == len(kept) - WATCHED  # type: ignore[call-overload]
    assert evaluate(run)["exact"] == run.rows["exact"]


def test_training_rows_of_an_open_ended_task_are_not_tested_on(tmp_path: Path) -> None:
    few = "sibling-discovery:parents=5,siblings=60"
    path = write(tmp_path / "examples.txt", task=few, n=300, split="test")
    spec = spec_of_file(path, few)
    task = spec.build_task()
    data = training_data(spec, task)
    assert isinstance(data, FixedData)
    kept = held_out(spec, task, data)
    assert 0 < len(kept) < WATCHED + spec.test
    assert not numpy.isin(task.identity(kept), task.identity(data.batch)).any()


def test_rows_of_one_prompt_are_watched_or_measured(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"{n} ?", "response": f"{n % 7}"} for n in range(16_000) for _ in range(2)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    spec = tiny(task=f"data:{path}", test=900)
    task = spec.build_task()
    watched, measured = watched_and_measured(held_out(spec, task, training_data(spec, task)), spec, task)
    assert len(watched) == WATCHED
    assert len(measured) > 300
    assert not numpy.isin(task.identity(measured), task.identity(watched)).any()


def test_paired_goals_train_and_fit_the_batch(tmp_path: Path) -> None:
    run = train(tiny(task=PAIRED, test=1, steps=2), tmp_path)
    assert run.spec.task.endswith("goals=all")
    assert run.rows["exact"]["n"] == 2, "one test row is a whole pair"  # type: ignore[call-overload]  # a single row
    whole, broken = write(tmp_path / "whole.txt", task=PAIRED, n=100), tmp_path / "broken.txt"
    assert train(spec_of_file(whole, PAIRED, steps=5), tmp_path).steps == 5
    lines = whole.read_text().splitlines(keepends=True)
    broken.write_text("".join(lines[:10] + lines[11:]))
    for changes, why in (
        ({"batch": 33}, r"batch=33.*multiple of 2"), ({"batch": 33, "data": "fresh"}, r"batch=33.*multiple of 2"),
        ({"data": "2001"}, r"2001 training examples.*multiple of 2"),
        ({"data": f"file:{broken}"},
         r"broken\.txt: the 2 examples from number 11 on must hold the same problem"),
    ):  # fmt: skip
        with pytest.raises(RequestError, match=why):
            train(tiny(task=PAIRED, **changes), tmp_path)


# What is refused ----------------------------------------------------------------------------------------------------


def test_too_short_a_context_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    spec = tiny(backbone="transformer:layers=1,width=32,heads=2,context=17")
    with pytest.raises(RequestError, match=r"needs 18 positions, but backbone .* has 17; .*context=18"):
        train(spec, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
    enough = tiny(backbone="transformer:layers=1,width=32,heads=2,context=18", steps=2)
    assert train(enough, tmp_path / "runs").steps == 2


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it pass the second time; also where it is infinite once alone."""
    spec = tiny(lr=1e30, steps=20)
    for _ in range(2):
        with pytest.raises(ForeseeError, match=r"the loss is nan at step 10: training diverged; try a lower") as caught:
            train(spec, tmp_path)
        assert caught.value.status == 1
        assert not (tmp_path / spec.digest / "rows.jsonl").exists()
    real, calls = NextToken.loss, list[int]()

    def spike(self: NextToken, batch: Batch, rng: torch.Generator) -> LossOut:
        calls.append(1)
        out = real(self, batch, rng)
        total: Tensor = out.total + math.inf if len(calls) == 3 else out.total
        return LossOut(total, {"next-token": total}, out.per_token)

    monkeypatch.setattr(NextToken, "loss", spike)
    with pytest.raises(ForeseeError, match="the loss is inf at step 5"):
        train(tiny(eval_every=5), tmp_path)


# What it leaves alone -----------------------------------------------------------------------------------------------


def test_a_slow_save_is_not_followed_by_another_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that only saving moves: a save takes longer than the time between two."""
    now, saves = 0.0, []
    real = loop.Checkpoint.save

    class Ticks(Progress):
        def step(self, settings: Settings, step: int) -> None:
            nonlocal now
            now += loop.SAVE_SECONDS / 4

    def slow(self: Any) -> None:
        nonlocal now
        now += 3 * loop.SAVE_SECONDS
        saves.append(self.training.position.step)
        real(self)

    monkeypatch.setattr(loop.time, "perf_counter", lambda: now)
    monkeypatch.setattr(loop.Checkpoint, "save", slow)
    train(tiny(steps=12, eval_every=20), tmp_path, Ticks())
    assert saves == [5, 10]


def test_no_facts_travel_to_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int] = []
    real = NextToken.loss

    def loss(self: NextToken, batch: Batch, rng: torch.Generator) -> LossOut:
        seen.append(len(batch.facts))
        return real(self, batch, rng)

    monkeypatch.setattr(NextToken, "loss", loss)
    train(tiny(steps=2), tmp_path)
    assert seen == [0, 0]


def test_a_large_vocabulary_is_evaluated_a_few_rows_at_a_time() -> None:
    task = tiny().build_task()
    assert rows_at_a_time(task, len(task.vocab)) == 1024
    rows, bytes_a_row = rows_at_a_time(task, 100_000), task.answer_length * 100_000 * 4
    assert rows * bytes_a_row <= SCORE_BYTES < (rows + 1) * bytes_a_row


def test_importing_is_light_and_the_host_process_is_as_it_was(tmp_path: Path) -> None:
    """``import foresee`` reads no library that only some commands need, and neither it nor training sets anything."""
    code = """
import signal, sys, threading, torch
def state():
    return (torch.get_num_threads(), torch.get_num_interop_threads(), torch.get_default_dtype(), torch.initial_seed(),
            torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision(),
            torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"), torch.random.get_rng_state().sum().item(),
            torch.backends.mkldnn.enabled, signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
before = state()
import foresee.api
heavy = {"transformers", "altair", "pandas", "ray", "datasets", "jinja2", "scipy.stats"} & set(sys.modules)
from foresee.core import isolation
imported = state()
foresee.train(*sys.argv[1:4], runs=sys.argv[4], steps=2, batch=8, data="100", test=20)
assert before == imported == state(), (before, imported, state())
assert not heavy, heavy
assert isolation.keep_large_blocks.cache_info().misses == 0
"""
    arguments = [TASK, "next-token", "transformer:layers=1,width=32,heads=2", str(tmp_path)]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def test_rows_of_the_train_split_are_not_measured_without_a_word(tmp_path: Path) -> None:
    run = train(tiny(steps=2, test=50), tmp_path)
    with pytest.warns(ForeseeWarning, match=r"^40 of 40 rows of .*shown\.txt are of the train split"):
        evaluate(run, write(tmp_path / "shown.txt", n=40))
    evaluate(run, write(tmp_path / "unseen.txt", n=40, split="test"))


def test_one_test_problem_alone_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    """Of a group of two rows, all of which would be watched and none measured."""
    with pytest.raises(RequestError, match="one test problem, but a run takes at least 2"):
        train(tiny(task="path-star:degree=2,length=2,nodes=4", batch=4), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_run_on_a_file_does_not_go_on_with_another_content(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "rows.jsonl", [(f"p{row}", f"a{row % 3}") for row in range(60)])
    spec = tiny(task=f"data:path={path},tokenizer=words", batch=4)
    kept = spec.build_task().keep()  # type: ignore[attr-defined]  # of a user's own rows
    write_jsonl(path, [(f"p{row}", f"a{row % 2}") for row in range(60)])
    with pytest.raises(RequestError, match="are not those that this run was asked with"):
        train(spec, tmp_path / "runs")
    files.write_json(tmp_path / "runs" / spec.digest / "coding.json", kept)
    with pytest.raises(RequestError, match="are not those that this run was asked with"):
        train(spec, tmp_path / "runs")


def test_a_look_at_a_lock_does_not_keep_a_run_from_starting(tmp_path: Path) -> None:
    looking = threading.Event()

    def look() -> None:
        while not looking.is_set():
            in_use(tmp_path)

    threads = [threading.Thread(target=look) for _ in range(2)]
    for each in threads:
        each.start()
    try:
        for _ in range(50):
            with locked(tmp_path):
                pass
    finally:
        looking.set()
        for each in threads:
            each.join()
