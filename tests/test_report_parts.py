"""What stands behind the page: groups, frames, stars, the choice of examples, tables for papers, and every chart."""

from __future__ import annotations

import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fabricated_runs import PROMPTS, add_anatomy, add_position_loss, fabricate_run

from foresee.core.seeds import stream
from foresee.experiments.compare import steps_to_solve
from foresee.metrics.anatomy import anatomy
from foresee.report import charts, frames, report
from foresee.report.examples import panels_of, pick
from foresee.report.groups import Section, arrange, task_title
from foresee.report.page import lead, outcomes
from foresee.report.rendering import mark_options
from foresee.report.star import follow, read_star
from foresee.report.style import assign_marks, draw_svg, write_svg
from foresee.report.tables import costs_table, write_table
from foresee.training.run import Run, find_runs, read_run
from foresee.training.settings import Settings

SMALL = "transformer:layers=2,width=16,heads=2"


def sections_of(*runs: Path) -> tuple[Section, ...]:
    return arrange([run for run in find_runs(*runs) if isinstance(run, Run)])


def page_of(runs: list[Path], out: Path) -> str:
    return report(*runs, out=out / "page.html").read_text(encoding="utf-8")


# Groups ------------------------------------------------------------------------------------------------------------


def test_runs_of_one_objective_with_other_settings_are_told_apart(tmp_path: Path) -> None:
    sections = sections_of(*[fabricate_run(tmp_path, "next-token", steps=steps) for steps in (400, 600)])
    labels = [group.label for group in sections[0].groups]
    assert labels == ["next-token (steps=400)", "next-token (steps=600)"]
    drawn = assign_marks(labels)
    assert len({mark.colour for mark in drawn.values()}) == 2
    assert assign_marks(["next-token"])["next-token"] in drawn.values()
    assert "next-token (0 of 2 runs) did not solve it." in lead(sections)
    fabricate_run(tmp_path, "next-token", steps=800, parent="0" * 16, parent_steps=600)
    longer = f"next-token (steps=800, parent={'0' * 16})"  # and nothing is said of parents that are none
    assert {group.label for group in sections_of(tmp_path)[0].groups} == {*labels, longer}


def test_seeds_of_two_devices_are_one_group_unless_one_was_made_on_both(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path, seed=seed, device=device) for seed, device in enumerate(("cuda", "cpu", "cpu"))]
    runs.append(fabricate_run(tmp_path, "reversed", "solves", seed=1))
    (section,) = sections_of(*runs)
    group, control = section.groups
    assert (group.label, [run.spec.seed for run in group.runs]) == ("next-token", [0, 1, 2])
    assert list(costs_table(section)["examples/s"]) == ["2,200 (cuda), 2,215", "2,210"]
    assert section.relative_speed(control) == pytest.approx(2210 / 2215)  # beside those of its own device
    (section,) = sections_of(*runs, fabricate_run(tmp_path / "again", seed=0))
    assert [group.label for group in section.groups[:2]] == ["next-token (device=cuda)", "next-token (device=cpu)"]


def test_seeds_that_fare_alike_share_a_story_whatever_stands_after_the_seed_in_its_command(tmp_path: Path) -> None:
    (section,) = sections_of(*[fabricate_run(tmp_path, seed=seed, test=300) for seed in range(3)])
    ((((_, said), ((_, runs),)),)) = outcomes([section]).items()
    assert "--test 300" in said
    assert [run.spec.seed for run in runs] == [0, 1, 2]


def test_an_objective_keeps_its_colour_and_advice_the_name_of_an_option_in_one_piece() -> None:
    few = assign_marks(["next-token", "reversed"])
    many = assign_marks(["a", "b", "next-token", "reversed", "teacherless:hybrid=0.5"])
    assert few.items() <= many.items()
    assert assign_marks(["teacherless"])["teacherless"] == many["teacherless:hybrid=0.5"]
    assert len({mark.colour for mark in many.values()}) == 5
    shown = mark_options("try --first-seed, <b>")
    assert shown == 'try <code class="option">--first-seed</code>, &lt;b&gt;'


