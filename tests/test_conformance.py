"""Parts of one's own: what their authors get wrong is said in one sentence before anything is trained."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy
import pytest
import torch
from objective_support import LEARNED, OBJECTIVES
from support import SMALL, Recurrent, build, random_batch
from torch import nn

import foresee
from foresee.backbones import Backbone
from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.registry import Registry
from foresee.core.seeds import stream, torch_stream
from foresee.core.spec import options_of, resolve
from foresee.core.vocabulary import Vocabulary
from foresee.metrics import Metric, Subject, mean, metrics, share
from foresee.metrics.measure import measure_one
from foresee.objectives import LossOut, Objective, answer_logits, answer_loss
from foresee.objectives.next_token import NextToken
from foresee.tasks import Task, TextForm, tasks
from foresee.tasks.base import WrongTurn
from foresee.training import conformance, loss_checks

STAR = foresee.task("path-star:degree=2,length=3,nodes=10")
TASKS = [
    *tasks.presets(),
    *(each for each in tasks.names() if all(option.default is not option.empty for option in
      options_of(tasks.get(each)).values())),
]  # fmt: skip
EXAMPLES = STAR.sample(16, stream("test", "conformance"))


@pytest.fixture(autouse=True)
def _global_stream() -> Iterator[None]:
    """Parts here draw from global streams, as their authors' do."""
    state = numpy.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng(devices=()):
        yield
    numpy.random.set_state(state)  # noqa: NPY002


def check(objective: Objective) -> list[str]:
    """The warnings of an objective that passes."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        conformance.check_model(STAR, objective, EXAMPLES, 100)
    return [str(each.message) for each in said if each.category is ForeseeWarning]


def own(base: type = NextToken, backbone: str = "transformer:layers=2,width=16,heads=1", **body: Any) -> Objective:
    """An objective of one's own on a small backbone: next-token but for what ``body`` defines."""
    made = foresee.backbone(backbone, STAR.vocab)
    objective: Objective = type("Mine", (base,), {"__module__": __name__, **body})(
        made, STAR.vocab, torch_stream("test")
    )
    return objective


def changed(**fields: Any) -> Any:
    """A loss whose outcome differs from next-token's in some fields."""

    def loss(self: Objective, batch: Batch, rng: torch.Generator) -> LossOut:
        out = NextToken.loss(self, batch, rng)  # type: ignore[arg-type]  # it inherits from it
        return replace(out, **{name: change(out) for name, change in fields.items()})

    return loss


def hand_written(shift: int) -> Any:
    """Next-token's loss in plain PyTorch, which predicts what it reads where ``shift`` is 0."""

    def loss(self: Objective, batch: Batch, rng: torch.Generator) -> LossOut:
        columns = batch.tokens.shape[1] - shift
        logits = self.backbone.logits(self.backbone(self.backbone.embed(batch.tokens[:, :columns])))
        each = nn.functional.cross_entropy(logits.transpose(1, 2), batch.tokens[:, shift:], reduction="none")
        each = nn.functional.pad(each, (shift, 0)) * batch.in_answer()
        total = each.sum() / batch.in_answer().sum()
        return LossOut(total, {"mine": total}, each.detach())

    return loss


def hide_globally(self: Objective, batch: Batch, rng: torch.Generator) -> LossOut:
    hidden = batch.in_answer() & (torch.rand(batch.tokens.shape) < 0.5)
    return answer_loss(answer_logits(self.backbone, batch.tokens.masked_fill(hidden, 0), batch), batch, "mine")


def hide_in_place(self: Objective, batch: Batch, rng: torch.Generator) -> LossOut:
    batch.tokens[batch.in_answer()] = 0
    return answer_loss(answer_logits(self.backbone, batch.tokens, batch), batch, "mine")


def read_facts(self: Objective, batch: Batch, rng: torch.Generator) -> LossOut:
    return answer_loss(answer_logits(self.backbone, batch.tokens, batch) * batch.facts["branch"][0], batch, "mine")


