"""Inserted futures: what is put in and where, what is predicted, and decoding with a future."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from objective_support import LEARNED, assert_loss, embedded_tokens, inputs_of, rng, scrambled
from support import SMALL, VOCAB, Stub, build, random_batch, right_padded
from torch import Tensor

from foresee.backbones.transformer import Transformer
from foresee.core.batch import Batch
from foresee.core.seeds import stream
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import teacher_forcing
from foresee.objectives.future_insertion import FutureInsertion
from foresee.tasks.path_star import PathStar

OPEN, CLOSE = len(VOCAB), len(VOCAB) + 1
KINDS = [":share=0.5", ":share=1", ":share=1,place=random", ":share=0.5,place=random,span=9"]


def made_on(options: str = "", backbone: str = LEARNED) -> Any:
    return scrambled(f"future-insertion{options}", backbone)


def inputs_read(made: Any, batch: Batch) -> tuple[list[list[int]], list[list[int]]]:
    """Rows as they are read, without a future and with one."""
    with embedded_tokens(made) as seen:
        made.loss(batch, rng())
    rows = [row for tokens in seen for row in tokens.tolist()]
    return [row for row in rows if OPEN not in row], [row for row in rows if OPEN in row]


def future_in(row: Sequence[int], prompt: int) -> tuple[int, list[int]]:
    """Where in the answer a future stands, and what it holds."""
    opened, closed = row.index(OPEN), row.index(CLOSE)
    return opened - prompt, list(row[opened + 1 : closed])


def test_loss_by_hand() -> None:
    """Prompt a, answer b b a, and one token of it first: reads a, <T>, it, </T>, b, b; never predicts <T>."""
    after = {
        0: [0.1, 0.6, 0.2, 0.1],
        1: [0.4, 0.2, 0.1, 0.3],
        2: [0.3, 0.5, 0.1, 0.1],
        3: [0.2, 0.7, 0.05, 0.05],
    }
    table = torch.tensor([after[token] for token in range(4)]).log() + 5.0
    vocab = Vocabulary(("a", "b", "<T>", "</T>"))
    made = FutureInsertion(Stub(table, "token"), vocab, rng(), share=1.0, span=1)
    batch = Batch.of(torch.tensor([[0, 1, 1, 0]]), 1, 3)
    met = set()
    for seed in range(30):
        out = made.loss(batch, rng(seed))
        with embedded_tokens(made) as seen:
            made.loss(batch, rng(seed))
        read = seen[0][0].tolist()
        copied = read[2]
        assert read == [0, 2, copied, 3, 1, 1]
        answer = [-math.log(share) for share in (after[3][1], after[1][1], after[1][0])]
        inserted = -math.log(after[2][copied]) - math.log(after[copied][3])
        assert_loss(out, {"answer": sum(answer) / 5, "inserted": inserted / 5}, answer)
        met.add(copied)
    assert met == {0, 1}


@pytest.mark.parametrize("options", KINDS)
def test_the_loss_is_that_of_rows_read_one_by_one(options: str) -> None:
    """Each shown row is recognised by its prompt, checked to be its own with a copy of its future, and scored alone."""
    shapes = [(8, 4), (10, 2), (9, 5), (8, 1), (10, 0), (11, 3)] * 6  # some without an answer; no prompts are the same
    batch = right_padded([random_batch(1, *shape, seed=number) for number, shape in enumerate(shapes)], 0)
    made = made_on(options)
    plain, futures = inputs_read(made, batch)
    out = made.loss(batch, rng())
    answers, inserted, places = [], [], set()
    for row, (prompt, answer) in enumerate(batch.pairs()):
        start, length = len(prompt), len(answer)
        mine = [read for read in plain + futures if read[:start] == prompt]
        if not length:
            assert not out.per_token[row].any()
            continue
        (read,) = mine
        if OPEN in read:
            at, copy = future_in(read, start)
            assert at == 0 or "random" in options
            assert 1 <= len(copy) <= min(made.span, length - at)
            sources = range(at, length - len(copy) + 1)
            assert any(copy == answer[source : source + len(copy)] for source in sources)
            whole = [*prompt, *answer[:at], OPEN, *copy, CLOSE, *answer[at:]]
            ours = [start + place + (len(copy) + 2 if place >= at else 0) for place in range(length)]
            others = [start + at + 1 + place for place in range(len(copy) + 1)]
            places.add(at)
        else:
            whole, ours, others = [*prompt, *answer], [start + place for place in range(length)], []
        shared = min(len(whole), len(read))
        assert read[:shared] == whole[:shared]
        assert len(read) >= len(whole) - 1
        with torch.no_grad():
            logits = made.backbone.logits(made.backbone(made.backbone.embed(torch.tensor([whole]))))[0]
        losses = [-logits[column - 1].log_softmax(-1)[whole[column]].item() for column in range(1, len(whole))]
        mean = [losses[column - 1] for column in ours]
        answers += mean
        inserted += [losses[column - 1] for column in others]
        assert out.per_token[row, start : start + length].tolist() == pytest.approx(mean, rel=1e-4)
        assert not out.per_token[row, :start].any()
        assert not out.per_token[row, start + length :].any()
    number = len(answers) + len(inserted)
    assert inserted
    assert len(places) > 1 or "random" not in options
    assert out.parts["answer"].item() == pytest.approx(sum(answers) / number, rel=1e-4)
    assert out.parts["inserted"].item() == pytest.approx(sum(inserted) / number, rel=1e-4)


def distinct_answers(rows: int) -> Batch:
    """Answers of distinct tokens, so that a copy tells where it is from."""
    tokens = random_batch(rows=rows, prompt=8).tokens
    tokens[:, 8:] = torch.tensor([2, 3, 4, 5])
    return Batch.of(tokens, 8, 4)


def assert_share(count: int, of: int, share: float) -> None:
    """Within four standard deviations."""
    assert count == pytest.approx(of * share, abs=4 * math.sqrt(of * share * (1 - share)))


def test_a_share_of_rows_has_a_future_of_any_length_and_source() -> None:
    plain, futures = inputs_read(made_on(":share=0.3,span=3"), distinct_answers(4000))
    assert len(plain) + len(futures) == 4000
    assert_share(len(futures), 4000, 0.3)
    copies = [future_in(row, 8)[1] for row in futures]
    for length in (1, 2, 3):
        sources = [copy[0] - 2 for copy in copies if len(copy) == length]
        assert_share(len(sources), len(copies), 1 / 3)
        for source in range(4 - length + 1):
            assert_share(sources.count(source), len(sources), 1 / (4 - length + 1))


def test_a_random_place_is_uniform_and_what_is_copied_lies_behind_it() -> None:
    made = made_on(":share=1,place=random")
    futures = [future_in(row, 8) for row in inputs_read(made, distinct_answers(2000))[1]]
    for place in range(4):
        at_place = [copy for at, copy in futures if at == place]
        assert_share(len(at_place), 2000, 1 / 4)
        assert {copy[0] - 2 for copy in at_place} == set(range(place, 4))
        assert {len(copy) for copy in at_place} == set(range(1, min(3, 4 - place) + 1))


@pytest.mark.parametrize("share", [0.5, 1])
def test_rows_that_share_a_prefix_are_drawn_together_and_read_once(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = PathStar(degree=2, length=4, nodes=10, goals="all")
    batch = task.sample(32, stream("test")).sharing(task.group, task.shared_prefix)
    vocab = task.vocab.extended(FutureInsertion.symbols)
    made = FutureInsertion(SMALL[LEARNED](vocab, rng()), vocab, rng(), share=share)
    # Rows that are no whole groups are read apart, however many of them are drawn: only one graph's share a prefix.
    odd = batch.rows(torch.arange(0, 31, 2)[:7])
    for draw in range(8):
        claimed = made.loss(odd.sharing(task.group, task.shared_prefix), rng("odd", draw))
        torch.testing.assert_close(claimed.per_token, made.loss(odd, rng("odd", draw)).per_token)
    with embedded_tokens(made) as once:
        joint = made.loss(batch, rng())
    monkeypatch.setattr(teacher_forcing, "can_share_prefix", lambda *_: False)
    with embedded_tokens(made) as apart:
        separate = made.loss(batch, rng())
    torch.testing.assert_close(joint.per_token, separate.per_token)
    torch.testing.assert_close(joint.total, separate.total)
    assert sum(map(torch.numel, once)) < 0.8 * sum(map(torch.numel, apart))
    assert [len(tokens) % 2 for tokens in apart] == [0] * len(apart)
    assert len(apart) == (2 if share < 1 else 1)


def test_a_span_beyond_the_answer_costs_no_columns() -> None:
    made = build("future-insertion:share=1.0,span=40", LEARNED)
    batch = random_batch(4, 6, 4)
    assert inputs_of(made, batch).shape[1] < 6 + 2 * 4 + 2


def next_logits(made: Any, read: list[int]) -> Tensor:
    """[V], from a whole pass."""
    logits: Tensor = made.backbone.logits(made.backbone(made.backbone.embed(torch.tensor([read]))))
    return logits[0, -1]


def future_by_loops(made: Any, prompt: list[int]) -> list[int]:
    """``<T>``, what the model writes after it, and ``</T>``."""
    future = [OPEN]
    while len(future) <= made.span and (token := int(next_logits(made, prompt + future).argmax())) != CLOSE:
        future.append(token)
    return [*future, CLOSE]


def closing_early(made: Any) -> Any:
    """With ``</T>`` likely enough that futures of every length are written."""
    with torch.no_grad():
        made.backbone.get_parameter("token_table" if isinstance(made.backbone, Transformer) else "table")[CLOSE] *= 1.6
    return made


@pytest.mark.parametrize("backbone", [LEARNED, "recurrent"])
def test_planned_decoding_predicts_a_future_and_returns_the_answer_alone(backbone: str) -> None:
    """Against plain loops over rows and whole passes."""
    made, prompts = closing_early(made_on(":plan=true", backbone)), random_batch(rows=40).prompts
    with torch.no_grad():
        answers = made.generate(prompts, 4)
        lengths = set()
        for row, prompt in enumerate(prompts.tolist()):
            read = prompt + future_by_loops(made, prompt)
            lengths.add(len(read) - len(prompt) - 2)
            for place in range(4):
                assert int(next_logits(made, read).argmax()) == answers[row, place]
                read.append(int(answers[row, place]))
        assert lengths == {0, 1, 2, 3}
