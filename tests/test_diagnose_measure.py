"""What a diagnosis measures of each token, against plain loops; and which tokens it calls decisions."""

from __future__ import annotations

import math

import data_files
import pytest
import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.seeds import stream, torch_stream
from foresee.core.spec import resolve
from foresee.experiments.diagnose import classes, decisions, tables
from foresee.experiments.diagnose.evidence import baseline_of
from foresee.experiments.diagnose.interval import Z, ratio
from foresee.experiments.diagnose.measured import measure
from foresee.objectives.reversed import flip_answers
from foresee.tasks.base import Task, tasks
from foresee.tasks.data import Data


@pytest.fixture(scope="module")
def task() -> Task:
    return resolve(tasks, "copying:length=4,symbols=10").build()


@pytest.fixture(scope="module")
def ragged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Data, Batch]:
    """Sums of one to three digits, in characters, with an end symbol."""
    folder = tmp_path_factory.mktemp("diagnose")
    path = data_files.write_jsonl(folder / "sums.jsonl", data_files.sums(200, most=60))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FORESEE_CACHE", str(folder / "cache"))
        task = data_files.data(path)
    return task, task.sample(40, stream("diagnose test"))


def by_hand(objective: torch.nn.Module, tokens: list[int], place: int, dummy: int | None) -> float:
    """Nats of token ``place`` given those before it, or with answer tokens from ``dummy`` places on replaced."""
    net = objective.backbone
    with torch.inference_mode():
        hidden = net(net.embed(torch.tensor([tokens[:place]])))  # type: ignore[operator, union-attr]
        logits = net.logits(hidden)[0, -1].double()  # type: ignore[operator, union-attr]
    return float(-(logits.log_softmax(-1)[tokens[place]]))


@pytest.mark.parametrize("name", ["next-token", "reversed", "teacherless"])
def test_losses_agree_with_one_token_at_a_time(name: str, ragged: tuple[Data, Batch]) -> None:
    task, batch = ragged
    objective = _on(task, name)
    found = measure(objective, task, batch)
    assert found.kind == ("hidden" if name == "teacherless" else "forced")
    order = flip_answers(batch) if name == "reversed" else batch
    expected = torch.zeros(batch.answer_mask().shape)
    for row, (prompt, answer) in enumerate(order.pairs()):
        for place in range(len(answer)):
            shown = [objective.dummy] * place if name == "teacherless" else answer[:place]
            column = len(answer) - 1 - place if name == "reversed" else place
            tokens = [*prompt, *shown, answer[place]]
            expected[row, column] = by_hand(objective, tokens, len(tokens) - 1, None)
    assert torch.allclose(found.loss, expected, atol=1e-4)
    assert not found.loss[~batch.answer_mask()].any()
    assert torch.allclose(found.nll, expected.double().sum(1), atol=1e-3)


def test_what_is_written_freely_is_compared_token_by_token(ragged: tuple[Data, Batch]) -> None:
    task, batch = ragged
    objective = _on(task, "next-token")
    found = measure(objective, task, batch)
    for row, (prompt, answer) in enumerate(batch.pairs()):
        with torch.inference_mode():
            wrote = objective.generate(torch.tensor([prompt]), task.answer_length)[0].tolist()
        wrote = wrote[: wrote.index(task.end) + 1] if task.end in wrote else wrote
        expected = [n < len(wrote) and wrote[n] == token for n, token in enumerate(answer)]
        assert found.free[row, : len(answer)].tolist() == expected
        assert bool(found.exact[row]) == (wrote == answer)


def test_an_objective_without_probabilities_has_none(task: Task) -> None:
    found = measure(_on(task, "masked-diffusion"), task, task.sample(8, stream("x")))
    assert found.kind == "none"
    assert not found.loss.any()


def _on(task: Task, name: str):  # type: ignore[no-untyped-def]
    """An objective on a Transformer of random weights, large enough for its predictions to differ."""
    from support import scramble, transformer

    from foresee.objectives.base import objectives

    chosen = resolve(objectives, name)
    vocab = task.vocab.extended(chosen.cls.symbols)
    net = transformer(len(vocab))
    scramble(net, 0.2)
    return chosen.build(net, vocab, torch_stream("test objective"))


# Intervals.


def test_a_mean_over_examples_has_the_textbook_interval() -> None:
    values = torch.tensor([[1.0, 2.0, 4.0, 9.0]])
    row = ratio(values, torch.ones(4))
    assert row is not None
    half = Z * float(values[0].double().std()) / 2
    assert (row["value"], row["low"], row["high"], row["n"]) == pytest.approx((4.0, 4.0 - half, 4.0 + half, 4))


def test_seeds_that_disagree_widen_the_interval() -> None:
    same = ratio(torch.tensor([[1.0, 3.0], [1.0, 3.0]]), torch.ones(2))
    apart = ratio(torch.tensor([[0.0, 2.0], [2.0, 4.0]]), torch.ones(2))
    assert same is not None
    assert apart is not None
    assert same["seeds"] == [2.0, 2.0]
    assert apart["seeds"] == [1.0, 3.0]
    assert apart["value"] == same["value"] == 2.0
    variance = ((same["high"] - 2) / Z) ** 2 + 2.0 / 2  # sample variance of 1 and 3, over two seeds
    assert apart["high"] == pytest.approx(2 + Z * math.sqrt(variance))


def test_nothing_counted_is_no_rate() -> None:
    assert ratio(torch.zeros(2, 3), torch.zeros(3)) is None