def make_module(self: Objective, batch: Batch, rng: torch.Generator) -> LossOut:
    head = nn.Linear(16, len(self.vocab))
    states = self.backbone(self.backbone.embed(batch.tokens))
    return answer_loss(head(states[:, batch.layout.first - 1 : -1]), batch, "mine")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"loss": lambda self, batch, rng: NextToken.loss(self, batch, rng).total}, "must return a LossOut"),
        ({"loss": changed(total=lambda out: out.total * torch.ones(2))}, r"must be .* one finite number, not .*\[2\]"),
        ({"loss": changed(total=lambda out: out.total * torch.nan)}, "one finite number, not nan"),
        ({"loss": changed(parts=lambda out: {"a": out.total.item()})}, "a must be .*, not a float"),
        ({"loss": changed(total=lambda out: 2 * out.total)}, "parts add up to"),
        ({"loss": changed(total=lambda out: out.total.detach())}, "total has no gradient"),
        ({"loss": changed(parts=lambda out: [out.total])}, "parts must be a dict of tensors by name"),
        ({"loss": changed(parts=lambda out: {0: out.total})}, "parts must be a dict of tensors by name"),
        ({"loss": changed(per_token=lambda out: out.per_token[:, -3:])}, r"must be .*\[8, 18\], not .*\[8, 3\]"),
        ({"loss": changed(per_token=lambda out: out.per_token.tolist())}, "per_token must be .* not a list"),
        ({"loss": changed(per_token=lambda out: out.per_token / 0)}, "finite floating-point .* not nan or infinite"),
        ({"loss": changed(per_token=lambda out: out.per_token.long())}, "finite floating-point .* not torch.int64"),
        ({"loss": changed(total=lambda out: [out.total, out.total.backward(retain_graph=True)][0])}, "backward itself"),
        ({"loss": lambda self, batch, rng: 1 / 0}, r"Mine.loss \(on Transformer\) raises ZeroDivisionError: .* \(line"),
        ({"loss": changed(total=lambda out: [torch.manual_seed(0), out.total][1])}, "global stream of torch or NumPy"),
        ({"loss": changed(total=lambda out: out.total + 0 * numpy.random.rand())}, "global stream of torch or NumPy"),  # noqa: NPY002
        ({"loss": hide_globally}, "for the same batch and stream; draw from `rng`"),
        ({"loss": hide_in_place}, "changes the tokens of its batch"),
        ({"loss": read_facts}, "facts tell the solution"),
        ({"loss": make_module}, r"weights of shapes \[14\], \[14, 16\] that are none of its parameters"),
        ({"generate": lambda self, prompt, n: torch.cat((prompt, prompt[:, :n]), 1)}, r"generate must be .*\[8, 3\]"),
        ({"generate": lambda self, prompt, n: prompt[:, :n].tolist()}, "generate must be .* not a list"),
        ({"generate": lambda self, prompt, n: prompt[:, :n] + 14}, "generate gives .* tokens are 0 to 13"),
        ({"generate": lambda self, prompt, n: torch.randint(14, (len(prompt), n))}, "other answers when called again"),
        ({"generate": lambda self, prompt: prompt}, "generate raises TypeError: .* positional argument"),
        ({"order": "sideways"}, "order='sideways' must be one of forward, backward, parallel"),
        ({"begin_step": lambda self: None}, "begin_step raises TypeError"),
        ({"__init__": lambda self, *given: nn.Module.__init__(self)}, r"must call super\(\).__init__\(backbone, vocab"),
        ({"forced": lambda self, batch: answer_logits(self.backbone, batch.tokens, batch)}, "log-probabilities"),
        (
            {"forced": lambda self, batch: self.backbone.logits(
                self.backbone(self.backbone.embed(batch.tokens))[:, batch.layout.first :]).log_softmax(-1)},
            "forced reads token 0 of the answer before its turn",
        ),
        ({"order": "backward"}, "forced reads token 0 of the answer before its turn"),
    ],
)  # fmt: skip
def test_mistakes_in_an_objective(body: dict[str, Any], said: str) -> None:
    with pytest.raises(RequestError, match=said) as refused:
        check(own(**body))
    assert "\n" not in str(refused.value)


