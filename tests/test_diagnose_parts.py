"""What a diagnosis measures of each token, against plain loops; which it calls decisions; its verdict on evidence."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import data_files
import pytest
import torch
from support import scramble, transformer

from foresee.core.batch import Batch
from foresee.core.seeds import stream, torch_stream
from foresee.core.spec import resolve
from foresee.experiments.diagnose import decisions
from foresee.experiments.diagnose.evidence import (
    SeedEvidence,
    _compound,
    accuracies_during,
    baseline_losses,
    charge_for_length,
    gather_evidence,
    measure_fall,
    measure_gain,
    split_problems,
)
from foresee.experiments.diagnose.measure import Family, TokenScores, measure, ratio
from foresee.experiments.diagnose.plan import DiagnosisPlan, DiagnosisSettings
from foresee.experiments.diagnose.result import find_gaps, summarise
from foresee.experiments.diagnose.verdict import (
    COMPOUNDING,
    COSTLY,
    NAMES,
    NONE_NEEDED,
    OPEN,
    TOO_SMALL,
    DiagnosisVerdict,
    apply_rules,
    judge,
)
from foresee.metrics.intervals import Z95
from foresee.objectives.base import objectives
from foresee.objectives.reversed import flip_answers
from foresee.report.diagnosis import PLAIN
from foresee.tasks.base import Task, tasks
from foresee.tasks.data import Data
from foresee.training.run import Run


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, Batch]:
    """Sums of one to three digits, in characters, with an end symbol."""
    folder = tmp_path_factory.mktemp("diagnose")
    path = data_files.write_jsonl(folder / "sums.jsonl", data_files.sums(200, most=60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORESEE_CACHE", str(folder / "cache"))
        task = data_files.data(path)
    return task, task.sample(40, stream("diagnose test"))


def on(task: Task, name: str) -> Any:
    """An objective on a Transformer of random weights, large enough for its predictions to differ."""
    chosen = resolve(objectives, name)
    vocab = task.vocab.extended(chosen.cls.symbols)
    net = transformer(len(vocab))
    scramble(net, 0.2)
    return chosen.build(net, vocab, torch_stream("test objective"))


def by_hand(net: Any, tokens: list[int]) -> float:
    """Nats of the last token given those before it."""
    with torch.inference_mode():
        logits = net.logits(net(net.embed(torch.tensor([tokens[:-1]]))))[0, -1].double()
    return float(-(logits.log_softmax(-1)[tokens[-1]]))


@pytest.mark.parametrize("name", ["next-token", "reversed", "teacherless"])
def test_losses_agree_with_one_token_at_a_time(name: str, ragged: tuple[Data, Batch]) -> None:
    task, batch = ragged
    objective = on(task, name)
    found = measure(objective, task, batch)
    assert found.kind == ("hidden" if name == "teacherless" else "forced")
    order = flip_answers(batch) if name == "reversed" else batch
    expected = torch.zeros(batch.answer_mask().shape)
    for row, (prompt, answer) in enumerate(order.pairs()):
        for place, token in enumerate(answer):
            shown = [objective.dummy] * place if name == "teacherless" else answer[:place]
            column = len(answer) - 1 - place if name == "reversed" else place
            expected[row, column] = by_hand(objective.backbone, [*prompt, *shown, token])
    assert torch.allclose(found.loss, expected, atol=1e-4)
    assert not found.loss[~batch.answer_mask()].any()
    assert torch.allclose(found.nll, expected.double().sum(1), atol=1e-3)


def test_what_is_written_freely_is_compared_token_by_token(ragged: tuple[Data, Batch]) -> None:
    """An objective without probabilities has none."""
    task, batch = ragged
    objective = on(task, "next-token")
    found = measure(objective, task, batch)
    for row, (prompt, answer) in enumerate(batch.pairs()):
        with torch.inference_mode():
            wrote = objective.generate(torch.tensor([prompt]), task.answer_length)[0].tolist()
        wrote = wrote[: wrote.index(task.end) + 1] if task.end in wrote else wrote
        expected = [n < len(wrote) and wrote[n] == token for n, token in enumerate(answer)]
        assert found.free[row, : len(answer)].tolist() == expected
        assert bool(found.exact[row]) == (wrote == answer)
    copying = resolve(tasks, "copying:length=4,symbols=10").build()
    found = measure(on(copying, "masked-diffusion"), copying, copying.sample(8, stream("x")))
    assert found.kind == "none"
    assert not found.loss.any()


# Intervals.


def test_a_mean_has_the_textbook_interval_in_which_rows_of_one_problem_count_once() -> None:
    values, ones, problems = torch.tensor([[1.0, 2.0, 4.0, 9.0]]), torch.ones(4), torch.arange(4)
    once: Any = ratio(values, ones, problems)
    half = 3.182446 * float(values[0].double().std()) / 2  # Student's t, three degrees of freedom
    assert (once["value"], once["low"], once["high"], once["n"]) == pytest.approx((4.0, 4.0 - half, 4.0 + half, 4))
    thrice: Any = ratio(values.repeat(1, 3), ones.repeat(3), problems.repeat(3))
    assert (thrice["n"], thrice["problems"], thrice["low"]) == (12, 4, pytest.approx(once["low"]))
    alone: Any = ratio(values, ones, 0 * problems)
    assert "low" not in alone
    assert ratio(0 * values, 0 * ones, problems) is None  # nothing counted is no rate


def test_seeds_that_disagree_widen_the_interval() -> None:
    same: Any = ratio(torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.ones(2), torch.arange(2))
    apart: Any = ratio(torch.tensor([[0.0, 2.0], [2.0, 4.0]]), torch.ones(2), torch.arange(2))
    assert (same["seeds"], apart["seeds"]) == ([2.0, 2.0], [1.0, 3.0])
    assert apart["value"] == same["value"] == 2.0
    between = Z95**2 * 2.0 / 2  # sample variance of 1 and 3, over two seeds
    assert apart["high"] == pytest.approx(2 + math.sqrt((same["high"] - 2) ** 2 + between))


def test_all_right_is_no_surer_than_so_few_rows_allow() -> None:
    """Wilson's interval of n of n begins at n / (n + z^2)."""
    family = _family("next-token", torch.zeros(2, 11))
    (row,) = summarise({"next-token": family}, torch.zeros(11, 1, dtype=torch.bool), torch.arange(11))
    assert (row.exact["value"], row.exact["high"]) == (1.0, 1.0)
    assert row.exact["low"] == pytest.approx(11 / (11 + Z95**2))


