"""The anatomy of an example and the shares of the loss: read rightly, shown rightly, absent where a run lacks them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fabricated_runs import PROMPTS, add_anatomy, add_position_loss, fabricate_run

from foresee.core.errors import RequestError
from foresee.core.seeds import stream
from foresee.metrics.anatomy import anatomy
from foresee.report import write_report
from foresee.report.dissected import read_anatomies
from foresee.report.groups import arrange
from foresee.report.load import read_run
from foresee.report.pick import pick
from foresee.report.supervision import supervision_of
from foresee.training.settings import Settings

SMALL = "transformer:layers=2,width=16,heads=2"


def page_of(runs: list[Path], out: Path) -> str:
    return write_report(runs, out / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["next-token", "reversed", "teacherless"])
def test_what_training_writes_is_what_the_report_reads(name: str, tmp_path: Path) -> None:
    spec = Settings.of("path-star:degree=2,length=3,nodes=9", name, SMALL)
    task = spec.build_task()
    objective = spec.build_objective(task)
    ((prompt, answer),) = task.sample(1, stream("report")).pairs()
    found = anatomy(task, objective, prompt, answer, answer)
    texts = {"prompt": task.write_line(prompt, []), "answer": task.write_answer(answer), "wrote": "1"}
    path = tmp_path / "anatomy.json"
    path.write_text(json.dumps({"examples": [texts | found]}), encoding="utf-8")
    (read,) = read_anatomies(path)
    assert read.order == {"next-token": "forward", "reversed": "backward", "teacherless": "parallel"}[name]
    assert [step.symbol for step in read.truth] == [step["symbol"] for step in found.get("truth", [])]
    assert len(read.truth) == (0 if name == "teacherless" else 3)
    assert [len(layer) for layer in read.layers] == ([] if name == "teacherless" else [2, 2])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"order": "sideways"}, "'order' must be one of forward, backward, parallel"),
        ({"wrote": None}, "needs the text 'wrote'"),
        ({"truth": [{"symbol": "1", "p": "1"}]}, "a step of 'truth' needs"),
        ({"free": [{"symbol": "1", "p": 1.0, "top": [["1"]]}]}, "'top' of a step of 'free'"),
        ({"branch": True}, "'branch' must be a whole number"),
        ({"attention": {"read": ["1"], "layers": [[[0.5, 0.5]]]}}, "must hold 1 weights"),
        ({"attention": {"read": [1], "layers": []}}, "'read' of the attention must be a list of texts"),
    ],
)
def test_damaged_anatomy_is_named(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    example = {"prompt": "1", "answer": "1", "wrote": "1", "order": "forward"} | change
    (tmp_path / "anatomy.json").write_text(json.dumps({"examples": [example]}), encoding="utf-8")
    with pytest.raises(RequestError, match=rf"anatomy\.json: example 1: .*{said}"):
        read_anatomies(tmp_path / "anatomy.json")


def test_the_anatomy_shows_probabilities_and_attention(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path)
    add_anatomy(run)
    html = page_of([run], tmp_path)
    assert html.count('class="anatomy"') == len(PROMPTS)
    assert html.count('class="step branch"') == 2 * len(PROMPTS)  # with the truth shown, and with its own
    assert '<li style="--p:0.512" class="gold"><b>34</b>.51</li><li style="--p:0.479"><b>3</b>.48</li>' in html
    first = html.split('data-w="')[1].split('"')[0].split()
    assert len(first) == 12
    symbols = 3 * 8 + 3 + 1  # eight edges, the question, and the start
    assert {len(row) for row in first} == {symbols}


def test_an_objective_without_steps_and_a_run_without_anatomy_say_so(tmp_path: Path) -> None:
    parallel = fabricate_run(tmp_path, "teacherless", forced=False)
    add_anatomy(parallel, "parallel", forced=False)
    html = page_of([parallel, fabricate_run(tmp_path, "older")], tmp_path)
    assert html.count("This run kept no step-by-step probabilities") == len(PROMPTS)
    assert html.count("This run kept no probabilities of this example") == len(PROMPTS)
    assert 'id="supervision"' not in html


@pytest.mark.parametrize(
    ("passes", "said"),
    [((1, 1, 1, 1, 1), "all decided at once, from the prompt alone"),
     ((1, 5, 3, 2, 4), "with what earlier passes had written")],
)  # fmt: skip
def test_an_objective_that_decides_in_passes_shows_them(passes: tuple[int, ...], said: str, tmp_path: Path) -> None:
    run = fabricate_run(tmp_path, "masked-diffusion", forced=False)
    add_anatomy(run, "parallel", forced=False, passes=passes)
    html = page_of([run], tmp_path)
    assert html.count(f"Probability of each symbol, {said}") == len(PROMPTS)
    assert html.count("branch · pass 5") == (len(PROMPTS) if max(passes) > 1 else 0)


def test_other_tasks_are_shown_as_text(tmp_path: Path) -> None:
    examples = [("1+2=", "3", "4"), ("20+22=", "4,2", "4,2")]
    run = fabricate_run(tmp_path, task="no-such-task", examples=examples, length=2)
    add_anatomy(run, layers=0)
    html = page_of([run], tmp_path)
    assert "20+22=" in html
    assert 'class="star"' not in html
    assert 'class="step branch"' not in html
    assert "Branch token right" not in html
    assert "chance is unknown" in html


def test_all_runs_are_shown_on_the_same_examples_as_far_as_they_fit(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path, name, seed=seed) for name in ("next-token", "registers") for seed in range(3)]
    (setting,) = arrange([read_run(run) for run in runs], {})
    roomy, tight = pick(setting, 100), pick(setting, 4)
    assert [len(shown.panels) for shown in roomy] == [6, 6, 6]
    # Two groups by their first runs, on as many examples as then fit.
    assert [[panel.run.record.seed for panel in shown.panels] for shown in tight] == [[0, 0], [0, 0]]


def test_shares_of_the_loss_are_means_over_seeds(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path, seed=seed, steps=100) for seed in range(2)]
    for run, nats in zip(runs, ([3.0, 1.0, None], [1.0, 3.0, None]), strict=True):
        lines = [
            json.loads(line) | {"position_loss": nats} for line in (run / "metrics.jsonl").read_text().splitlines()
        ]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (group,) = arrange([read_run(run) for run in runs], {})[0].groups
    found = supervision_of(group)
    assert found is not None
    assert found.steps == (50.0, 100.0)
    assert found.shares == ((0.5, 0.5, 0.0), (0.5, 0.5, 0.0))
    assert (found.nats, found.seeds) == ((4.0, 4.0), 2)


def test_where_the_supervision_goes_is_said(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path)
    add_position_loss(run)
    html = page_of([run, fabricate_run(tmp_path, "reversed", "solves")], tmp_path)
    assert "The branch takes 28% of the loss at first and 100% at last." in html
    assert "Not recorded: reversed." in html
    assert "a line of" not in html


@pytest.mark.parametrize("nats", ['"x"', "[1, true]", "[NaN]"])
def test_a_damaged_loss_by_position_is_named(nats: str, tmp_path: Path) -> None:
    run = fabricate_run(tmp_path)
    (run / "metrics.jsonl").write_text(f'{{"step": 1, "position_loss": {nats}}}\n', encoding="utf-8")
    with pytest.raises(RequestError, match=r"metrics\.jsonl: line 1: 'position_loss' must"):
        read_run(run)
