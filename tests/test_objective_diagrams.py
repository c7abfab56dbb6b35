"""Every diagram against its objective at work: what is fed, what is predicted from which state, what is dropped.

The states of a ``Probe`` do not depend on what it is fed. So a part of the loss, and its gradient at one state, can
depend on a token in two ways alone: the token is predicted there, or it is shown there besides the state.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache

import pytest
import torch
from support import SMALL, VOCAB, build, random_batch, scramble
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Attend, Backbone, Cap
from foresee.backbones.base import Layer
from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.spec import resolve
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import LossOut, Objective, objectives
from foresee.objectives.diagram import ANSWER, PROMPT, Diagram, Lane, Stream, Target
from foresee.report.objectives_page.page import own, page_order

TOKENS = {symbol: token for token, symbol in enumerate((*PROMPT, *ANSWER))}
OTHER = 9
"""A token that stands nowhere in the example."""
SEEDS = 300
"""How many draws may be tried until the drawn one comes up."""


@dataclass(frozen=True)
class Reading:
    """One call of a probe: what it was given, and the states it gave."""

    x: Tensor
    attend: Attend
    positions: Tensor | None
    hidden: Tensor


@dataclass
class Nudge:
    """A state to be changed, by its place."""

    place: int | None = None
    readings: list[Reading] = field(default_factory=list)


class PassOn(Layer):
    """A layer that changes nothing."""

    def forward(self, z: Tensor, *, keep: slice | None = None) -> Tensor:
        return z if keep is None else z[:, keep]


class Probe(Backbone):
    """Remembers what it reads, and gives a fixed state for each place."""

    summary = "a probe"

    def __init__(self, vocab: Vocabulary, name: str = "probe", nudge: Nudge | None = None) -> None:
        super().__init__()
        self.width, self.vocab_size, self.has = 16, len(vocab), frozenset(Cap)
        rng = seeds.torch_stream("diagram", name)
        self.table = nn.Parameter(0.2 * torch.randn(len(vocab), self.width, generator=rng))
        self.states = 0.3 * torch.randn(16, self.width, generator=rng)
        self.shift = 0.1 * torch.randn(self.width, generator=rng)
        self.nudge = nudge or Nudge()
        # Symbols that are no labels are never written, so that whatever is fed of them was put there.
        self.bias = torch.where(torch.arange(len(vocab)) < 10, 0.0, -3.0)

    def embed(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens, self.table)

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        states = self.states[: x.shape[1]].clone()
        if self.nudge.place is not None and self.nudge.place < len(states):
            states[self.nudge.place] += self.shift
        hidden = states.expand(len(x), -1, -1).clone().requires_grad_()
        self.nudge.readings.append(Reading(x.detach(), attend, positions, hidden))
        return hidden if keep is None else hidden[:, keep]

    def with_trunk(self, x: Tensor, *, keep: slice | None = None) -> tuple[Tensor, Tensor]:
        hidden = self(x)
        return hidden, hidden if keep is None else hidden[:, keep]

    def last_layer(self, generator: torch.Generator) -> Layer:
        return PassOn()

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.table) + self.bias

    def start(self, x: Tensor, room: int = 16) -> tuple[Tensor, Tensor]:
        return self(x)[:, -1].detach(), x

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.start(torch.cat((state, x[:, None]), 1))

    def fork(self, state: Tensor, n: int) -> Tensor:
        return state.repeat_interleave(n, 0)

    def trace(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def twin(self, generator: torch.Generator) -> Probe:
        return Probe(Vocabulary(("0",)), "twin", self.nudge)

    def flops_per_token(self) -> int:
        return 1


def example(changed: str | None = None) -> Batch:
    """The row that diagrams show; ``changed`` is a symbol whose place another token takes."""
    tokens = torch.tensor([[OTHER if symbol == changed else token for symbol, token in TOKENS.items()]])
    return Batch.of(tokens, len(PROMPT), len(ANSWER))


def probed(name: str, nudge: Nudge) -> Objective:
    """The objective with the options that its diagram is drawn for, on a probe."""
    cls, _, diagram = own(name)
    vocab = VOCAB.extended(cls.symbols)
    made = resolve(objectives, f"{name}:{diagram.options}" if diagram.options else name).build(
        Probe(vocab, nudge=nudge), vocab, seeds.torch_stream("diagram objective")
    )
    for parameter_name, parameter in made.named_parameters():
        if parameter_name == "target_table":
            nn.init.zeros_(parameter)  # any-order adds a place to every input; that is looked at in a test of its own
    return made


@dataclass(frozen=True)
class Trained:
    """A loss and the readings behind it."""

    out: LossOut
    readings: tuple[Reading, ...]
    inputs: tuple[tuple[str, ...], ...]


@cache
def trained(name: str, seed: int, changed: str | None = None, place: int | None = None) -> Trained:
    nudge = Nudge(place)
    made = probed(name, nudge)
    out = made.loss(example(changed), seeds.torch_stream("diagram loss", seed))
    return Trained(out, tuple(nudge.readings), tuple(symbols(made, reading.x[0]) for reading in nudge.readings))


def symbols(made: Objective, x: Tensor) -> tuple[str, ...]:
    """The symbols [T] that inputs [T, D] stand for; ``c1``, ``c2``, ... for vectors that belong to none."""
    known = {token: symbol for symbol, token in TOKENS.items()}
    backbone = made.backbone
    assert isinstance(backbone, Probe)
    rows: list[tuple[str, Tensor]] = [
        (known.get(token, symbol), backbone.table[token]) for token, symbol in enumerate(made.vocab)
    ]
    for parameter_name, parameter in made.named_parameters():
        if parameter_name == "register_table":
            rows.append(("r", parameter[0]))
        if parameter_name == "plan_table":
            rows += [(f"z{number}", row) for number, row in enumerate(parameter, start=1)]
    found: list[str] = []
    for vector in x:
        match = [symbol for symbol, row in rows if torch.equal(vector, row)]
        found.append(match[0] if match else f"c{1 + sum(each.startswith('c') for each in found)}")
    return tuple(found)


def fed_order(stream: Stream) -> list[int]:
    """Drawn inputs in the order in which they are fed: registers are appended, which their mask makes the same."""
    registers = [index for index, symbol in enumerate(stream.inputs) if symbol == "r"]
    return [index for index in range(len(stream.inputs)) if index not in registers] + registers


def as_fed(stream: Stream) -> tuple[str, ...]:
    return tuple(stream.inputs[index] for index in fed_order(stream))


@cache
def drawn_at(name: str, stream: Stream) -> tuple[int, int]:
    """A seed under which the objective feeds what the stream shows, and which reading that is."""
    for seed in range(SEEDS):
        inputs = trained(name, seed).inputs
        if as_fed(stream) in inputs:
            return seed, inputs.index(as_fed(stream))
    raise AssertionError(f"{name} never feeds {stream.fed}; it feeds {trained(name, 0).inputs}")


def gradients(run: Trained, reading: int, parts: list[str]) -> Tensor:
    """[T, D]: how the parts depend on each state of a reading."""
    hidden = run.readings[reading].hidden
    losses = [run.out.parts[part] for part in parts]
    if not any(loss.requires_grad for loss in losses):
        return torch.zeros_like(hidden[0])
    total = torch.stack(losses).sum()
    (found,) = torch.autograd.grad(total, hidden, retain_graph=True, allow_unused=True, materialize_grads=True)
    return found[0]


def moved(before: Tensor, after: Tensor) -> list[bool]:
    """Which rows of [T, D] differ by more than the rounding of sums."""
    return [bool(row) for row in (before - after).abs().amax(-1) > 1e-6]


def told(name: str, seed: int, reading: int, parts: list[str]) -> list[set[str]]:
    """For each state of a reading, the tokens that its gradient depends on."""
    before = gradients(trained(name, seed), reading, parts)
    found: list[set[str]] = [set() for _ in before]
    for symbol in TOKENS:
        after = gradients(trained(name, seed, changed=symbol), reading, parts)
        for place, differs in enumerate(moved(before, after)):
            if differs:
                found[place].add(symbol)
    return found


NAMES = page_order()
LANES = [
    pytest.param(name, stream, lane, id=f"{name}-{lane.part.replace(' ', '-')}-{at}")
    for name in NAMES
    for at, stream in enumerate(own(name)[2].streams)
    for lane in stream.lanes
    if not any(target and target.kind == "pair" for target in lane.targets)
]
per_objective = pytest.mark.parametrize("name", NAMES)


@per_objective
def test_inputs_are_those_drawn_and_read_as_drawn(name: str) -> None:
    diagram = own(name)[2]
    for stream in diagram.streams:
        seed, which = drawn_at(name, stream)
        run = trained(name, seed)
        assert set(run.inputs) <= {as_fed(each) for each in diagram.streams}, "something is fed that is not drawn"
        attend = run.readings[which].attend
        if stream.reads != "mask":
            assert attend == stream.reads
            continue
        assert isinstance(attend, Tensor)
        order = fed_order(stream)
        expected = [[at <= of and (stream.inputs[at] != "r" or at == of) for at in order] for of in order]
        assert attend[0].tolist() == expected


@per_objective
def test_every_part_of_the_loss_is_drawn(name: str) -> None:
    drawn = {part for stream in own(name)[2].streams for lane in stream.lanes for part in lane.part.split()}
    assert drawn == set(trained(name, 0).out.parts)


@pytest.mark.parametrize(("name", "stream", "lane"), LANES)
def test_predictions_are_those_drawn(name: str, stream: Stream, lane: Lane) -> None:
    seed, which = drawn_at(name, stream)
    parts = lane.part.split()
    learns = gradients(trained(name, seed), which, parts).abs().amax(-1) > 0
    depends = told(name, seed, which, parts)
    for fed, drawn in enumerate(fed_order(stream)):
        target, extra, own_symbol = lane.targets[drawn], lane.extra[drawn], stream.inputs[drawn]
        assert bool(learns[fed]) == (target is not None), f"{own_symbol}: predicts or not"
        expected = set(extra) | (set(target.symbols) if target and target.kind != "state" else set())
        # A token that is the input itself may be read again beside its state.
        assert depends[fed] - {own_symbol} == (expected & set(TOKENS)) - {own_symbol}


@pytest.mark.parametrize("part", ["latent", "kl"])
def test_states_are_predicted_where_they_are_drawn(part: str) -> None:
    name = "next-latent"
    (stream,) = own(name)[2].streams
    (lane,) = [each for each in stream.lanes if each.part == part]
    before = gradients(trained(name, 0), 0, [part])
    for place, symbol in enumerate(stream.inputs):
        differs = moved(before, gradients(trained(name, 0, place=place), 0, [part]))
        for index, target in enumerate(lane.targets):
            if index != place:
                assert differs[index] == (target == Target("state", (symbol,)))


def test_belief_state_joins_the_pairs_that_are_drawn() -> None:
    name = "belief-state"
    main, suffixes = own(name)[2].streams
    assert [lane.name.removeprefix("with ").split() for lane in main.lanes] == [
        list(reversed(suffixes.inputs[: number + 1])) for number in range(len(main.lanes))
    ]
    for number, lane in enumerate(main.lanes):
        assert lane.dropped == any(suffixes.only_in_training[: number + 1])
    for half, part in enumerate(("next", "previous")):
        by_lane = [[target.symbols[half] if target else None for target in lane.targets] for lane in main.lanes]
        for place, depends in enumerate(told(name, 0, 0, [part])):
            assert depends == {lane[place] for lane in by_lane} - {None}
        for number, depends in enumerate(told(name, 0, 1, [part])):
            assert depends == set(by_lane[number]) - {None}


@pytest.mark.parametrize(("name", "note"), [("registers", "position"), ("any-order", "own place")])
def test_positions_are_those_noted(name: str, note: str) -> None:
    (stream,) = own(name)[2].streams
    seed, which = drawn_at(name, stream)
    positions = trained(name, seed).readings[which].positions
    assert positions is not None
    words = dict(stream.notes)[note].split()
    assert positions[0].tolist() == [int(words[index]) for index in fed_order(stream)]


def test_any_order_is_told_the_place_that_is_noted() -> None:
    (stream,) = own("any-order")[2].streams
    seed, _ = drawn_at("any-order", stream)
    nudge = Nudge()
    made = probed("any-order", nudge)
    table = dict(made.named_parameters())["target_table"]
    with torch.no_grad():
        table.copy_(torch.arange(len(table))[:, None].expand_as(table))
    made.loss(example(), seeds.torch_stream("diagram loss", seed))
    plain = made.backbone.embed(torch.tensor([TOKENS[symbol] for symbol in stream.inputs]))
    told_places = (nudge.readings[0].x[0] - plain).mean(-1).round().int().tolist()
    assert told_places == [int(word) for word in dict(stream.notes)["place to predict"].split()]


@per_objective
def test_decoding_feeds_what_is_not_dashed(name: str) -> None:
    nudge = Nudge()
    made = probed(name, nudge)
    with torch.no_grad():
        made.generate(example().prompts, len(ANSWER))
    fed = {symbol for reading in nudge.readings for symbol in symbols(made, reading.x[0])}
    drawn = {
        symbol
        for stream in own(name)[2].streams
        for symbol, absent in zip(stream.inputs, stream.only_in_training, strict=True)
        if not absent
    }
    labels = {*TOKENS, *VOCAB}  # what is written may be any label
    assert fed - labels == drawn - labels


@per_objective
def test_predictions_are_dropped_with_the_inputs_they_stand_on(name: str) -> None:
    for stream in own(name)[2].streams:
        for lane in stream.lanes:
            above = [absent for target, absent in zip(lane.targets, stream.only_in_training, strict=True) if target]
            assert lane.dropped or not all(above)
    lanes = [lane for stream in own(name)[2].streams if not stream.dropped for lane in stream.lanes]
    for part in {lane.part for lane in lanes} - {"next previous"}:  # belief-state drops some pairs of a part
        assert len({lane.dropped for lane in lanes if lane.part == part}) == 1


WITHOUT_WEIGHTS = {"future-insertion", "belief-state"}
"""Objectives whose dropped parts have no weights of their own."""


@per_objective
def test_weights_of_dropped_parts_do_not_matter_at_decoding(name: str) -> None:
    diagram = own(name)[2]
    lanes = [(lane, lane.dropped or stream.dropped) for stream in diagram.streams for lane in stream.lanes]
    kept = {part for lane, dropped in lanes if not dropped for part in lane.part.split()}
    dropped_parts = {part for lane, _ in lanes for part in lane.part.split()} - kept
    batch = random_batch()
    made = build(f"{name}:{diagram.options}" if diagram.options else name, next(iter(SMALL)))
    scramble(made)
    parts = made.loss(batch, seeds.torch_stream("diagram weights")).parts
    weights = {part: trains(made, loss) for part, loss in parts.items()}

    def of(chosen: set[str]) -> set[str]:
        return set[str]().union(*(weights[part] for part in chosen))

    own_weights = of(dropped_parts) - of(kept)
    assert bool(own_weights) == (bool(dropped_parts) and name not in WITHOUT_WEIGHTS)
    before = decoded(made, batch)
    with shaken(made, own_weights):
        assert same(before, decoded(made, batch))
    for part in sorted(kept):
        alone = weights[part] - of(kept - {part})
        if alone:
            with shaken(made, alone):
                assert not same(before, decoded(made, batch)), f"{part} is not dropped, but decoding does not use it"


def decoded(made: Objective, batch: Batch) -> list[Tensor]:
    """Answers and, where there are any, forced scores."""
    with torch.no_grad():
        forced = made.forced(batch)
        return [made.generate(batch.prompts, batch.layout.width)] + ([] if forced is None else [forced])


def same(before: list[Tensor], after: list[Tensor]) -> bool:
    return all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


@contextmanager
def shaken(made: Objective, names: set[str]) -> Iterator[None]:
    """Within, the named parameters have other values."""
    rng = seeds.torch_stream("diagram shaken")
    held = {key: parameter.detach().clone() for key, parameter in made.named_parameters() if key in names}
    with torch.no_grad():
        for key, parameter in made.named_parameters():
            if key in names:
                parameter.add_(torch.randn(parameter.shape, generator=rng))
        yield
        for key, parameter in made.named_parameters():
            if key in names:
                parameter.copy_(held[key])


def trains(made: Objective, loss: Tensor) -> set[str]:
    """Names of the parameters that a part of the loss gives a gradient."""
    named = dict(made.named_parameters())
    weights = list(named.values())
    grads = torch.autograd.grad(loss, weights, retain_graph=True, allow_unused=True, materialize_grads=True)
    return {key for key, grad in zip(named, grads, strict=True) if grad.any()}


@per_objective
def test_what_is_said_to_be_dropped_is_drawn_dashed(name: str) -> None:
    _, explanation, diagram = own(name)
    dashed = any(
        stream.dropped or any(stream.only_in_training) or any(lane.dropped for lane in stream.lanes)
        for stream in diagram.streams
    )
    assert dashed == (explanation.dropped != "nothing")


# The small language of diagrams.


def test_words_are_read_as_documented() -> None:
    lane = Lane("all", "part", ". a1 </T> a1>a2>* {a2,a3} {} a1|a4 (a2)", shown=". a1 a1,a2 . . . . .")
    assert lane.targets == (
        None, Target("token", ("a1",)), Target("token", ("</T>",)), Target("order", ("a1", "a2", "*")),
        Target("set", ("a2", "a3")), Target("set", ()), Target("pair", ("a1", "a4")), Target("state", ("a2",)),
    )  # fmt: skip
    assert lane.extra[:3] == ((), ("a1",), ("a1", "a2"))
    stream = Stream("p1 ~r")
    assert stream.inputs == ("p1", "r")
    assert stream.only_in_training == (False, True)
    assert dataclasses.replace(stream, dropped=True).only_in_training == (True, True)
    assert Diagram((stream,)).options == ""


def test_a_lane_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="'short' must have one word for each of the 2 inputs"):
        Stream("p1 a1", (Lane("short", "part", "a1"),))
    with pytest.raises(ValueError, match="'place' must have one word for each of the 2 inputs"):
        Stream("p1 a1", notes=(("place", "0 1 2"),))