# Decisions.

EXAMPLES = 60


def _path(branch_hidden: float = 0.7, follow_hidden: float = 0.7) -> tuple[Tensor, Tensor, Tensor]:
    """Losses [1, E, 5] of a path: a copy, a blind branch, two look-ups, a copied goal."""
    shown = torch.tensor([0.01, 0.69, 0.02, 0.02, 0.01]).expand(1, EXAMPLES, 5)
    hidden = torch.tensor([0.01, branch_hidden, follow_hidden, follow_hidden, 0.01]).expand(1, EXAMPLES, 5)
    return shown, hidden, torch.ones(EXAMPLES, 5, dtype=torch.bool)


def _decided(shown: Tensor, hidden: Tensor, mask: Tensor) -> list[int]:
    flags = decisions.flag(shown, hidden, mask)
    by_token = sorted(set(flags.decision[0].nonzero()[:, 1].tolist()))
    assert by_token == [each["position"] for each in decisions.positions(shown, hidden, mask)]
    return by_token


def test_the_branch_is_the_decision() -> None:
    assert _decided(*_path()) == [1]


def test_it_is_one_too_where_the_hidden_model_has_learned_it() -> None:
    assert _decided(*_path(branch_hidden=0.01, follow_hidden=0.01)) == [1]


def test_hard_tokens_are_none_where_nothing_is_given_away_after_them() -> None:
    assert _decided(*_path(branch_hidden=0.69, follow_hidden=0.02)) == []


def test_hard_tokens_are_none_where_what_follows_is_not_easy() -> None:
    shown, hidden, mask = _path()
    shown = shown.clone()
    shown[:, :, 2:] = 0.3
    assert _decided(shown, hidden + 0.3, mask) == []


def test_the_last_token_decides_nothing() -> None:
    shown = torch.tensor([0.01, 0.69]).expand(1, EXAMPLES, 2)
    assert _decided(shown, shown + 0.5, torch.ones(EXAMPLES, 2, dtype=torch.bool)) == []


def test_what_follows_ends_at_the_next_hard_token_and_at_the_response() -> None:
    shown = torch.tensor([0.69, 0.02, 0.69, 0.02]).expand(1, EXAMPLES, 4)
    hidden = torch.tensor([0.69, 0.69, 0.69, 0.69]).expand(1, EXAMPLES, 4)
    assert _decided(shown, hidden, torch.ones(EXAMPLES, 4, dtype=torch.bool)) == [0, 2]
    short = torch.tensor([True, True, True, False]).expand(EXAMPLES, 4)
    assert _decided(shown * short, hidden * short, short) == [0]


# Tables.


def test_the_share_absorbed_is_of_sums_over_responses() -> None:
    shown, hidden, _ = _path()
    row = tables.absorbed(shown, hidden)
    assert row is not None
    assert row["value"] == pytest.approx((0.01 + 2.1 + 0.01 - 0.75) / (0.01 + 2.1 + 0.01))
    assert row["low"] == pytest.approx(row["high"])


def test_positions_count_from_the_start_and_from_the_end() -> None:
    mask = torch.tensor([[True, True, False], [True, True, True]])
    shown = torch.tensor([[[1.0, 2.0, 0.0], [3.0, 4.0, 5.0]]])
    nothing = torch.zeros_like(shown, dtype=torch.bool)
    forwards = tables.by_position(shown, shown, nothing, mask)
    assert [(row["position"], row["tokens"], row["shown"]["value"]) for row in forwards] == [
        (0, 2, 2.0), (1, 2, 3.0), (2, 1, 5.0),
    ]  # fmt: skip
    backwards = tables.by_position_from_the_end(shown, shown + 1, nothing, mask)
    assert [(row["from_end"], row["shown"]["value"], row["given"]["value"]) for row in backwards] == [
        (0, 3.5, 1.0), (1, 2.5, 1.0), (2, 3.0, 1.0),
    ]  # fmt: skip


def test_classes_of_origin() -> None:
    batch = Batch.of(
        torch.tensor([[1, 2, 3, 2, 5, 5, 9], [1, 1, 4, 9, 0, 0, 0]]), torch.tensor([3, 2]), torch.tensor([4, 2])
    )
    found = classes.origins(batch, 9)
    names = [[classes.ORIGINS[n] if n >= 0 else None for n in row] for row in found.tolist()]
    assert names == [
        ["in the prompt", "in neither", "earlier in the response", "end"], ["in neither", "end", None, None],
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("symbol", "shape"),
    [("12", "digits"), ("\u0120the", "letters"), ("\u2581", "white space"), ("\n", "white space"), ("(", "marks"),
     ("x1", "mixed"), ("\u00e9", "letters"), ("##ing", "letters"), ("\u01207", "digits")],
)  # fmt: skip
def test_classes_of_shape(symbol: str, shape: str) -> None:
    assert classes.shape_of(symbol) == shape


def test_the_baseline_knows_how_often_tokens_stand_where() -> None:
    train = Batch.of(torch.tensor([[0, 1, 1], [0, 1, 2]]), 1, 2)
    test = Batch.of(torch.tensor([[0, 1, 3]]), 1, 2)
    assert baseline_of(train, test, 4) == pytest.approx(-math.log(3 / 6) - math.log(1 / 6))
    longer = Batch.of(torch.tensor([[0, 1, 3, 3]]), 1, 3)
    assert baseline_of(train, longer, 4) == pytest.approx(-math.log(3 / 6) - math.log(1 / 6) - math.log(1 / 4))
