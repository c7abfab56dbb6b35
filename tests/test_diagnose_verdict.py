"""The verdict of a diagnosis on fabricated evidence: every rule, and what misses it by a hair."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, cast

import pytest

from foresee.experiments.diagnose.evidence import Evidence, accuracies_during, fall_of, gain_of
from foresee.experiments.diagnose.verdict import COMPOUNDING, COSTLY, NAMES, NONE_NEEDED, OPEN, TOO_SMALL, judge, rule
from foresee.training.run import Run

SOLVED: dict[str, Any] = {
    "exact": 0.99, "nll": 0.05, "gap": 0.01, "gap_low": 0.005, "witness": "reversed", "witness_exact": 0.99,
    "control_exact": 0.99, "baseline": 10.0, "fall": 0.0, "overfit": 0.0, "decision_loss": 0.0,
    "decision_positions": 0, "decision_rise": math.inf,
    "drop": 0.001, "drop_low": 0.0, "least_forced": 0.99, "compounded": 0.97,
    "rows": 1000, "prompts": 1000, "cost": None,
}  # fmt: skip

CHEATED = SOLVED | {
    "exact": 0.5, "nll": 0.72, "gap": 0.69, "gap_low": 0.65, "fall": 0.02, "decision_loss": 0.68,
    "decision_positions": 1, "decision_rise": 0.12,
    "drop": 0.3, "drop_low": 0.28, "least_forced": 0.5, "compounded": 0.49,
}  # fmt: skip
"""Path-star G(2,5) as the paper has it: the control solves, the branch costs ln 2."""

CHAIN = SOLVED | {
    "exact": 0.54, "nll": 3.0, "gap": -0.02, "gap_low": -0.05, "control_exact": 0.53, "drop": 0.2, "drop_low": 0.18,
    "least_forced": 0.94, "compounded": 0.55,
}  # fmt: skip
"""A noisy chain: every order pays the entropy of the slips, and free-running goes on from its own."""

NOISE = CHAIN | {"drop": 0.0, "drop_low": -0.01, "exact": 0.53}
"""The same errors where none spoils another: label noise."""


def said(base: dict[str, Any], **changes: Any) -> str:
    return rule(Evidence(**(base | changes)))[0]


@pytest.mark.parametrize(
    ("base", "changes", "name"),
    [
        (SOLVED, {}, NONE_NEEDED),
        (SOLVED, {"control_exact": 0.1, "witness_exact": 0.1, "gap": -3.0, "gap_low": -3.1}, NONE_NEEDED),
        (SOLVED, {"cost": 1.5}, COSTLY),
        (SOLVED, {"cost": 1.49}, NONE_NEEDED),
        # A gap to another model does not matter where next-token solves.
        (SOLVED, {"exact": 0.95, "gap": 0.3, "gap_low": 0.2}, NONE_NEEDED),
        (CHEATED, {}, OPEN),
        # The witness need not be the control, nor solve.
        (CHEATED, {"control_exact": 0.1, "witness": "teacherless:hybrid=0.0", "witness_exact": 0.8}, OPEN),
        (CHEATED, {"fall": 0.137}, OPEN),
        (CHEATED, {"fall": 0.139}, TOO_SMALL),
        (CHEATED, {"fall": math.inf}, TOO_SMALL),
        # Its loss still falls, but it decides no better for it.
        (CHEATED, {"fall": 0.139, "decision_rise": 0.099}, OPEN),
        (CHEATED, {"fall": 0.139, "decision_rise": 0.101}, TOO_SMALL),
        (CHEATED, {"fall": 0.5, "decision_positions": 0, "decision_rise": math.inf}, TOO_SMALL),
        (CHEATED, {"fall": 0.5, "decision_rise": 0.0, "decision_loss": 0.344}, TOO_SMALL),
        (CHEATED, {"decision_loss": 0.346}, OPEN),
        (CHEATED, {"decision_loss": 0.344}, TOO_SMALL),
        # No other model has learned the decision: nothing shows that it can be.
        (CHEATED, {"gap": -0.3, "gap_low": -0.35}, TOO_SMALL),
        # The gap is nothing but next-token's overfitting: without it, the orders agree.
        (CHEATED, {"overfit": 0.6, "gap": 0.05, "gap_low": 0.65}, NONE_NEEDED),
        (CHAIN, {}, COMPOUNDING),
        (CHAIN, {"gap": -2.0, "gap_low": -2.1}, COMPOUNDING),
        (CHAIN, {"drop_low": 0.051}, COMPOUNDING),
        (CHAIN, {"drop_low": 0.049}, NONE_NEEDED),
        (CHAIN, {"least_forced": 0.79}, NONE_NEEDED),
        (CHAIN, {"compounded": 0.65}, NONE_NEEDED),
        (CHAIN, {"fall": 0.16}, TOO_SMALL),
        (CHAIN, {"baseline": 5.9}, TOO_SMALL),
        (NOISE, {}, NONE_NEEDED),
        # The orders do not agree, and something looks like a decision.
        (NOISE, {"gap": -0.2, "gap_low": -0.25, "decision_positions": 1}, TOO_SMALL),
        (NOISE, {"gap": -0.14, "gap_low": -0.2, "decision_positions": 1}, NONE_NEEDED),
        (NOISE, {"gap": -0.2, "gap_low": -0.25}, NONE_NEEDED),
        # A free choice at the first token, then look-ups: every order pays it.
        (CHEATED, {"gap": 0.0, "gap_low": -0.02}, NONE_NEEDED),
    ],
)
def test_the_first_rule_that_holds_gives_the_name(base: dict[str, Any], changes: dict[str, Any], name: str) -> None:
    assert said(base, **changes) == name


def test_a_verdict_has_its_rule_its_numbers_and_advice() -> None:
    found = judge([Evidence(**CHEATED)])
    assert found.name == OPEN
    assert "reversed pays 0.03 nats a response where next-token pays 0.72" in found.because
    assert "0.68 nats of its loss sit on decision tokens" in found.because
    assert any("budget was enough" in remark for remark in found.remarks)
    assert any("reversed" in advice for advice in found.advice)
    assert found.seeds == (OPEN,)


def test_noise_is_named_as_one_of_three_things_that_look_alike() -> None:
    (remark,) = judge([Evidence(**NOISE)]).remarks
    assert "noise, a free choice, or something that none of these models can learn" in remark


def test_overfitting_is_remarked_on() -> None:
    remarks = judge([Evidence(**(NOISE | {"overfit": 0.4}))]).remarks
    assert any("0.40 nats above its least" in remark for remark in remarks)


def test_few_different_prompts_are_remarked_on() -> None:
    (remark,) = judge([Evidence(**(SOLVED | {"rows": 134, "prompts": 1}))]).remarks
    assert remark.startswith("The 134 held-out rows hold 1 different prompt:")
    assert not judge([Evidence(**(SOLVED | {"prompts": 500}))]).remarks


def test_seeds_vote_and_disagreement_is_said() -> None:
    found = judge([Evidence(**SOLVED), Evidence(**CHEATED), Evidence(**CHEATED)])
    assert found.name == OPEN
    assert found.seeds == (NONE_NEEDED, OPEN, OPEN)
    assert "do not agree" in found.remarks[0]
    assert judge([Evidence(**SOLVED), Evidence(**CHEATED)]).name == OPEN


def test_every_verdict_has_plain_words() -> None:
    from foresee.report.diagnosis import PLAIN, TONES

    assert set(PLAIN) == set(TONES) == set(NAMES)


def test_the_fall_is_from_the_middle_of_training_to_its_end() -> None:
    curve = [(10, 9.0), (40, 3.0), (60, 2.0), (70, 50.0), (80, 1.5), (90, 1.0), (100, 0.5)]
    assert fall_of(curve, 100) == pytest.approx(2.5 - 0.75)
    assert fall_of([(100, 1.0)], 100) == math.inf
    assert fall_of([(50, 1.0)], 100) == math.inf


def test_the_gain_is_a_share_of_what_was_missing() -> None:
    assert gain_of([(10, 0.0), (40, 0.2), (60, 0.4), (90, 0.6), (100, 0.5)], 100) == pytest.approx(0.25 / 0.7)
    assert gain_of([(50, 0.6), (100, 0.5)], 100) == pytest.approx(-0.25)
    assert gain_of([(50, 1.0), (100, 1.0)], 100) == 0.0
    assert gain_of([(100, 1.0)], 100) == math.inf


def test_accuracy_at_decisions_is_read_from_evaluations_that_have_it() -> None:
    lines = [
        {"step": 10, "eval": {"forced": [1.0, 0.2, 0.4]}},
        {"step": 20, "eval": {}},
        {"step": 30, "eval": {"forced": [1.0, 0.5, 0.9]}},
    ]
    run = cast(Run, SimpleNamespace(metrics=lines))
    steps, means = zip(*accuracies_during(run, [1, 2]), strict=True)
    assert steps == (10, 30)
    assert means == pytest.approx((0.3, 0.7))
    assert accuracies_during(run, []) == []


def test_json_leaves_out_what_is_infinite() -> None:
    assert "fall" not in Evidence(**(CHEATED | {"fall": math.inf})).json()
    assert Evidence(**CHEATED).json()["fall"] == 0.02
