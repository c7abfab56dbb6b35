"""Planted models are each named rightly, and every rule holds exactly where its definition says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from objective_support import OBJECTIVES
from planted import PLANTED, Planted, name_doubts, plant
from scripted import Babbler, Broken, Follower, GoalCopier, Memoriser, Planner, Scripted, examples, known, subject

from foresee.metrics.base import Rows
from foresee.metrics.control import Circumstances, find_fall, list_doubts
from foresee.metrics.intervals import rate
from foresee.metrics.measure import measure_all
from foresee.metrics.verdict import PLAIN, Verdict, at_chance, judge, plain_words
from foresee.tasks.path_star import PathStar
from foresee.training.run_table import runs_table
from foresee.training.settings import Settings
from foresee.training.witnesses import is_represented, remedy, settling_commands, solved_elsewhere

TASK = PathStar(degree=2, length=5, nodes=50, goals="one")


def measured(objective: Scripted, n: int = 4000, **options: Any) -> Rows:
    return measure_all(subject(objective, test=examples(objective.task, n), **options))


def named(objective: Scripted, n: int = 4000, **options: Any) -> str:
    return judge(measured(objective, n, **options), objective.task.chance).name


@pytest.mark.parametrize(
    ("planted", "draw", "test"),
    [pytest.param(each, 0, 3000, id=each.what) for each in PLANTED if "d=20" not in each.what]
    + [pytest.param(each, 10, 20_000, id=f"{each.what}, whole", marks=pytest.mark.slow) for each in PLANTED],
)
def test_runs_of_planted_models_are_named_rightly(planted: Planted, draw: int, test: int, tmp_path: Path) -> None:
    """Ten draws of each are in results/verdicts, by benchmarks/verdicts.py."""
    run = plant(tmp_path, planted, draw, test)
    assert (run.verdict.name, name_doubts(run)) == (planted.verdict, planted.doubts)
    record = runs_table([run]).iloc[0]
    assert (record["verdict"], record["inconclusive"]) == (planted.verdict, bool(planted.doubts))


@pytest.mark.parametrize("walks", [True, False])
def test_a_memoriser_without_training_examples_to_compare_with_is_taken_for_another(walks: bool) -> None:
    objective = Memoriser(TASK, known(examples(TASK, 500, "train").prompts), walks=walks)
    assert named(objective) == ("clever-hans" if walks else "unfitted")


def test_a_walker_that_copies_the_goal_misses_an_edge_and_nothing_else() -> None:
    """Following is not measured where nothing lies between decision and end. A broken model is still judged."""
    rows: Any = measured(GoalCopier(TASK))
    assert rows["child"]["value"] == pytest.approx(0.875, abs=0.01)
    assert (rows["rest"]["value"], rows["follow_to_end"]["value"]) == (1.0, 0.0)
    short: Any = measured(GoalCopier(PathStar(degree=2, length=3, nodes=50, goals="one")), 500)
    assert "follow" not in short
    assert short["follow_to_end"]["value"] == 0.0
    assert named(Broken(TASK), 50) == "solved"  # it writes the answers, whatever its probabilities say


def test_a_goal_that_is_the_next_node_needs_no_guess() -> None:
    """One in four of these arms has two nodes: the shortcut and a copied goal get the branch right there."""
    task = replace(TASK, sizes="mixed")
    rows: Any = measured(GoalCopier(task))
    assert rows["branch"]["value"] == pytest.approx(task.chance, abs=0.02)
    assert task.chance == 0.25 + 0.75 / 2
    assert judge(rows, task.chance).name == "clever-hans"


def test_a_decision_is_set_beside_a_guess_of_it_where_answers_take_two() -> None:
    task = replace(TASK, splits="1")
    rows: Any = measured(Follower(task))
    assert (task.chance, rows["branch"]["reference"]) == (0.25, 0.5)
    assert rows["branch"]["value"] == pytest.approx(0.5, abs=0.03)
    assert "chance is 0.25, 0.5 of the decision, at it" in judge(rows, task.chance).because
    hidden = {**rows, "follow": rate(999, 1000)}
    assert judge(hidden, task.chance).because.endswith("is at chance 0.5")


def rows_of(**counts: Any) -> Rows:
    """Rows from success counts out of 10,000; a float stands for a bare value, a list for a list row."""
    rows: Rows = {}
    for name, count in counts.items():
        if isinstance(count, list):
            rows[name] = [rate(each, 10_000) for each in count]
        else:
            rows[name] = rate(count, 10_000) if isinstance(count, int) else {"value": count, "n": 10_000}
    return rows


SPREAD = [9000, 9300, 9200]
RULES: list[tuple[str, dict[str, Any]]] = [
    ("solved", {"exact": 9500}),
    ("partial", {"exact": 9499}),
    ("solved", {"exact": 9500, "follow": 10_000, "branch": 5000, "train_branch": 10_000}),  # it is read first
    ("memorised", {"exact": 5000, "branch": 5000, "train_branch": 7000}),  # 0.7 - 0.5 is 0.2, rounding aside
    ("partial", {"exact": 5000, "branch": 5000, "train_branch": 6999}),
    ("partial", {"exact": 6000, "branch": 6000, "train_branch": 9000}),
    ("memorised", {"exact": 5000, "branch": 5000, "follow": 10_000, "train_branch": 10_000}),
    ("clever-hans", {"exact": 5000, "follow": 9000, "branch": 5000}),
    ("partial", {"exact": 5000, "follow": 8999, "branch": 5000}),
    ("partial", {"exact": 5600, "follow": 10_000, "branch": 5600}),
    ("partial", {"exact": 5000, "follow": 10_000}),
    ("undecided", {"exact": 5000, "rest": 9900, "decision": 5000}),
    ("partial", {"exact": 5000, "rest": 8900, "decision": 5000}),
    ("partial", {"exact": 6000, "rest": 9900, "decision": 6000}),
    ("clever-hans", {"exact": 5000, "rest": 9900, "decision": 5000, "follow": 9900, "branch": 5000}),
    ("compounding", {"exact": 7700, "compounded": 0.77, "forced": SPREAD}),
    ("partial", {"exact": 7199, "compounded": 0.77, "forced": SPREAD}),
    ("partial", {"exact": 8201, "compounded": 0.77, "forced": SPREAD}),
    ("partial", {"exact": 7700, "compounded": 0.77, "forced": [8999, 9300, 9200]}),
    ("partial", {"exact": 9200, "compounded": 0.92, "forced": [10_000, 9200, 10_000]}),  # one weak position
    ("partial", {"exact": 5000, "compounded": 0.5, "forced": []}),
    ("partial", {"exact": 5000, "forced": [10_000, 9500]}),
    ("unfitted", {"exact": 4500, "rest": 8000}),
    ("partial", {"exact": 4926, "rest": 8000}),  # its interval holds chance
    ("partial", {"exact": 4500, "rest": 9000}),
    ("unfitted", {"exact": 4500}),
    ("partial", {"exact": 5500}),
]


def test_every_rule_holds_exactly_where_it_is_said_to() -> None:
    assert [(judge(rows_of(**counts), 0.5).name, counts) for _, counts in RULES] == RULES
    assert judge(rows_of(exact=900, follow=10_000, branch=900), 0.05).name == "partial"
    few: Rows = {"exact": rate(5, 10), "branch": rate(5, 10), "train_branch": rate(8, 10)}
    assert judge(few, 0.5).name == "partial", "intervals must be disjoint"


@pytest.mark.parametrize(
    ("right", "n", "chance", "expected"),
    [
        (5000, 10_000, 0.5, True),
        (5390, 10_000, 0.5, True),  # within 0.05 as a whole
        (5450, 10_000, 0.5, False),
        (50, 100, 0.5, False),  # holds chance, but is 0.19 wide
        (500, 1000, 0.5, True),
        (1000, 20_000, 0.05, True),
        (1800, 20_000, 0.05, False),  # 1.8 times chance
        (1150, 20_000, 0.05, True),
    ],
)
def test_at_chance(right: int, n: int, chance: float, expected: bool) -> None:
    assert at_chance(rate(right, n), chance) is expected


def test_with_one_arm_there_is_no_decision_to_fail() -> None:
    line = PathStar(degree=1, length=5, nodes=20, goals="one")
    assert named(Planner(line), 200) == named(Follower(line), 200) == "solved"
    assert named(Babbler(line), 200) == "unfitted"


@pytest.mark.parametrize("name", ["exact", "follow", "branch", "train_branch", "compounded", "rest"])
def test_a_row_that_is_not_a_number_fires_no_rule(name: str) -> None:
    assert judge({}, 0.5).name == "partial"
    whole = rows_of(exact=4000, follow=10_000, branch=5000, train_branch=10_000, compounded=0.4, rest=5000)
    assert judge(whole, 0.5).name == "memorised"
    broken: Rows = {key: {"value": math.nan, "low": math.nan, "high": math.nan, "n": 1000} for key in whole}
    assert judge(broken, 0.5).name == "partial"
    mixed = judge(whole | {name: broken[name]}, 0.5)
    assert mixed.name == {"branch": "unfitted", "train_branch": "clever-hans"}.get(name, "memorised")


def test_doubts_count_for_failures_alone_and_are_said() -> None:
    failed, solved, doubt = rows_of(exact=5000, follow=10_000, branch=5000), rows_of(exact=10_000), "a doubt"
    assert not judge(failed, 0.5).inconclusive
    unsure = judge(failed, 0.5, [doubt])
    assert json.loads(json.dumps(unsure.json())) == {
        "name": "clever-hans", "inconclusive": True, "because": unsure.because, "doubts": [doubt],
    }  # fmt: skip
    assert not judge(solved, 0.5, [doubt]).inconclusive
    assert doubt in plain_words(unsure)
    assert plain_words(unsure).startswith(PLAIN["clever-hans"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (rows_of(exact=9870), ("exact 0.987",)),
        (rows_of(exact=5030, follow=9980, branch=5030), ("follow 0.998", "branch 0.503 [0.493, 0.513]", "chance 0.5")),
        (rows_of(exact=5000, branch=5000, train_branch=10_000), ("train_branch 1.000", "0.500 >= 0.2")),
        (rows_of(exact=8500, compounded=0.86, forced=[9600, 9500, 9470]), ("0.947", "exact 0.850", "compounded 0.860")),
        (rows_of(exact=100, rest=410), ("rest 0.041", "exact 0.010")),
        (rows_of(exact=7000, follow=9300, branch=7000), ("exact 0.700", "branch 0.700", "follow 0.930", "off it")),
        ({"exact": rate(99_000, 200_000), "rest": rate(179_999, 200_000)}, ("rest 0.89999",)),  # no false 0.900
        # 50 of 100: nothing says where the decision lies, so nothing is said.
        ({"exact": rate(49, 100), "branch": rate(50, 100), "rest": rate(80, 100)},
         ("at it or off it, of which so few test examples cannot tell (--test)",)),
    ],
)  # fmt: skip
def test_because_gives_the_rule_and_its_numbers(rows: Rows, words: tuple[str, ...]) -> None:
    because = judge(rows, 0.5).because
    assert [word for word in words if word not in because] == []


def test_plain_words_exist_for_every_verdict_and_an_open_ended_task_is_never_called_solved() -> None:
    names = {"solved", "memorised", "clever-hans", "undecided", "compounding", "unfitted", "partial", "open-ended"}
    assert set(PLAIN) == names
    assert len({plain_words(Verdict(name, "")) for name in PLAIN}) == len(names)
    rows: Rows = {"exact": rate(99, 100), "valid": rate(90, 100), "creativity": rate(20, 100)}
    verdict = judge(rows, 0.0, ["a doubt"])
    assert (verdict.name, verdict.inconclusive) == ("open-ended", False)
    assert "creativity 0.200, valid 0.900" in verdict.because


# When a failure is conclusive


FLAT = [(step, 0.139 + 0.001 * (-1) ** (step // 100)) for step in range(100, 1001, 100)]
SURE = Circumstances(
    control_solved=True, control="foresee train ...", layers=6, hops=4, represented=False, losses=FLAT
)  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"control_solved": None}, "has not been run"),
        ({"control_solved": False}, "has not solved"),
        ({"layers": 3}, "3 layers"),
        ({"losses": [(step, 2.0 - step / 1000) for step in range(100, 1001, 100)]}, "still falling"),
        ({"solved_elsewhere": True}, "another draw"),
    ],
)
def test_each_doubt_is_said_with_what_would_settle_it(change: dict[str, object], word: str) -> None:
    (doubt,) = list_doubts(replace(SURE, **change))  # type: ignore[arg-type]  # one field of its own type
    assert word in doubt
    assert "more" in doubt or "foresee train ..." in doubt


def test_what_is_in_no_doubt() -> None:
    """Depth, where something solved or nothing is known of it; a fall towards a blind guess, but not one below it."""
    assert list_doubts(SURE) == list_doubts(replace(SURE, layers=3, represented=True)) == []
    assert list_doubts(replace(SURE, layers=None)) == list_doubts(replace(SURE, hops=None)) == []
    falling = replace(SURE, losses=[(step, 2.0 - step / 1000) for step in range(100, 1001, 100)])
    assert list_doubts(replace(falling, blind=0.69)) == []
    assert "still falling" in list_doubts(replace(falling, blind=1.5))[0]


def test_what_writes_later_tokens_first_shows_nothing_of_depth() -> None:
    """Two layers serve reversed training at any length, and so they do whatever puts look-ups one after the other."""
    shallow = Settings.of("path-star", "next-token", "gpt-nano:layers=2")
    no_proof = {name for name in OBJECTIVES if not is_represented(shallow, [(shallow.replace(objective=name), 1.0)])}
    assert no_proof == {
        "reversed", "insertion", "future-insertion:plan=true", "any-order:table=shared,decode=goal-first",
        "any-order:decode=confident", *(name for name in OBJECTIVES if name.startswith("masked-diffusion")),
    }  # fmt: skip
    assert not is_represented(shallow, [(shallow, 0.9), (shallow.replace(backbone="gpt-nano"), 1.0)])


def test_what_settles_a_verdict_trains_where_the_run_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spec = Settings.of("path-star", "next-token", "gpt-nano:layers=2", device="cpu")
    known = replace(SURE, control_solved=None, layers=2)
    commands = settling_commands(spec, known, tmp_path / "mine")
    assert len(commands) == 2
    assert all(each.endswith(f" --runs {tmp_path / 'mine'}") and "layers=4" in each for each in commands)
    assert not any("--runs" in each for each in settling_commands(spec, known, Path("runs")))
    assert settling_commands(spec, SURE, Path("runs")) == []
    longer = spec.replace(parent="0123456789abcdef", parent_steps=600, steps=700)
    assert longer.command == "foresee train 0123456789abcdef --more-steps 100"
    assert remedy(longer, {"steps": 1400}).parent == longer.parent
    assert remedy(longer, {"layers": 4}).command.startswith("foresee train path-star ")


def test_a_draw_that_solved_speaks_against_one_that_did_not() -> None:
    failed = Settings.of("path-star", "token-order", steps=600, device="cpu")

    def speaks(exact: float = 0.99, **changed: Any) -> bool:
        return solved_elsewhere(failed, [(failed, 0.5), (failed.replace(**changed), exact)])

    assert speaks(seed=1)
    assert speaks(seed=1, steps=400, eval_every=100, until_solved=True)
    assert speaks(device="cuda")
    assert not speaks(seed=1, exact=0.94)
    assert not any([speaks(seed=1, steps=700), speaks(seed=1, lr=1e-4), speaks(seed=1, objective="next-token")])
    falling = failed.replace(schedule="cosine")
    assert not solved_elsewhere(falling, [(falling.replace(seed=1, steps=400), 0.99)])
    assert solved_elsewhere(falling, [(falling.replace(seed=1), 0.99)])


def test_a_fall_is_more_than_noise_and_more_than_two_percent() -> None:
    assert find_fall(FLAT) is None
    assert find_fall([]) is None
    # Too few reports to test a trend: the last two count, by the same measure.
    assert find_fall([(100, 2.0), (200, 1.95)]) == (2.0, 1.95)
    assert find_fall([(100, 2.0), (200, 1.97)]) is None
    assert find_fall([(100, 2.0)]) is None
    slow = [(step, 1.0 - step / 100_000) for step in range(100, 1001, 100)]
    assert find_fall(slow) is None
    noisy = [(step, 1.0 + (0.5 if step % 200 else -0.5) - step / 4000) for step in range(100, 1001, 100)]
    assert find_fall(noisy) is None
    first, last = find_fall([(step, 2.0 - step / 1000) for step in range(100, 1001, 100)]) or (0.0, 0.0)
    assert first > last > 1.0