# The witness.


def test_a_problem_lies_in_one_half() -> None:
    problems = torch.tensor([7, 7, 3, 5, 5, 9])
    choosing, testing = split_problems(problems)
    assert choosing.tolist() == [True, True, False, True, True, False]
    assert torch.equal(testing, ~choosing)
    assert all(each.all() for each in split_problems(torch.zeros(3, dtype=torch.int64)))


def test_what_writes_backwards_pays_for_where_a_response_ends_as_next_token_does() -> None:
    """Whoever is told a length that is a matter of chance has learned nothing."""
    families = {name: _family(name, torch.ones(2, 3)) for name in ("next-token", "reversed", "teacherless")}
    assert charge_for_length(families) == families
    stops = torch.tensor([[[0.1], [0.2], [0.3]], [[0.3], [0.4], [0.5]]])
    own = families["next-token"]
    scores = tuple(replace(each, stops=stop) for each, stop in zip(own.scores, stops, strict=True))
    charged = charge_for_length(families | {"next-token": replace(own, scores=scores)})
    for name, expected in (("next-token", [1, 1, 1]), ("reversed", [1.2, 1.3, 1.4]), ("teacherless", [1, 1, 1])):
        for each in charged[name].scores:
            assert each.nll.tolist() == pytest.approx(expected)