def test_a_control_vouches_for_its_own_settings_alone(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path / "run", "next-token", seed=1)
    controls: dict[str, tuple[bool, dict[str, Any]]] = {
        "the same settings": (True, {"seed": 1}), "fewer steps": (True, {"seed": 1, "steps": 400}),
        "more steps": (False, {"seed": 1, "steps": 900}), "another seed": (False, {"seed": 0}),
        "another learning rate": (False, {"seed": 1, "lr": 0.01}),
        "another backbone": (False, {"seed": 1, "backbone": "transformer:layers=9"}),
    }  # fmt: skip
    for name, (vouches, settings) in controls.items():
        control = fabricate_run(tmp_path / name, "reversed", "solves", **settings)
        group = sections_of(run, control)[0].groups[0]
        verdict = group.verdict(group.runs[0])
        assert verdict is not None
        assert verdict.inconclusive is not vouches, name


# Frames and charts -------------------------------------------------------------------------------------------------


def test_an_objective_that_cannot_be_forced_has_no_forced_values(tmp_path: Path) -> None:
    (group,) = sections_of(fabricate_run(tmp_path, "teacherless", "babbles", forced=False))[0].groups
    found = frames.curves([group])
    assert set(found["measure"]) == {"branch", "exact"}
    last = group.runs[0].metrics[-1]
    assert found[found["measure"] == "branch"]["value"].iloc[-1] == last["eval"]["free"][1]
    assert set(frames.positions([group])["kind"]) == {"free-running"}


def test_survival_steps_down_where_runs_solve_and_marks_where_others_end(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path, "reversed", "solves"), fabricate_run(tmp_path, "reversed", seed=1, steps=500)]
    (section,) = arrange([read_run(run) for run in runs])
    solved_at = steps_to_solve(section.groups[0].runs[0])
    found = frames.survival(section.groups)
    solved = found[found["objective"] == section.groups[0].label]
    assert [(row.step, row.share) for row in solved.itertuples()][:2] == [(0, 1.0), (solved_at, 0.0)]
    ended = found[found["objective"] == section.groups[1].label]
    assert [(row.step, row.share, row.ended) for row in ended.itertuples()][-1] == (500, 1.0, True)


def test_shares_of_the_loss_are_means_over_seeds_and_where_the_supervision_goes_is_said(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path, seed=seed, steps=100) for seed in range(2)]
    for run, nats in zip(runs, ([3.0, 1.0], [1.0, 3.0]), strict=True):
        read = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
        lines = [line | {"position_loss": nats} for line in read]
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = frames.supervision(sections_of(*runs)[0].groups[0])
    assert list(found["step"]) == [50, 50, 100, 100]
    assert list(found["share"]) == [0.5] * 4
    assert list(found["nats"]) == [2.0] * 4
    run = fabricate_run(tmp_path / "page")
    add_position_loss(run)
    html = page_of([run, fabricate_run(tmp_path / "page", "reversed", "solves")], tmp_path)
    assert "The branch takes 28% of the loss at first and 100% at last." in html
    assert "Not recorded: reversed." in html


RATES = {"objective": "next-token", "seed": 0, "step": 5, "position": 1, "value": 0.5, "low": 0.4, "high": 0.6}
ROWS = pd.DataFrame([
    {**RATES, "measure": "exact", "kind": kind, "share": 1.0, "nats": 0.7, "ended": ended, "seconds": 3.0, "exact": 0.5,
     "head": "1.1", "read": "0000 |", "weight": 0.5, "cell": "G(2, 5)"}
    for kind, ended in (("forced", False), ("seed", True), ("published", False), ("shown", False))
])  # fmt: skip


@pytest.mark.parametrize(
    "drawn",
    [partial(charts.learning_curve, measure="exact"), charts.accuracy_by_position, charts.survival,
     charts.supervision, charts.costs, charts.attention, charts.study_cells, charts.token_losses],
)  # fmt: skip
@pytest.mark.parametrize("rows", [ROWS, ROWS[:0]], ids=["some rows", "none"])
def test_every_chart_is_drawn_as_a_picture_and_the_same_twice(drawn: Any, rows: pd.DataFrame, tmp_path: Path) -> None:
    first, second = draw_svg(drawn(rows)), draw_svg(drawn(rows))
    assert first == second
    assert first.startswith("<svg")
    assert rows.empty or write_svg(first, tmp_path / "chart.pdf").read_bytes().startswith(b"%PDF")


# Stars -------------------------------------------------------------------------------------------------------------

STAR = read_star(PROMPTS[0][0])