def test_a_loss_that_reads_what_it_predicts_is_warned_of() -> None:
    assert check(own(loss=hand_written(1))) == []
    (said,) = check(own(loss=hand_written(0)))
    assert "does it read what it predicts" in said


def read_by(look_up: Any, ahead: int = 0) -> Any:
    """An objective whose loss sees its targets, or later tokens, by a table of its own."""

    def init(self: Any, *given: Any) -> None:
        NextToken.__init__(self, *given)
        self.table = nn.Parameter(torch.randn(len(self.vocab), 16))

    def loss(self: Any, batch: Batch, rng: torch.Generator) -> LossOut:
        first, last = batch.layout.first, batch.layout.last
        states = self.backbone(self.backbone.embed(batch.tokens))[:, first - 1 : last - 1]
        seen = look_up(self.table, batch.tokens.roll(-ahead, 1))[:, first:last]
        return answer_loss(self.backbone.logits(states + seen), batch, "mine")

    return own(__init__=init, loss=loss)


@pytest.mark.parametrize("look_up", [lambda table, tokens: table[tokens],
                                     lambda table, tokens: nn.functional.embedding(tokens, table)])  # fmt: skip
def test_a_leak_through_another_table_is_warned_of(look_up: Any) -> None:
    (said,) = check(read_by(look_up))
    assert "answer token 0 changes where the network is shown another in its place" in said
    (said,) = check(read_by(look_up, ahead=1))
    assert "answer token 0 changes where the network is shown another token 1" in said


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_leak_at_any_one_token_is_warned_of(place: int) -> None:
    def loss(self: Objective, batch: Batch, rng: torch.Generator) -> LossOut:
        """As ``hand_written``, but one state of the answer reads one token further."""
        states = self.backbone(self.backbone.embed(batch.tokens))
        columns = torch.arange(batch.layout.first - 1, batch.layout.last - 1)
        columns[place] += 1
        return answer_loss(self.backbone.logits(states[:, columns]), batch, "mine")

    (said,) = check(own(loss=loss))
    assert f"answer token {place} changes where the network is shown another in its place" in said


@pytest.mark.parametrize("draws", [False, True])
def test_a_token_that_a_loss_forgets_is_named(draws: bool) -> None:
    def loss(self: Objective, batch: Batch, rng: torch.Generator) -> LossOut:
        out = NextToken.loss(self, batch, rng)  # type: ignore[arg-type]  # it inherits from it
        weights = torch.ones(batch.tokens.shape)
        if draws:  # one token of each row
            columns = torch.randint(batch.layout.first, batch.layout.last, (len(batch), 1), generator=rng)
            weights = torch.zeros(batch.tokens.shape).scatter(1, columns, 1)
        weights[:, batch.layout.last - 1 :] *= float(self.keeps_last)  # type: ignore[arg-type]  # a number of the class
        return replace(out, per_token=out.per_token * weights)

    assert check(own(loss=loss, keeps_last=1)) == []
    (said,) = check(own(loss=loss, keeps_last=0))
    assert said.endswith("asks for no answer token 2: its per_token is 0 there in every row")


def test_weights_that_do_not_follow_the_generator_are_refused() -> None:
    def init(self: Any, *given: Any) -> None:
        NextToken.__init__(self, *given)
        self.scale = nn.Parameter(torch.tensor(numpy.random.default_rng().random(3)))

    made, again = own(__init__=init), own(__init__=init)
    with pytest.raises(RequestError, match=r"Mine\.__init__ gives scale other values when it is built again"):
        conformance.check_model(STAR, made, EXAMPLES, 100, lambda: again)


def test_parameters_that_a_loss_leaves_out_are_named() -> None:
    def init(self: Any, *given: Any) -> None:
        NextToken.__init__(self, *given)
        self.idle = nn.Linear(2, 2)

    (said,) = check(own(__init__=init))
    assert said.endswith("leaves parameters out: idle.weight, idle.bias")


