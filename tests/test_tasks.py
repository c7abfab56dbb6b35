"""Every registered task keeps what DESIGN section 9 asks of tasks. To add a task, add a line to ``CASES``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from refusals import refused
from task_checks import check_all

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.spec import describe, resolve
from foresee.core.vocabulary import Vocabulary
from foresee.tasks import Task, tasks
from foresee.tasks.data import Data
from foresee.tasks.text import TextForm
from foresee.training.data import draw


@dataclass(frozen=True)
class Case:
    """A task to check: ``one`` says that every prompt has one right answer, which ``sample`` gives and ``solve`` finds,
    and ``golden`` is what ``golden_digest`` gives for it."""

    spec: str
    one: bool
    golden: str


CASES = [
    Case("path-star:degree=2,length=4,nodes=20,goals=one", True, "352ed99c5c65ab7a"),
    Case("path-star:degree=2,length=4,nodes=20,goals=all,generalised=path", True, "df962df843d7e075"),
    Case("path-star:degree=2,length=4,nodes=20,goals=one,seed_length=3", True, "dbe94f87c258ee35"),
    Case(
        "path-star:degree=2,length=4,nodes=20,goals=one,sizes=mixed,seed_length=2,seed_symbols=5",
        True,
        "9920a3ed76eca849",
    ),
    Case("path-star-branch:degree=3,length=4,nodes=20,goals=one", True, "b274cbc95366caf5"),
    Case("path-star-branch:degree=2,length=4,nodes=20,goals=all,sizes=mixed", True, "9cd5ff646d1a4e2a"),
    Case("sibling-discovery:parents=5,siblings=20", False, "1a2f048ce5223a12"),
    Case("sibling-discovery:parents=3,siblings=4,kinds=4,seed_length=4", False, "769f0b5c676c6820"),
    Case("circle-construction:symbols=8,nodes=7", False, "9be7559973bcea81"),
    Case("circle-construction:symbols=9,nodes=6,seed_length=4", False, "98c0723896634597"),
    Case("line-construction:symbols=8,nodes=7", False, "a0d60a14bb32f2a1"),
    Case("triangle-discovery:nodes=40", False, "f04f57a557abc5aa"),
    Case("triangle-discovery:nodes=40,seed_length=4", False, "cfc76bed04f2ecbb"),
    Case("retrieval:pairs=50", True, "2fc0d32e3d9594ae"),
    Case("retrieval:pairs=50,key_length=2,value_length=3,asked=forward", True, "ddc10984a17032ea"),
    Case(
        "retrieval:pairs=50,symbols=60,key_length=1,value_length=1,both_ways=0.2,seed_length=2",
        True,
        "ee14767eaef368ca",
    ),
    Case("in-weights-path-star:degree=20,length=4", False, "de2282638a7f42c2"),
    Case(
        "in-weights-path-star:degree=8,length=3,pauses=3,query=start-goal,directions=backward", True, "3e0e19ffde9ed259"
    ),
    Case(
        "in-weights-path-star:degree=8,length=3,answer=first,directions=forward,seed_length=2",
        False,
        "9b208e324c82ddde",
    ),
    Case("copying:length=6,symbols=12", True, "1df452facc7d97a4"),
    Case("sorting:length=5,symbols=30", True, "b2595e80672b5a64"),
    Case("noisy-chain:length=6,states=5,noise=0.3,key=6", True, "99eef495e25eadb6"),
    Case("addition:digits=3", True, "2f6e0ff1c9cb75d7"),
    Case("addition:digits=4,order=reversed,seed_length=2", True, "df7fd6b5c68dae8d"),
    Case("multiplication:digits=2", True, "e0f5025b3d9206de"),
    Case("multiplication:digits=3,order=reversed", True, "89db5d41dfbba318"),
    Case("countdown:numbers=3,largest=20,results=50", False, "3046f7897f59b0a0"),
    Case("countdown:numbers=4,largest=30,results=60", False, "fa5b42c001637bff"),
    Case("star:degree=3,shortest=3,longest=6,plan=2,nodes=20", True, "5b9390716ecb4e01"),
    Case("minimal-planning:steps=4,nodes=12", True, "6de5b46ffce6e4a9"),
    Case("minimal-planning:steps=1,nodes=300", True, "275d6ba403bc729b"),
    Case("three-sat:variables=4,clauses=10", False, "c91ae36ef5dd46a7"),
    Case("sudoku:box=2,clues=6", True, "e860e6e3bad611af"),
    Case("data:tests/own_data.jsonl", True, "d7abc12e41e927c8"),
]
specs = pytest.mark.parametrize("case", CASES, ids=lambda case: case.spec)

ROWS = 48


@lru_cache
def built(text: str) -> Task:
    return resolve(tasks, text).build()


@lru_cache
def sampled(text: str) -> Batch:
    return built(text).sample(ROWS, seeds.stream("test tasks", text))


def golden_digest(text: str) -> str:
    """16 hexadecimal characters of what the task draws from a stream, and of the first problems of both splits."""
    task, resolved = built(text), resolve(tasks, text)
    batches = [task.sample(ROWS, seeds.stream("golden"))]
    batches += [draw(task, resolved.text, split, 6 * task.group, 0) for split in ("train", "test")]
    found = hashlib.sha256()
    for batch in batches:
        for tensor in (batch.tokens, batch.prompt_len, batch.answer_len):
            found.update(str(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
    return found.hexdigest()[:16]


def test_every_registered_task_is_in_the_cases_and_presets_draw_examples_and_solve_them() -> None:
    built_in = {name for name in tasks.names() if tasks.get(name).__module__.startswith("foresee.")}
    assert {resolve(tasks, case.spec).name for case in CASES} == built_in
    for preset in tasks.presets():
        task = built(preset)
        for prompt, answer in task.sample(4, seeds.stream("preset")).pairs():
            assert task.verify(prompt, answer)
            assert task.verify(prompt, task.solve(prompt))


@specs
def test_the_same_stream_gives_the_same_bytes_which_stay_what_they_were(case: Case) -> None:
    task, batch = built(case.spec), sampled(case.spec)
    again = resolve(tasks, case.spec).build().sample(ROWS, seeds.stream("test tasks", case.spec))
    assert torch.equal(batch.tokens, again.tokens)
    assert batch.facts.keys() == again.facts.keys()
    assert all(torch.equal(fact, again.facts[name]) for name, fact in batch.facts.items())
    assert not torch.equal(batch.tokens, task.sample(ROWS, seeds.stream("another stream")).tokens)
    assert len(task.sample(1, seeds.stream("one row"))) == 1
    assert golden_digest(case.spec) == case.golden
    assert describe(tasks, task) == resolve(tasks, case.spec).text
    assert resolve(tasks, resolve(tasks, case.spec).text) == resolve(tasks, case.spec)


@specs
def test_examples_answers_facts_and_lines_agree(case: Case) -> None:
    task = built(case.spec)
    check_all(task, sampled(case.spec), seeds.stream("changes", case.spec), one=case.one)
    for nonsense in ("", "nonsense", "=", "1", "\x00", "=" * 40):
        if not isinstance(task, Data):  # a line that is no JSON object is a prompt
            with pytest.raises(RequestError):
                task.read_line(nonsense + "!")


@specs
def test_splits_share_no_problem(case: Case) -> None:
    task, text = built(case.spec), resolve(tasks, case.spec).text
    drawn = {
        split: [task.identity(draw(task, text, split, 40 * task.group, seed)) for seed in (0, 1)]
        for split in ("train", "test")
    }
    for identity in (identity for pair in drawn.values() for identity in pair):
        assert identity.dtype == numpy.uint64
        assert identity.shape == (40 * task.group,)
    assert not numpy.intersect1d(numpy.concatenate(drawn["train"]), numpy.concatenate(drawn["test"])).size
    assert drawn["train"][0].tolist() != drawn["train"][1].tolist()


@specs
def test_any_output_of_a_model_is_judged_and_shown(case: Case) -> None:
    task, (prompt, right) = built(case.spec), next(sampled(case.spec).pairs())
    known = st.integers(0, len(task.vocab) - 1)
    anything = st.one_of(known, st.integers(-(2**63), 2**63 - 1))
    changes = st.lists(st.tuples(st.integers(0, len(right) - 1), anything), max_size=3)

    @settings(max_examples=40)
    @given(
        st.one_of(
            st.lists(anything, max_size=2 * len(right)),
            st.lists(known, min_size=len(right), max_size=len(right)),
            changes.map(lambda made: [dict(made).get(place, token) for place, token in enumerate(right)]),
        )
    )
    def check(answer: list[int]) -> None:
        accepted = task.verify(prompt, answer)
        assert isinstance(accepted, bool)
        assert accepted or answer != right
        # Shown before it is judged: a reason is a sentence, and there is none for a right answer.
        assert "\n" not in task.write_line(prompt, answer)
        reason = task.fault(prompt, answer)
        assert (reason is None) == accepted or isinstance(task, Data)

    check()


@specs
def test_labels_may_be_words_of_a_checkpoint_and_what_is_drawn_and_how_runs_are_named_stay(case: Case) -> None:
    plain = resolve(tasks, case.spec)
    assert ("labels" in plain.options) == (built(case.spec.partition(",seed_length")[0]).text.noun == "label")
    if "labels" not in plain.options:
        return
    words = resolve(tasks, f"{case.spec},labels=words")
    assert resolve(tasks, f"{case.spec},labels=numbers").text == plain.text
    assert "labels" not in plain.text
    assert "labels=words" in words.text
    task = words.build()
    assert [*task.vocab] == [*built(case.spec).vocab]
    assert task.vocab.words == sum(symbol.isdecimal() for symbol in task.vocab) > 0
    assert torch.equal(task.sample(ROWS, seeds.stream("test tasks", case.spec)).tokens, sampled(case.spec).tokens)


# The text form


LETTERS = Vocabulary((*"abc", "|", "=", "go:"))


@given(st.lists(st.sampled_from("abc|"), max_size=9), st.lists(st.sampled_from("abc|="), max_size=9))
def test_every_form_reads_back_what_it_writes(prompt: list[str], answer: list[str]) -> None:
    for form in (
        TextForm(marks=("|", "="), answer_marks=("|", "=")),
        TextForm(marks=("|", "="), separator=""),
        TextForm(marks=("go:", "=", "|"), answer_marks=("|", "="), separator=" "),
    ):
        line = form.write_prompt([*prompt, "="]) + form.write_answer(answer)
        assert form.read(line, LETTERS) == (LETTERS.encode([*prompt, "="]), LETTERS.encode(answer))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("3,1", "there is no '=' where the problem ends; a line reads 3,1,2=1,2,3"),
        ("3,11=", "number '11' in the prompt is out of range: it must be from 0 to 9"),
        ("3,01=", "number '01' in the prompt is not a whole number written in plain digits"),
        *((f"3=1,{odd}", f"number '{odd}' in the answer is not a whole number") for odd in ("²", "٣", "-3", "x", "")),
        ("3,=", "number '' in the prompt is not a whole number"),
        ("7" * 10_000 + "=", "out of range"),
    ],
)
def test_what_is_no_symbol_is_named(line: str, reason: str) -> None:
    with refused(reason) as caught:
        TextForm().read(line, Vocabulary((*"0123456789", "=")))
    assert len(str(caught.value)) < 200
    form = TextForm(marks=("|", "="), item="pair", between="|")  # parts of a list are counted
    for other, said in (("a,b|a,d|c=", "'d' in pair 2 is not a symbol of the task"), ("a,b|c=d", "'d' in the answer")):
        with refused(said):
            form.read(other, LETTERS)
