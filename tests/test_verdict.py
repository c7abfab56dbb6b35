"""Scripted models are each named rightly, and every rule holds exactly where its definition says."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from scripted import (
    Babbler,
    Backward,
    Broken,
    Contrary,
    Follower,
    Memoriser,
    Parallel,
    Planner,
    Scripted,
    Slipping,
    examples,
    known,
    subject,
)

from foresee.metrics.base import Rows
from foresee.metrics.intervals import rate
from foresee.metrics.measure import measure_all
from foresee.metrics.verdict import PLAIN, Verdict, judge, plain_words
from foresee.tasks.path_star import PathStar

TASK = PathStar(degree=2, length=5, nodes=50)
WIDE = PathStar(degree=20, length=5, nodes=100)


def named(objective: Scripted, n: int = 2000, **options: Any) -> Verdict:
    return judge(measure_all(subject(objective, n, **options)), objective.task.chance, True)


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        (Planner(TASK), "solved"),
        (Planner(WIDE), "solved"),
        (Backward(TASK), "solved"),
        (Parallel(TASK), "solved"),
        (Slipping(TASK, sure=0.995), "solved"),
        (Follower(TASK), "clever-hans"),
        (Follower(PathStar(degree=5, length=5, nodes=50)), "clever-hans"),
        (Follower(WIDE), "clever-hans"),
        (Slipping(TASK, sure=0.97), "compounding"),
        (Babbler(TASK), "unfitted"),
        (Slipping(TASK, sure=0.6), "unfitted"),
        (Contrary(TASK), "partial"),
        (Slipping(TASK, sure=0.89), "partial"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{type(value).__name__} {value.task.chance:.2g}",
)
def test_scripted_models_are_named_rightly(objective: Scripted, name: str) -> None:
    assert named(objective, train=examples(objective.task, 500, "train")).name == name


@pytest.mark.parametrize("task", [TASK, WIDE])
@pytest.mark.parametrize("walks", [True, False])
def test_a_memoriser_is_named_whether_or_not_it_follows_arms(task: PathStar, walks: bool) -> None:
    train = examples(task, 500, "train")
    objective = Memoriser(task, known(train.prompts), walks=walks)
    assert named(objective, train=train).name == "memorised"


def test_a_memoriser_that_is_shown_no_training_examples_looks_like_a_follower() -> None:
    train = examples(TASK, 500, "train")
    assert named(Memoriser(TASK, known(train.prompts), walks=True)).name == "clever-hans"


def test_a_broken_model_is_still_judged() -> None:
    verdict = judge(measure_all(subject(Broken(TASK), 50)), TASK.chance, None)
    assert verdict.name == "solved"  # it writes the answers, whatever its probabilities say


def rows_of(**counts: Any) -> Rows:
    """Rows from success counts out of 1,000; a float stands for a bare value, a list for a list row."""
    rows: Rows = {}
    for name, count in counts.items():
        if isinstance(count, list):
            rows[name] = [rate(each, 1000) for each in count]
        else:
            rows[name] = rate(count, 1000) if isinstance(count, int) else {"value": count, "n": 1000}
    return rows


def name_of(chance: float = 0.5, **counts: Any) -> str:
    return judge(rows_of(**counts), chance, True).name


def test_solved_begins_at_its_threshold_and_is_read_first() -> None:
    assert name_of(exact=950) == "solved"
    assert name_of(exact=949) == "partial"
    assert name_of(exact=950, follow=1000, branch=500, train_branch=1000, child=0) == "solved"


def test_memorised_takes_a_gap_disjoint_intervals_and_a_branch_at_chance() -> None:
    assert name_of(exact=500, branch=500, train_branch=700) == "memorised"  # 0.7 - 0.5 is 0.2, rounding aside
    assert name_of(exact=500, branch=500, train_branch=699) == "partial"
    assert name_of(exact=600, branch=600, train_branch=900) == "partial"
    few: Rows = {"exact": rate(5, 10), "branch": rate(5, 10), "train_branch": rate(8, 10)}
    assert judge(few, 0.5, True).name == "partial"


def test_memorised_is_read_before_clever_hans() -> None:
    assert name_of(exact=500, branch=500, follow=1000) == "clever-hans"
    assert name_of(exact=500, branch=500, follow=1000, train_branch=1000) == "memorised"


def test_clever_hans_takes_following_and_a_branch_near_chance() -> None:
    assert name_of(exact=500, follow=900, branch=500) == "clever-hans"
    assert name_of(exact=500, follow=899, branch=500) == "partial"
    assert name_of(exact=500, follow=1000, branch=540) == "partial"  # its interval reaches beyond 0.55 and misses 0.5
    assert name_of(exact=500, follow=1000) == "partial"
    near: Rows = {"exact": rate(5300, 10_000), "follow": rate(9900, 10_000), "branch": rate(5300, 10_000)}
    assert judge(near, 0.5, True).name == "clever-hans"
    beyond: Rows = near | {"branch": rate(5450, 10_000)}
    assert judge(beyond, 0.5, True).name == "partial"
    assert judge(near | {"branch": rate(4700, 10_000)}, 0.5, True).name == "clever-hans"
    assert judge(near | {"branch": rate(4550, 10_000)}, 0.5, True).name == "partial"


def test_clever_hans_at_one_in_twenty() -> None:
    assert name_of(0.05, exact=50, follow=1000, branch=50) == "clever-hans"
    assert name_of(0.05, exact=250, follow=1000, branch=250) == "partial"


def test_compounding_takes_every_position_and_an_exact_near_the_product() -> None:
    assert name_of(exact=500, compounded=0.55, forced=[1000, 900, 950]) == "compounding"
    assert name_of(exact=600, compounded=0.55, forced=[1000, 900, 950]) == "compounding"
    assert name_of(exact=499, compounded=0.55, forced=[1000, 900, 950]) == "partial"
    assert name_of(exact=601, compounded=0.55, forced=[1000, 900, 950]) == "partial"
    assert name_of(exact=500, compounded=0.55, forced=[1000, 899, 950]) == "partial"
    assert name_of(exact=500, compounded=0.5, forced=[]) == "partial"
    assert name_of(exact=500, forced=[1000, 950]) == "partial"


def test_unfitted_takes_missing_edges_and_an_exact_below_chance() -> None:
    assert name_of(exact=499, child=899) == "unfitted"
    assert name_of(exact=500, child=899) == "partial"
    assert name_of(exact=499, child=900) == "partial"
    assert name_of(exact=499) == "partial"


def test_with_one_arm_there_is_no_decision_to_fail() -> None:
    line = PathStar(degree=1, length=5, nodes=20)
    assert named(Planner(line), 200).name == "solved"
    assert named(Follower(line), 200).name == "solved"
    assert named(Babbler(line), 200).name == "unfitted"
    assert named(Slipping(line, sure=0.97)).name == "compounding"


@pytest.mark.parametrize("name", ["exact", "follow", "branch", "train_branch", "compounded", "child"])
def test_a_row_that_is_not_a_number_fires_no_rule(name: str) -> None:
    whole = rows_of(exact=400, follow=1000, branch=500, train_branch=1000, compounded=0.4, child=500)
    assert judge(whole, 0.5, True).name == "memorised"
    broken: Rows = {key: {"value": math.nan, "low": math.nan, "high": math.nan, "n": 1000} for key in whole}
    assert judge(broken, 0.5, True).name == "partial"
    mixed = judge(whole | {name: broken[name]}, 0.5, True)
    assert mixed.name == {"branch": "unfitted", "train_branch": "clever-hans"}.get(name, "memorised")


def test_a_forced_position_that_is_not_a_number_fires_no_rule() -> None:
    rows = rows_of(exact=900, compounded=0.9, forced=[950, 950])
    assert judge(rows, 0.5, True).name == "compounding"
    forced = rows["forced"]
    assert isinstance(forced, list)
    forced[1]["value"] = math.nan
    assert judge(rows, 0.5, True).name == "partial"


def test_no_rows_is_partial() -> None:
    verdict = judge({}, 0.5, True)
    assert verdict == Verdict("partial", False, "no other rule fits no finite measurement, at chance 0.5")


@pytest.mark.parametrize(("control", "inconclusive"), [(True, False), (False, True), (None, True)])
def test_only_a_solved_control_makes_a_failure_conclusive(control: bool | None, inconclusive: bool) -> None:
    failed = rows_of(exact=500, follow=1000, branch=500)
    assert judge(failed, 0.5, control).inconclusive is inconclusive
    assert judge(rows_of(exact=1000), 0.5, control).inconclusive is False


@pytest.mark.parametrize(
    ("rows", "because"),
    [
        (rows_of(exact=987), "exact 0.987 >= 0.95"),
        (
            {
                "exact": rate(10_060, 20_000),
                "follow": rate(19_960, 20_000),
                "branch": rate(10_060, 20_000),
            },
            "follow 0.998 >= 0.9, and branch 0.503 [0.496, 0.510] holds chance 0.5",
        ),
        (
            {
                "exact": rate(10_600, 20_000),
                "follow": rate(19_960, 20_000),
                "branch": rate(10_600, 20_000),
            },
            "follow 0.998 >= 0.9, and branch 0.530 [0.523, 0.537] lies within 0.05 of chance 0.5",
        ),
        (
            rows_of(exact=500, branch=500, train_branch=1000),
            (
                "train_branch 1.000 [0.996, 1.000] exceeds branch by 0.500 >= 0.2 with disjoint intervals, "
                "and branch 0.500 [0.469, 0.531] holds chance 0.5"
            ),
        ),
        (
            rows_of(exact=870, compounded=0.9, forced=[1000, 950, 947]),
            "every forced position is at least 0.947 >= 0.9, and exact 0.870 is within 0.05 of compounded 0.900",
        ),
        (rows_of(exact=10, child=41), "child 0.041 < 0.9, and exact 0.010 < chance 0.5"),
        (
            rows_of(exact=700, follow=930, branch=700, child=1000),
            "no other rule fits exact 0.700, follow 0.930, branch 0.700, child 1.000, at chance 0.5",
        ),
    ],
)
def test_because_gives_the_rule_and_its_numbers(rows: Rows, because: str) -> None:
    assert judge(rows, 0.5, True).because == because


def test_because_never_rounds_a_number_across_its_threshold() -> None:
    rows: Rows = {"exact": rate(99_999, 200_000), "child": rate(179_999, 200_000)}
    assert judge(rows, 0.5, True).because == "child 0.89999 < 0.9, and exact 0.499995 < chance 0.5"


def test_a_verdict_is_one_json_object() -> None:
    verdict = judge(rows_of(exact=500, follow=1000, branch=500), 0.5, None)
    assert json.loads(json.dumps(verdict.json())) == {
        "name": "clever-hans",
        "inconclusive": True,
        "because": "follow 1.000 >= 0.9, and branch 0.500 [0.469, 0.531] holds chance 0.5",
    }


def test_plain_words_exist_for_every_verdict_and_tell_apart() -> None:
    assert set(PLAIN) == {"solved", "memorised", "clever-hans", "compounding", "unfitted", "partial", "open-ended"}
    said = {plain_words(Verdict(name, False, "")) for name in PLAIN}
    assert len(said) == len(PLAIN)
    for words in said:
        assert words.endswith(".")
        assert words.count(". ") == 0


def test_plain_words_say_when_nothing_is_proven() -> None:
    sure, unsure = (plain_words(Verdict("clever-hans", inconclusive, "")) for inconclusive in (False, True))
    assert unsure.startswith(sure)
    assert "not conclusive" in unsure
    assert unsure.count(". ") == 1


def test_an_open_ended_task_is_never_called_solved() -> None:
    rows: Rows = {"exact": rate(99, 100), "valid": rate(90, 100), "creativity": rate(20, 100)}
    verdict = judge(rows, 0.0, None)
    assert (verdict.name, verdict.inconclusive) == ("open-ended", False)
    assert "creativity 0.200, valid 0.900" in verdict.because
    assert plain_words(verdict) == PLAIN["open-ended"]