def test_the_witness_is_not_judged_by_the_rows_that_it_was_picked_by() -> None:
    """Ten models that know what next-token knows, with luck of their own: the luckiest on one half is not ahead on the
    other, and is on average 1.5 standard errors ahead on the rows that it was picked by."""
    rows, models = 200, 10
    problems, found, naive = torch.arange(rows), [], []
    for draw in range(60):
        rng = torch_stream("witness test", draw)
        nlls = torch.randn(models + 1, rows, generator=rng)
        families = {
            "next-token": _family("next-token", nlls[:1]), "reversed": _family("reversed", nlls[1:]),
        }  # fmt: skip
        losses = decisions.TokenLosses(*(torch.zeros(1, rows, 1),) * 2, torch.ones(rows, 1, dtype=torch.bool), problems)
        batch = Batch.of(torch.zeros(rows, 2, dtype=torch.int64), 1, 1)
        flags = decisions.Flags(*(torch.zeros(1, rows, 1, dtype=torch.bool),) * 2)
        found.append(gather_evidence(families, batch, losses, flags, [], torch.ones(rows), 0.1, 1.0)[0].gap)
        naive.append(float(nlls[0].mean() - nlls[1:].mean(1).min()))
    error = (2 / (rows / 2)) ** 0.5 / 60**0.5
    assert abs(sum(found) / 60) < 3 * error
    assert sum(naive) / 60 > 3 * error


def _family(objective: str, nlls: torch.Tensor) -> Family:
    """Runs of which it is known what each held-out response costs, and nothing else."""
    right = torch.ones(nlls.shape[1], 1, dtype=torch.bool)
    scores = tuple(TokenScores("forced", nll[:, None], right, right, right[:, 0]) for nll in nlls)
    run = cast(
        Run, SimpleNamespace(metrics=[], rows={}, seconds=0.0, spec=SimpleNamespace(steps=10, eval_every=1, digest=""))
    )
    return Family(objective, (run,) * len(nlls), scores)


# Decisions.


PATH, GIVEN = [0.01, 0.69, 0.02, 0.02, 0.01], [0.01, 0.7, 0.7, 0.7, 0.01]
"""Nats of each token of a path where the tokens before it are shown, and where they are hidden."""


def losses_of(shown: list[list[float]], hidden: list[list[float]], length: int = 9) -> decisions.TokenLosses:
    """Of one seed; each row is a problem of its own, of ``length`` tokens at most."""
    mask = (torch.arange(len(shown[0])) < length).expand(len(shown), -1)
    told, blind = (torch.tensor(each)[None] * mask for each in (shown, hidden))
    return decisions.TokenLosses(told, blind, mask, torch.arange(len(shown)))


@pytest.mark.parametrize(
    ("shown", "hidden", "length", "noise", "places"),
    [
        # A path: a copy, a blind branch, two look-ups, a copied goal. The branch is the decision,
        (PATH, GIVEN, 5, 0, [1]),
        # also where the hidden model has learned it;
        (PATH, [0.01] * 5, 5, 0, [1]),
        # not where nothing is given away after it, or what follows is not easy.
        (PATH, PATH, 5, 0, []),
        ([0.01, 0.69, 0.3, 0.3, 0.3], [0.31, 1.0, 1.0, 1.0, 0.31], 5, 0, []),
        # The last token decides nothing; what follows ends at the next hard token, and with the response.
        ([0.01, 0.69], [0.51, 1.19], 2, 0, []),
        ([0.69, 0.02, 0.69, 0.02], [0.69] * 4, 4, 0, [0, 2]),
        ([0.69, 0.02, 0.69, 0.02], [0.69] * 4, 3, 0, [0]),
        # Rows in which every token is noise make nothing easy on average, and hide no decision of the others.
        *((PATH, GIVEN, 5, noise, [1] if noise < 54 else []) for noise in (30, 40, 54)),
    ],
)
def test_decisions_are_hard_and_what_is_shown_after_them_is_easy(
    shown: list[float], hidden: list[float], length: int, noise: int, places: list[int]
) -> None:
    told, blind = ([each] * (60 - noise) + [[2.5] * len(each)] * noise for each in (shown, hidden))
    losses = losses_of(told, blind, length)
    flags = decisions.flag_tokens(losses)
    assert [each["position"] for each in decisions.find_positions(losses, flags)] == places
    if not noise:
        assert sorted(set(flags.decision[0].nonzero()[:, 1].tolist())) == places


# Tables.