class Careless(Recurrent):
    """A GRU with one mistake."""

    mistake = ""

    def forward(self, x: torch.Tensor, **how: Any) -> torch.Tensor:
        keep = how.pop("keep", None)
        out = super().forward(x, **how)
        if self.mistake == "dropout":
            out = nn.functional.dropout(out, 0.1, self.training)
        if self.mistake == "rows":
            out = out - 0.1 * out.mean(0)
        if self.mistake == "always dropout":
            out = nn.functional.dropout(out, 0.1)
        if self.mistake == "nan":
            out = out / 0
        return out if keep is None or self.mistake == "keep" else out[:, keep]

    def step(self, x: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        given = super().step(x, torch.zeros_like(state) if self.mistake == "step" else state)
        return None if self.mistake == "none" else given  # type: ignore[return-value]  # that is the mistake


@pytest.mark.parametrize(
    ("mistake", "said"),
    [
        ("keep", r"forward with keep=slice\(1, 3\) must be a tensor .*\[8, 2, 32\], not .*\[8, 8, 32\]"),
        ("step", "step 1 after start gives other states than forward"),
        ("none", "Mine.step must give two things, a state .* not a NoneType"),
        ("rows", "Mine.forward gives a row other states beside another row than alone"),
        ("always dropout", "Mine.forward gives other states of the same input when called again"),
        ("nan", "Mine.forward gives states that are not finite"),
        ("dropout", "no dropout"),
        ("double", "embed must be a tensor torch.float32 .* not torch.float64"),
    ],
)
def test_mistakes_in_a_backbone(mistake: str, said: str) -> None:
    kind = type("Mine", (Careless,), {"mistake": mistake})

    def use() -> None:
        made = kind(STAR.vocab, torch_stream("test"))
        check(NextToken(made.double() if mistake == "double" else made, STAR.vocab))

    with pytest.raises(RequestError, match=said):
        use()


def test_a_backbone_without_a_method_or_its_width_is_refused() -> None:
    def init(self: Any, vocab: Vocabulary, generator: torch.Generator) -> None:
        nn.Module.__init__(self)
        self.vocab_size = len(vocab)

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(1)

    for body, said in (
        ({"__init__": init}, "measuring Mine raises AttributeError: 'Mine' object has no attribute 'width'"),
        ({"forward": forward}, "measuring Mine raises TypeError: .* unexpected keyword argument 'attend'"),
        ({"step": Backbone.step}, "constructing Mine raises TypeError: .* abstract method '?step"),
    ):
        with pytest.raises(RequestError, match=said):
            type("Mine", (Careless,), body)(STAR.vocab, torch_stream("test"))


@pytest.mark.parametrize(("given", "said"), [((1,), "not a tuple"), (None, "not a NoneType")])
def test_a_backbone_that_gives_no_states(given: Any, said: str) -> None:
    kind = type("Mine", (Careless,), {"forward": lambda self, x, **how: given})
    with pytest.raises(RequestError, match=said):
        kind(STAR.vocab, torch_stream("test"))


OF: Any = Batch.of
DIGITS = Vocabulary((*"0123456789", "="))


@dataclass(frozen=True, kw_only=True)
class Sum(Task):
    """The last digit of the sum of three, as a plug-in would write it: arrays of any whole numbers."""

    summary = "the last digit of a sum of three"
    text = TextForm("123=6", separator="")

    def __post_init__(self) -> None:
        self.declare(vocab=DIGITS, chance=0.1, prompt_length=4, answer_length=1)

    def draw(self, n: int, rng: numpy.random.Generator) -> Any:
        digits = rng.integers(0, 10, (n, 3))
        return numpy.concatenate([digits, numpy.full((n, 1), 10), digits.sum(1, keepdims=True) % 10], 1)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        return Batch.of(self.draw(n, rng).astype(numpy.int32), 4, 1)

    def solve(self, prompt: Any) -> Any:
        return numpy.array([sum(int(token) for token in prompt[:3]) % 10])


def decided(branch: Any = None, **body: Any) -> dict[str, Any]:
    """What a task says of a decision at its one token."""
    count = branch or partial(torch.zeros, dtype=torch.int64)
    return {"sample": lambda self, n, rng: Batch.of(self.draw(n, rng), 4, 1, {"branch": count(n)}), **body}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"solve": lambda self, prompt: [0]}, "verify refuses what sample gives"),
        ({"solve": lambda self, prompt: None}, "solve must give a list of tokens, not None"),
        ({"solve": lambda self, prompt: prompt[9]}, "Mine.solve raises IndexError: list index out of range .line"),
        ({"text": "1,2=3"}, "text must be a TextForm, not a str"),
        ({"vocab": property(lambda self: list("01"))}, "vocab must be a Vocabulary, not a list"),
        ({"answer_length": property(lambda self: 1.5)}, "answer_length must be a whole number from 1 up, not 1.5"),
        ({"hops": 2.5}, "hops must be a whole number from 0 up, not 2.5"),
        ({"end": 10}, r"its end is token 10, but it samples answer \[\d\]; that token must close every answer"),
        ({"end": "="}, "end must be a whole number from 0 up, not '='"),
        ({"group": 2, "shared_prefix": 3}, r"first 3 columns \(shared_prefix\) differ within 2 .* rows \(group\)"),
        ({"group": 2}, "identity differs within 2 consecutive rows"),
        ({"identity": lambda self, batch: numpy.arange(len(batch), dtype=numpy.uint64)}, "another number when"),
        (
            {"identity": lambda self, batch: numpy.random.default_rng().integers(99, size=len(batch), dtype="uint64")},
            "identity gives a row another number when it is asked again",
        ),
        ({"verify": lambda self, prompt, answer: list(answer) == [0]}, "sample, solve and verify must agree"),
        ({"verify": lambda self, prompt, answer: True}, "verify accepts a wrong answer"),
        ({"draw": lambda self, n, rng: Sum.draw(self, n, numpy.random.default_rng())}, "other examples from the same"),
        ({"draw": lambda self, n, rng: Sum.draw(self, n, numpy.random.default_rng(0))}, "same examples from any"),
        ({"draw": lambda self, n, rng: Sum.draw(self, n, rng) + 3}, "its tokens are 0 to 10"),
        ({"draw": lambda self, n, rng: Sum.draw(self, n // 2, rng)}, "4 rows where 8 are asked for"),
        ({"sample": lambda self, n, rng: [([1], [2])] * n}, "must return a Batch"),
        ({"sample": lambda self, n, rng: Batch.of(self.draw(n, rng) / 2, 4, 1)}, "tokens are .*, and must be whole"),
        ({"sample": lambda self, n, rng: OF(self.draw(n, rng), 4.0, 1)}, "prompt_len is 4.0, and must be whole"),
        ({"sample": lambda self, n, rng: OF(self.draw(n, rng), [4], 1)}, r"prompt_len has shape \(1,\), but"),
        ({"identity": lambda self, batch: batch.prompts.sum(1)}, "8 numpy.uint64"),
        (decided(branch=torch.zeros), "'branch' must be a tensor torch.int64 .8., not torch.float32"),
        (decided(implied=lambda self, batch, decisions: batch.answers[:, 0]), "implied must give None or a tensor"),
        (decided(implied=lambda self, batch: None), "Mine.implied raises TypeError"),
        ({"wrong_turn": lambda self, batch, rng: batch.answers}, "wrong_turn must give None or a WrongTurn"),
        (
            decided(wrong_turn=lambda self, batch, rng: WrongTurn(
                torch.arange(len(batch)), torch.zeros(len(batch)), batch.answers)),
            "wrong_turn must give None or a WrongTurn",
        ),
        (decided(lure=lambda self, batch, rng: (batch, batch)), "lure must give None or a Lure"),
        (
            {"sample": lambda self, n, rng: Batch.of(self.draw(n, rng), 4, 1, {"branch": torch.full((n,), 4)})},
            "'branch' .* counts answer tokens from 0",
        ),
        ({"read_tokens": lambda self, line: ([1, 2, 3, 10], [6])}, "is not read back as it was"),
        ({"__post_init__": lambda self: self.declare(
            vocab=DIGITS, chance=0.1, prompt_length=3, answer_length=1)}, "prompts of 1 to 3 tokens, but samples"),
        ({"__post_init__": lambda self: self.declare(
            vocab=DIGITS, chance=10, prompt_length=4, answer_length=1)}, "chance=10 must be a share"),
        ({"__post_init__": lambda self: self.declare(
            vocab=list("01"), chance=0.1, prompt_length=4, answer_length=1)}, "vocab must be a Vocabulary, not a list"),
        ({"__post_init__": lambda self: None}, r"call self.declare\("),
    ],
)  # fmt: skip
def test_mistakes_in_a_task(body: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        conformance.check_task(type("Mine", (Sum,), {"__module__": __name__, **body})())


def test_a_task_of_plain_arrays_passes() -> None:
    conformance.check_task(Sum())
    lists = {"sample": lambda self, n, rng: OF(self.draw(n, rng), [4] * n, numpy.ones(n, numpy.int32))}
    conformance.check_task(type("Mine", (Sum,), lists)())


@pytest.mark.parametrize(
    ("give", "said"),
    [
        (lambda right, problems: None, "must return rows by name, not a NoneType"),
        (lambda right, problems: {1: share(right, problems)}, "names a row 1; names are text"),
        (lambda right, problems: {"my": 0.5}, "gives 0.5 for 'my'; give what foresee.metrics.share or mean gives"),
        (lambda right, problems: {"my": right.float().mean()}, "for 'my'; give what"),
        (lambda right, problems: {"my": mean(right * torch.nan, problems)}, "finite numbers of Python"),
        (lambda right, problems: {"my": [{"value": numpy.float32(1), "n": 3}]}, "finite numbers of Python"),
        (lambda right, problems: {"my": share(right.float(), problems)}, "share counts true and false"),
        (lambda right, problems: {"my": mean(right.float()[:5], problems)}, "give each value its problem"),
        (lambda right, problems: {"my": mean(torch.rand(len(right)), problems)}, "other rows when it measures again"),
        (lambda right, problems: 1 / 0, "metric 'mine' raises ZeroDivisionError: division by zero"),
    ],
)
def test_mistakes_in_a_metric(give: Any, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Metric):
        summary = "a metric"

        def measure(self, subject: Subject) -> Any:
            return give((subject.predictions == subject.test.answers).all(1), subject.problems)

    monkeypatch.setattr(metrics, "_classes", {})
    metrics.register("mine")(Mine)
    objective = foresee.objective("next-token", foresee.backbone("transformer:layers=1,width=16,heads=1", STAR.vocab),
                                  STAR.vocab)  # fmt: skip
    with pytest.raises(RequestError, match=said):
        check(objective)
    if "other rows" in said or "raises" in said:
        return
    subject = Subject(STAR, objective, EXAMPLES, None, torch_stream)
    with pytest.raises(RequestError, match=said):
        measure_one("mine", subject)


# What is asked of plug-ins, the package's own parts keep.


@pytest.fixture
def everything_is_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for checks in (conformance, loss_checks):
        monkeypatch.setattr(checks, "is_own", lambda part: not issubclass(part, Metric))


@pytest.mark.usefixtures("everything_is_own")
@pytest.mark.parametrize("objective", [each for each in OBJECTIVES if "random" not in each])  # shows answers elsewhere
def test_every_objective_passes(objective: str) -> None:
    conformance.check_model(STAR, build(objective, LEARNED), random_batch(), 100)


@pytest.mark.usefixtures("everything_is_own")
@pytest.mark.parametrize("backbone", SMALL)
def test_every_backbone_passes(backbone: str) -> None:
    conformance.check_model(STAR, build("next-token", backbone), random_batch(), 100)


@pytest.mark.usefixtures("everything_is_own")
@pytest.mark.parametrize("task", TASKS)
def test_every_task_passes(task: str) -> None:
    conformance.check_task(foresee.task(task))


# Constructors.


def test_weights_that_modules_draw_by_themselves_follow_the_seed() -> None:
    """PyTorch's own initialisation, as anyone writes it, is decided by the run's seed, not by the process."""
    registry: Registry[Backbone] = Registry("backbone", "foresee.backbones")

    class Plain(Careless):
        def __init__(self, vocab: Vocabulary, generator: torch.Generator) -> None:
            super().__init__(vocab, generator)
            self.cell = nn.GRU(32, 32, batch_first=True)

    class Positional(Careless):
        def __init__(self, vocab: Vocabulary, generator: torch.Generator, layers: int = 2) -> None: ...

    class Short(Careless):
        def __init__(self, vocab: Vocabulary, *, layers: int = 2) -> None: ...

    for kind in (Plain, Positional, Short):
        registry.register(kind.__name__.lower())(kind)
    before = torch.get_rng_state()
    built = [resolve(registry, "plain").build(STAR.vocab, torch_stream("weights", seed)) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    first, again, other = ([*each.parameters()] for each in built)
    assert all(map(torch.equal, first, again))
    assert not any(map(torch.equal, first, other))
    with pytest.raises(RequestError, match=r"has no option 'layers': .* make it keyword-only"):
        resolve(registry, "positional:layers=3")
    with pytest.raises(RequestError, match=r"must take \(Vocabulary, Generator\) by position"):
        resolve(registry, "short").build(STAR.vocab, torch_stream("weights"))


def test_what_cannot_be_registered_or_set_is_refused_by_name() -> None:
    registry: Registry[Any] = Registry("thing", "foresee.objectives", Objective)
    with pytest.raises(RequestError, match="Sum is registered as thing 'sum', and must be a subclass of"):
        registry.register("sum")(Sum)

    class Options(NextToken):
        def __init__(self, *given: Any, layers=2, rate=0.5, **options: Any) -> None: ...  # type: ignore[no-untyped-def]

    assert [each.annotation for each in options_of(Options).values()] == [int, float]

    def options(**annotations: Any) -> type:
        def init(self: Any, *, x: Any = 1) -> None: ...

        init.__annotations__ = annotations
        init.__kwdefaults__ = {"x": annotations.pop("default")}
        return type("Mine", (), {"__init__": init})

    for made, said in (
        (options(x=list[int], default=[1]), "option 'x' cannot be set by a spec; annotate x: float"),
        (options(default=None), "option 'x' cannot be set by a spec; annotate x: float"),
        (options(x=int, default=0.5), "option 'x' is 0.5 by default, which .*int.* does not allow"),
        (options(x=str, default=None), "option 'x' is None by default, which .*str.* does not allow"),
        (options(x="Unheard", default=1), "reading the annotations of Mine raises NameError: name 'Unheard'"),
    ):
        with pytest.raises(RequestError, match=said):
            options_of(made)


def test_a_class_that_cannot_be_constructed_is_named() -> None:
    registry: Registry[Any] = Registry("thing", "foresee.objectives")

    class Unfinished(Objective):
        summary = "no methods"

    class Forgetful(NextToken):
        def __init__(self, *given: Any) -> None:
            self.head = nn.Linear(2, 2)

    network = foresee.backbone("transformer:layers=1,width=16,heads=1", STAR.vocab)
    for cls, said in (
        (Unfinished, "constructing Unfinished raises TypeError: Can't instantiate abstract class Unfinished"),
        (Forgetful, r"constructing Forgetful raises AttributeError: .*__init__\(\) call \(line \d+ of test_conform"),
    ):
        registry.register(cls.__name__.lower())(cls)
        with pytest.raises(RequestError, match=said):
            resolve(registry, cls.__name__.lower()).build(network, STAR.vocab, torch_stream("weights"))
    with pytest.raises(RequestError, match="Needy: needs must be a set of Cap members"):
        type("Needy", (NextToken,), {"needs": {"LOOKAHEAD"}})