@pytest.mark.parametrize(
    ("wrote", "valid", "said"),
    [
        ("32,34,6,16,12", (True,) * 4, "right: took the goal's arm and walked it to the goal"),
        ("32,3,19,47,28", (True,) * 4, "took a wrong arm, then followed it edge by edge to its end"),
        ("32,3,19", (True,) * 2, "took a wrong arm, then followed it but not to its end"),
        ("32,34,6,28,41", (True, True, False, False),
         "took the goal's arm, then made 2 jumps where the graph has no edge"),
        ("32,3,6,16,12", (True, False, True, True), "took a wrong arm, then made 1 jump where the graph has no edge"),
        ("32,19,47,28,12", (False, True, True, False),
         "wrote 19 at the branch, which is not next to the centre, then made 1 jump where the graph has no edge"),
        ("32,7", (False,), "wrote 7 at the branch, which is not in the graph"),
        ("3,19,47,28,12", (True, True, True, False), "wrong from its first symbol: 3 is not the centre"),
        ("32", (), "stopped at the centre"),
        ("", (), "wrote nothing"),
    ],
)  # fmt: skip
def test_what_was_written_is_told_rightly(wrote: str, valid: tuple[bool, ...], said: str) -> None:
    assert STAR is not None
    walk = follow(STAR, wrote)
    assert (walk.valid, walk.said) == (valid, said)
    assert walk.right is (wrote == PROMPTS[0][1])


@pytest.mark.parametrize(
    "prompt",
    ["5,7/5,1|5,6|1,3|6,8|8,7|3,2=", "5,1|1,3|3,2|5,6|6,8|8,7/5,7=", "5,1|5,6|1,3|6,8|8,7|3,2/5,7="],
    ids=["the query first", "arm after arm", "arms interleaved"],
)
def test_a_star_is_read_in_every_form_of_its_prompt(prompt: str) -> None:
    star: Any = read_star(prompt)
    assert (star.start, star.goal, star.goal_arm) == ("5", "7", 1)
    assert star.arms == (("1", "3", "2"), ("6", "8", "7"))
    assert star.path == ("5", "6", "8", "7")
    edge: Any = read_star("5,7/5,7=")  # in both forms
    assert edge.path == ("5", "7")


@pytest.mark.parametrize(
    "prompt",
    ["", "1+1=", "1,2|2,3/1,9=", "1,2|2,1/1,2=", "1,2|2,3|2,4/1,3=", "1,2|5,6/1,2=", "1,2,3/1,3=", "1,2|1,2/1,2=",
     "5,1|5,6|1,3|1,4|6,8|6,7/5,7="],
)  # fmt: skip
def test_what_is_no_star_is_not_drawn(prompt: str) -> None:
    assert read_star(prompt) is None


# Examples and their anatomy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["next-token", "reversed", "teacherless"])
def test_what_training_writes_is_what_the_report_reads(name: str, tmp_path: Path) -> None:
    spec = Settings.of("path-star:degree=2,length=3,nodes=9,goals=one", name, SMALL)
    task = spec.build_task()
    ((prompt, answer),) = task.sample(1, stream("report")).pairs()
    found = anatomy(task, spec.build_objective(task), prompt, answer, answer)
    texts = {"prompt": task.write_line(prompt, []), "answer": task.write_answer(answer), "wrote": "1"}
    run = fabricate_run(tmp_path, examples=[])
    (run / "anatomy.json").write_text(json.dumps({"examples": [texts | found]}), encoding="utf-8")
    group = arrange([read_run(run)])[0].groups[0]
    (panel,) = panels_of(group, group.runs[0]).values()
    assert panel.anatomy is not None
    assert panel.anatomy["order"] == {"next-token": "forward", "reversed": "backward", "teacherless": "parallel"}[name]
    assert set(panel.modes) == ({"free"} if name == "teacherless" else {"truth", "free"})
    assert all(len(columns) == 3 for columns in panel.modes.values())
    assert len(set(frames.attention(panel.anatomy)["head"])) == (0 if name == "teacherless" else 4)


def test_the_drawn_example_shows_what_each_run_mostly_does(tmp_path: Path) -> None:
    lucky, unlucky = PROMPTS[0], PROMPTS[2]
    wrong = fabricate_run(tmp_path, "next-token", examples=[(*lucky[:2], lucky[1]), unlucky[:3]])
    right = fabricate_run(tmp_path, "reversed", "solves")
    first = pick(sections_of(wrong, right)[0], 10)[0]
    assert [panel.prompt for panel in first] == [unlucky[0]] * 2
    assert [panel.right for panel in first] == [False, True]