def test_positions_count_from_the_start_and_from_the_end() -> None:
    """The share absorbed is of sums over responses."""
    row: Any = decisions.absorbed(losses_of([PATH], [GIVEN]))
    assert row["value"] == pytest.approx((0.01 + 2.1 + 0.01 - 0.75) / (0.01 + 2.1 + 0.01))
    mask = torch.tensor([[True, True, False], [True, True, True]])
    shown = torch.tensor([[[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]]])
    nothing = torch.zeros_like(shown, dtype=torch.bool)
    same, more = (decisions.TokenLosses(shown, shown + each, mask, torch.arange(2)) for each in (0, 1))
    forwards = decisions.tabulate(same, nothing, decisions.number_places(mask), "position")
    assert [(row["position"], row["tokens"], row["shown"]["value"]) for row in forwards] == [
        (0, 2, 2.0), (1, 2, 3.0), (2, 1, 5.0),
    ]  # fmt: skip
    backwards = decisions.tabulate(more, nothing, decisions.number_places(mask, from_end=True), "from_end")
    assert [(row["from_end"], row["shown"]["value"], row["given"]["value"]) for row in backwards] == [
        (0, 3.5, 1.0), (1, 2.5, 1.0), (2, 3.0, 1.0),
    ]  # fmt: skip


def test_classes_of_origin() -> None:
    batch = Batch.of(
        torch.tensor([[1, 2, 3, 2, 5, 5, 9], [1, 1, 4, 9, 0, 0, 0]]), torch.tensor([3, 2]), torch.tensor([4, 2])
    )
    found = decisions.origins(batch, 9)
    names = [[decisions.ORIGINS[n] if n >= 0 else None for n in row] for row in found.tolist()]
    assert names == [
        ["in the prompt", "in neither", "earlier in the response", "end"], ["in neither", "end", None, None],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "shape"),
    [("12", "digits"), ("\u0120the", "letters"), ("\u2581", "white space"), ("\n", "white space"), ("(", "marks"),
     ("x1", "mixed"), ("\u00e9", "letters"), ("##ing", "letters"), ("\u01207", "digits")],
)  # fmt: skip
def test_classes_of_shape(symbol: str, shape: str) -> None:
    assert decisions.shape_of(symbol) == shape


def test_the_baseline_knows_how_often_tokens_stand_where() -> None:
    train = Batch.of(torch.tensor([[0, 1, 1], [0, 1, 2]]), 1, 2)
    test = Batch.of(torch.tensor([[0, 1, 3]]), 1, 2)
    first = -math.log(3 / 6) - math.log(1 / 6)
    assert baseline_losses(train, test, 4).tolist() == pytest.approx([first])
    longer = Batch.of(torch.tensor([[0, 1, 3, 3], [0, 1, 3, 0]]), 1, torch.tensor([3, 2]))
    assert baseline_losses(train, longer, 4).tolist() == pytest.approx([first - math.log(1 / 4), first])


# Examples as a page shows them.


@pytest.mark.parametrize(
    ("text", "symbols", "expected"),
    [
        ("16 2 9", ["16", "2", "9", "<end>"], ["", " ", " ", ""]),
        ("32,34", ["32", "34"], ["", ","]),
        ("a b", ["a", " ", "b"], ["", "", ""]),
        ("f(x)", ["f", "(", "x", ")"], ["", "", "", ""]),
        ("\u00e9 z", ["<c3>", "<a9>", " ", "z"], ["", "", "", ""]),
        ("", ["<end>"], [""]),
    ],
)
def test_between_tokens_stands_what_the_text_has_there(text: str, symbols: list[str], expected: list[str]) -> None:
    assert find_gaps(text, symbols) == expected


def test_a_prompt_is_shown_as_it_is_in_the_file_and_a_seed_before_it(tmp_path: Path) -> None:
    pairs = [(f"count to {n}", f"{n} {n + 1}") for n in range(20)]
    task: Task = data_files.data(data_files.write_jsonl(tmp_path / "rows.jsonl", pairs), tokenizer="words")
    shown = {task.write_prompt(prompt) for prompt, _ in task.sample(200, stream("shown")).pairs()}
    assert shown == {prompt for prompt, _ in pairs}
    task = resolve(tasks, "path-star:degree=2,length=3,nodes=9,goals=one,seed_length=2").build()
    ((prompt, _),) = task.sample(1, stream("shown")).pairs()
    assert task.write_prompt(prompt) == task.write_line(prompt, [])


# The verdict on fabricated evidence: every rule, and what misses it by a hair.

SOLVED: dict[str, Any] = {
    "exact": 0.99, "exact_low": 0.96, "nll": 0.05, "gap": 0.01, "gap_low": 0.005, "witness": "reversed",
    "witness_exact": 0.99, "control_exact": 0.99, "control_steps": 30, "baseline": 10.0, "unexplained": 0.0,
    "fall": 0.0, "overfit": 0.0, "decision_loss": 0.0,
    "decision_positions": 0, "decision_rise": math.inf,
    "drop": 0.001, "drop_low": 0.0, "least_forced": 0.99, "compounded": 0.97,
    "rows": 1000, "problems": 1000, "cost": None,
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


def judged(*seeds: dict[str, Any], minutes: float | None = 10.0, backbone: str = "transformer") -> DiagnosisVerdict:
    """The verdict on seeds of 100 steps each, in this time or in no time that was given."""
    steps = None if minutes else 100
    asked = DiagnosisSettings("copying", "", (), backbone, 1, minutes or 10.0, steps, 64, 1e-3)
    return judge([SeedEvidence(**each) for each in seeds], asked, DiagnosisPlan(100, 5, 1000, None, {}))


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
        # A gap between models of which none has learned even half proves nothing of a decision.
        (CHEATED, {"baseline": 0.07}, OPEN),
        (CHEATED, {"baseline": 0.05}, TOO_SMALL),
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
        # Right as often as the most frequent answer is.
        (NOISE, {"exact": 0.98, "chance": 0.94, "baseline": 0.1}, NONE_NEEDED),
        (NOISE, {"exact": 0.98, "chance": 0.97, "baseline": 0.1}, TOO_SMALL),
        # More often, but not surely.
        (NOISE, {"exact": 0.98, "exact_low": 0.93, "chance": 0.94, "baseline": 0.1}, TOO_SMALL),
        # Another order pays less, but not surely, or by no more than next-token learned by heart: no agreement.
        (NOISE, {"gap": 1.0, "gap_low": 0.09}, TOO_SMALL),
        (NOISE, {"gap": 1.0, "gap_low": 0.9, "overfit": 0.85}, TOO_SMALL),
        (CHAIN, {"gap": 0.2, "gap_low": -0.4}, TOO_SMALL),
        (NOISE, {"gap": 0.14, "gap_low": -0.4}, NONE_NEEDED),
        # Explained in the mean, but a part of the responses is not explained at all.
        (NOISE, {"unexplained": 0.24}, NONE_NEEDED),
        (NOISE, {"unexplained": 0.25}, TOO_SMALL),
        (CHEATED, {"unexplained": 0.5}, OPEN),
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
    assert apply_rules(SeedEvidence(**(base | changes)))[0] == name


def test_a_verdict_has_its_rule_its_numbers_and_advice_and_seeds_vote() -> None:
    assert set(PLAIN) == set(NAMES)
    found = judged(CHEATED)
    assert (found.name, found.seeds) == (OPEN, (OPEN,))
    assert "reversed pays 0.03 nats a response where next-token pays 0.72" in found.because
    assert "0.68 nats of its loss sit on decision tokens" in found.because
    assert any("budget was enough" in remark for remark in found.remarks)
    assert any("reversed" in advice for advice in found.advice)
    found = judged(SOLVED, CHEATED, CHEATED)
    assert (found.name, found.seeds) == (OPEN, (NONE_NEEDED, OPEN, OPEN))
    assert "do not agree" in found.remarks[0]
    assert judged(SOLVED, CHEATED).name == OPEN


@pytest.mark.parametrize(
    ("base", "changes", "remark"),
    [
        (NOISE, {}, "noise, a free choice, or something that none of these models can learn"),
        (NOISE, {"overfit": 0.4}, "0.40 nats above its least"),
        (SOLVED, {"rows": 134, "problems": 1}, "The 134 held-out rows hold 1 different problem, which is what"),
        (CHEATED, {}, "A --backbone of more layers would tell"),
        (CHEATED, {"decision_loss": 1.4}, "hold 1.40 nats, of which 0.69 are known to be there"),
    ],
)
def test_what_must_be_known_is_remarked_on(base: dict[str, Any], changes: dict[str, Any], remark: str) -> None:
    assert any(remark in each for each in judged(base | changes).remarks)
    assert not judged(SOLVED | {"problems": 500}).remarks


@pytest.mark.parametrize(
    ("minutes", "control", "advice"),
    [
        # Twice the control's steps and a quarter more, but never less than twice what was not enough.
        (10.0, 90, "Give --minutes 23, which should be enough"),
        (10.0, 20, "Give --minutes 20, which should be enough"),
        (0.5, 90, "Give --minutes 1.2, which should be enough"),
        (2.0, 90, "Give --minutes 5, which should be enough"),
        (2.0, None, "Give at least --minutes 4: the control, reversed, has not solved"),
        (10.0, None, "Give at least --minutes 20: the control, reversed, has not solved"),
        (None, 90, "Give --steps 225, which should be enough"),
    ],
)
def test_a_budget_too_small_is_told_what_would_do(minutes: float | None, control: int | None, advice: str) -> None:
    found = judged(CHEATED | {"fall": math.inf, "control_steps": control}, minutes=minutes)
    assert found.name == TOO_SMALL
    assert found.advice[0].startswith(advice)
    assert "A checkpoint in place of" in found.advice[1]


def test_who_asks_about_a_checkpoint_is_not_told_to_take_one() -> None:
    found = judged(CHEATED | {"fall": math.inf}, backbone="hf:path=checkpoint")
    assert found.advice[1:] == ("Shorter responses make a small budget go further too.",)


def test_fall_and_gain_are_from_the_middle_of_training_to_its_end() -> None:
    """A gain is a share of what was missing. Where the middle is not known, they are infinite, and left out of JSON."""
    curve = [(10, 9.0), (40, 3.0), (60, 2.0), (70, 50.0), (80, 1.5), (90, 1.0), (100, 0.5)]
    assert measure_fall(curve, 100) == pytest.approx(2.5 - 0.75)
    assert measure_fall([(100, 1.0)], 100) == measure_fall([(50, 1.0)], 100) == math.inf
    assert measure_gain([(10, 0.0), (40, 0.2), (60, 0.4), (90, 0.6), (100, 0.5)], 100) == pytest.approx(0.25 / 0.7)
    assert measure_gain([(50, 0.6), (100, 0.5)], 100) == pytest.approx(-0.25)
    assert measure_gain([(50, 1.0), (100, 1.0)], 100) == 0.0
    assert measure_gain([(100, 1.0)], 100) == math.inf
    assert "fall" not in SeedEvidence(**(CHEATED | {"fall": math.inf})).json()
    assert SeedEvidence(**CHEATED).json()["fall"] == 0.02


def test_accuracy_at_decisions_is_read_from_evaluations_that_have_it() -> None:
    forced = {10: [1.0, 0.2, 0.4], 20: None, 30: [1.0, 0.5, 0.9]}
    lines = [{"step": step, "eval": {"forced": each} if each else {}} for step, each in forced.items()]
    run = cast(Run, SimpleNamespace(metrics=lines))
    assert dict(accuracies_during(run, [1, 2])) == pytest.approx({10: 0.3, 30: 0.7})
    assert accuracies_during(run, []) == []


def test_a_response_given_to_a_prompt_anywhere_is_right_to_all_of_its_rows(tmp_path: Path) -> None:
    """Always answering "yes" is right where each prompt has that among its responses, however rare it is."""
    rows = [(f"p{prompt}", response) for prompt in range(40) for response in ("yes", f"a{prompt}", f"b{prompt}")]
    assert data_files.data(data_files.write_jsonl(tmp_path / "several.jsonl", rows), tokenizer="words").chance == 1.0
    once = [("p", "yes"), ("q", "no"), ("q", "no"), ("r", "no")]
    assert data_files.data(data_files.write_jsonl(tmp_path / "once.jsonl", once), tokenizer="words").chance == 0.75


def test_positions_of_few_rows_count_for_the_least_accuracy() -> None:
    """Of 29 rows one ends after two tokens; at a position that it lacks only a third are right."""
    mask = torch.ones(29, 10, dtype=torch.bool)
    mask[0, 2:] = False
    right = mask.clone()
    right[::3, 6], right[1::3, 6] = False, False
    scores = TokenScores("forced", torch.zeros(29, 10), right, right, right.all(1))
    least, _ = _compound(scores, mask)
    assert least < 0.4