def test_all_runs_are_shown_on_the_same_examples_as_far_as_they_fit(tmp_path: Path) -> None:
    runs = [fabricate_run(tmp_path, name, seed=seed) for name in ("next-token", "registers") for seed in range(3)]
    (section,) = sections_of(*runs)
    assert [len(panels) for panels in pick(section, 100)] == [6, 6, 6]
    # Two groups by their first runs, on as many examples as then fit.
    assert [[panel.run.spec.seed for panel in panels] for panels in pick(section, 4)] == [[0, 0], [0, 0]]


def test_the_anatomy_shows_probabilities_and_attention(tmp_path: Path) -> None:
    run = fabricate_run(tmp_path)
    add_anatomy(run)
    html = page_of([run], tmp_path)
    assert html.count('class="anatomy"') == len(PROMPTS)
    assert html.count('class="step branch"') == 2 * len(PROMPTS)  # with the truth shown, and with its own
    assert '<li style="--p:0.512" class="gold"><b>34</b>.51</li><li style="--p:0.479"><b>3</b>.48</li>' in html
    group = sections_of(run)[0].groups[0]
    panel = next(iter(panels_of(group, group.runs[0]).values()))
    rows = frames.attention(panel.anatomy or {})
    assert len(set(rows["head"])) == 12
    assert len(rows) == 12 * (3 * 8 + 3 + 1)  # eight edges, the question, and the start


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


def test_other_tasks_are_shown_as_text_and_so_is_a_measurement_of_ones_own(tmp_path: Path) -> None:
    examples = [("1+2=", "3", "4"), ("20+22=", "4,2", "4,2")]
    run = fabricate_run(tmp_path, task="no-such-task", examples=examples, length=2, forced=False)
    with (run / "rows.jsonl").open("a", encoding="utf-8") as rows:
        rows.write('{"row": "courage", "value": 0.4321, "low": 0.41, "high": 0.45, "n": 2000, "problems": 1000}\n')
    add_anatomy(run, layers=0)
    html = page_of([run], tmp_path)
    for said in ("20+22=", "chance is unknown", "courage"):
        assert said in html
    assert "0.432 [0.410, 0.450]" in re.sub("<[^>]+>", "", html)
    for absent in ('class="star"', 'class="step branch"', "Branch token right"):
        assert absent not in html


# Tables ------------------------------------------------------------------------------------------------------------


def test_tables_for_papers_are_escaped() -> None:
    """A task is called by what is not at its default."""
    table = pd.DataFrame([("x & y", "[0.1, 0.2] <i>"), ("$1", "line\nbreak")], columns=["a_b", "c|d"])
    lines = write_table(table, "100 % of {it}", ["do it"], "md").splitlines()
    assert lines[2:6] == [r"| a\_b | c\|d |", "| --- | --- |", r"| x & y | [0.1, 0.2] \<i\> |", "| $1 | line break |"]
    assert lines[-1] == "    do it"
    drawn = write_table(table, "100 % of {it}", ["do it"], "tex")
    assert drawn.startswith("% How to reproduce:\n%   do it\n\\begin{table}")
    for line in (r"\caption{100 \% of \{it\}}", r"\begin{tabular}{ll}", r"a\_b & c\textbar{}d \\",
                 r"x \& y & {[}0.1, 0.2{]} \textless{}i\textgreater{} \\", r"\$1 & line break \\"):  # fmt: skip
        assert line in drawn
    for spec, title in (
        ("path-star:degree=2,length=3,nodes=10,goals=all", "path-star G(2, 3), 10 node labels"),
        ("path-star:degree=2,length=3,nodes=10,goals=one,order=arm-wise",
         "path-star G(2, 3), 10 node labels, goals=one, order=arm-wise"),
        ("sorting:length=8,symbols=30", "sorting"), ("of-a-plug-in:size=3", "of-a-plug-in:size=3"),
        ("data:path=notes.jsonl,prompt=question,answer=answer", "data:path=notes.jsonl,prompt=question"),
    ):  # fmt: skip
        assert task_title(spec) == title


@pytest.mark.parametrize(("task", "said"), [("path-star:length=3", "one decision"), ("data:path=a", "most frequent")])
def test_chance_is_said_to_be_what_it_is(task: str, said: str) -> None:
    assert said in Section(task, "", 0.5, ()).guess
