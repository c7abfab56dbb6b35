"""Every drawing against its objective at work: what is fed, what is predicted from which state, what is dropped.

The states of a ``Probe`` do not depend on what it is fed. So a part of the loss, and its gradient at one state, can
depend on a token in two ways alone: the token is predicted there, or it is read there besides the state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
import torch
from support import VOCAB
from torch import Tensor, nn
from torch.nn import functional

from foresee.backbones import Attend, Backbone, Cap
from foresee.backbones.base import Layer
from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.spec import resolve
from foresee.core.vocabulary import Vocabulary
from foresee.objectives import LossOut, objectives
from generate.drawing import ANSWER, PROMPT, Lane, Stream, Target, parse_drawing
from generate.objectives_page import own_names, read_docstrings

TOKENS = {symbol: token for token, symbol in enumerate((*PROMPT, *ANSWER))}
OTHER = 9
"""A token that stands nowhere in the example."""
SEEDS = 300
"""How many draws may be tried until the drawn one comes up."""
WITHOUT_WEIGHTS = {"future-insertion", "belief-state"}
"""Objectives whose dropped parts have no weights of their own."""

NAMES = own_names(objectives)
SAID = {name: read_docstrings(name) for name in NAMES}
DRAWN = {name: parse_drawing(SAID[name]["Drawing"]) for name in NAMES}
SPECS = {name: f"{name}:{SAID[name]['Options']}" if SAID[name]["Options"] else name for name in NAMES}
LANES = [
    pytest.param(name, at, number, id=f"{name}-{lane.part.replace(' ', '-')}-{at}")
    for name in NAMES
    for at, stream in enumerate(DRAWN[name])
    for number, lane in enumerate(stream.lanes)
    if not any(target and target.kind == "pair" for target in lane.targets)
]
per_objective = pytest.mark.parametrize("name", NAMES)


@dataclass(frozen=True)
class Reading:
    """One call of a probe: what it was given, and the states it gave."""

    x: Tensor
    attend: Attend
    positions: Tensor | None
    states: Tensor


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
        # Symbols that are no labels are never decoded, so that whatever is fed of them was put there.
        self.bias = torch.where(torch.arange(len(vocab)) < 10, 0.0, -3.0)

    def embed(self, tokens: Tensor) -> Tensor:
        return functional.embedding(tokens, self.table)

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        states = self.states[: x.shape[1]].clone()
        if self.nudge.place is not None and self.nudge.place < len(states):
            states[self.nudge.place] += self.shift
        states = states.expand(len(x), -1, -1).clone().requires_grad_()
        self.nudge.readings.append(Reading(x.detach(), attend, positions, states))
        return states if keep is None else states[:, keep]

    def with_trunk(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> tuple[Tensor, Tensor]:
        states = self(x)
        return states, states if keep is None else states[:, keep]

    def last_layer(self, generator: torch.Generator) -> Layer:
        return PassOn()

    def logits(self, hidden: Tensor) -> Tensor:
        return functional.linear(hidden, self.table) + self.bias

    def start(self, x: Tensor, steps: int = 16) -> tuple[Tensor, Tensor]:
        return self(x)[:, -1].detach(), x

    def step(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        return self.start(torch.cat((state, x[:, None]), 1))

    def twin(self, generator: torch.Generator) -> Probe:
        return Probe(Vocabulary(("0",)), "twin", self.nudge)


def example(changed: str | None = None) -> Batch:
    """The row that drawings show; ``changed`` is a symbol whose place another token takes."""
    tokens = torch.tensor([[OTHER if symbol == changed else token for symbol, token in TOKENS.items()]])
    return Batch.of(tokens, len(PROMPT), len(ANSWER))


def probed(name: str, nudge: Nudge) -> Any:
    """The objective with the options that its drawing is for, on a probe."""
    vocab = VOCAB.extended(objectives.get(name).symbols)
    made = resolve(objectives, SPECS[name]).build(Probe(vocab, nudge=nudge), vocab, seeds.torch_stream("diagram"))
    if name == "any-order":
        nn.init.zeros_(made.get_parameter("target_table"))  # a test of its own looks at what it adds to every input
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


def symbols(made: Any, x: Tensor) -> tuple[str, ...]:
    """The symbols [T] that inputs [T, D] stand for; ``c1``, ``c2``, ... for vectors that belong to none."""
    known = {token: symbol for symbol, token in TOKENS.items()}
    rows = [(known.get(token, symbol), made.backbone.table[token]) for token, symbol in enumerate(made.vocab)]
    own = dict(made.named_parameters())
    rows += [("r", row) for row in own.get("register_table", ())]
    rows += [(f"z{number}", row) for number, row in enumerate(own.get("plan_table", ()), start=1)]
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
def drawn_at(name: str, at: int) -> tuple[int, int]:
    """A seed under which the objective feeds what the stream shows, and which reading that is."""
    wanted = as_fed(DRAWN[name][at])
    for seed in range(SEEDS):
        if wanted in trained(name, seed).inputs:
            return seed, trained(name, seed).inputs.index(wanted)
    raise AssertionError(f"{name} never feeds {wanted}; it feeds {trained(name, 0).inputs}")


def gradients(run: Trained, reading: int, parts: list[str]) -> Tensor:
    """[T, D]: how the parts depend on each state of a reading."""
    states, losses = run.readings[reading].states, [run.out.parts[part] for part in parts]
    if not any(loss.requires_grad for loss in losses):
        return torch.zeros_like(states[0])
    total = torch.stack(losses).sum()
    (found,) = torch.autograd.grad(total, states, retain_graph=True, allow_unused=True, materialize_grads=True)
    return found[0]


def moved(before: Tensor, after: Tensor) -> list[bool]:
    """Which rows of [T, D] differ by more than the rounding of sums."""
    return [bool(row) for row in (before - after).abs().amax(-1) > 1e-6]


def influences(name: str, seed: int, reading: int, parts: list[str]) -> list[set[str]]:
    """For each state of a reading, the tokens that its gradient depends on."""
    before = gradients(trained(name, seed), reading, parts)
    found: list[set[str]] = [set() for _ in before]
    for symbol in TOKENS:
        for place, differs in enumerate(moved(before, gradients(trained(name, seed, symbol), reading, parts))):
            if differs:
                found[place].add(symbol)
    return found


@per_objective
def test_inputs_are_those_drawn_and_read_as_drawn(name: str) -> None:
    for at, stream in enumerate(DRAWN[name]):
        seed, which = drawn_at(name, at)
        run = trained(name, seed)
        assert set(run.inputs) <= {as_fed(each) for each in DRAWN[name]}, "something is fed that is not drawn"
        attend = run.readings[which].attend
        if stream.reads != "mask":
            assert attend.all() and stream.reads == "full" if isinstance(attend, Tensor) else attend == stream.reads
            continue
        assert isinstance(attend, Tensor)
        order = fed_order(stream)
        expected = [[at <= of and (stream.inputs[at] != "r" or at == of) for at in order] for of in order]
        assert attend[0].tolist() == expected


@pytest.mark.parametrize(("name", "at", "number"), LANES)
def test_predictions_are_those_drawn(name: str, at: int, number: int) -> None:
    stream, (seed, which) = DRAWN[name][at], drawn_at(name, at)
    lane = stream.lanes[number]
    parts = lane.part.split()
    learns = gradients(trained(name, seed), which, parts).abs().amax(-1) > 0
    depends = influences(name, seed, which, parts)
    for fed, drawn in enumerate(fed_order(stream)):
        target, extra, own_symbol = lane.targets[drawn], lane.besides[drawn], stream.inputs[drawn]
        assert bool(learns[fed]) == (target is not None), f"{own_symbol}: predicts or not"
        expected = set(extra) | (set(target.symbols) if target and target.kind != "state" else set())
        # A token that is the input itself may be read again beside its state.
        assert depends[fed] - {own_symbol} == (expected & set(TOKENS)) - {own_symbol}


@pytest.mark.parametrize("part", ["latent", "kl"])
def test_states_are_predicted_where_they_are_drawn(part: str) -> None:
    (stream,) = DRAWN["next-latent"]
    (lane,) = [each for each in stream.lanes if each.part == part]
    before = gradients(trained("next-latent", 0), 0, [part])
    for place, symbol in enumerate(stream.inputs):
        differs = moved(before, gradients(trained("next-latent", 0, place=place), 0, [part]))
        for index, target in enumerate(lane.targets):
            if index != place:
                assert differs[index] == (target == Target("state", (symbol,)))


def test_belief_state_joins_the_pairs_that_are_drawn() -> None:
    main, suffixes = DRAWN["belief-state"]
    assert [lane.name.removeprefix("with ").split() for lane in main.lanes] == [
        suffixes.inputs[number::-1] for number in range(len(main.lanes))
    ]
    assert [lane.dropped for lane in main.lanes] == suffixes.only_in_training
    for half, part in enumerate(("next", "previous")):
        by_lane = [[target.symbols[half] if target else None for target in lane.targets] for lane in main.lanes]
        for place, depends in enumerate(influences("belief-state", 0, 0, [part])):
            assert depends == {lane[place] for lane in by_lane} - {None}
        for number, depends in enumerate(influences("belief-state", 0, 1, [part])):
            assert depends == set(by_lane[number]) - {None}


@pytest.mark.parametrize(("name", "note"), [("registers", "position"), ("any-order", "own place")])
def test_positions_are_those_noted(name: str, note: str) -> None:
    (stream,), (seed, which) = DRAWN[name], drawn_at(name, 0)
    positions = trained(name, seed).readings[which].positions
    assert positions is not None
    assert positions[0].tolist() == [int(stream.notes[note][index]) for index in fed_order(stream)]


def test_any_order_adds_the_place_that_is_noted() -> None:
    (stream,), (seed, _) = DRAWN["any-order"], drawn_at("any-order", 0)
    nudge = Nudge()
    made = probed("any-order", nudge)
    with torch.no_grad():
        made.target_table.copy_(torch.arange(len(made.target_table))[:, None].expand_as(made.target_table))
    made.loss(example(), seeds.torch_stream("diagram loss", seed))
    plain = made.backbone.embed(torch.tensor([TOKENS[symbol] for symbol in stream.inputs]))
    places = (nudge.readings[0].x[0] - plain).mean(-1).round().int().tolist()
    assert places == list(map(int, stream.notes["place to predict"]))


@per_objective
def test_decoding_feeds_what_is_not_dashed(name: str) -> None:
    nudge = Nudge()
    made = probed(name, nudge)
    with torch.no_grad():
        made.generate(example().prompts, len(ANSWER))
    fed = {symbol for reading in nudge.readings for symbol in symbols(made, reading.x[0])}
    drawn = {
        symbol
        for stream in DRAWN[name]
        for symbol, absent in zip(stream.inputs, stream.only_in_training, strict=True)
        if not absent
    }
    labels = {*TOKENS, *VOCAB}  # what is decoded may be any label
    assert fed - labels == drawn - labels


@per_objective
def test_every_part_is_drawn_and_dashed_where_it_is_dropped(name: str) -> None:
    lanes: list[tuple[Stream, Lane]] = [(stream, lane) for stream in DRAWN[name] for lane in stream.lanes]
    assert {part for _, lane in lanes for part in lane.part.split()} == set(trained(name, 0).out.parts)
    for stream, lane in lanes:
        above = [absent for target, absent in zip(lane.targets, stream.only_in_training, strict=True) if target]
        assert lane.dropped or not all(above), "a prediction is dropped with the inputs it stands on"
    kept = [(stream, lane) for stream, lane in lanes if not stream.dropped]
    for part in {lane.part for _, lane in kept} - {"next previous"}:  # belief-state drops some pairs of a part
        assert len({lane.dropped for _, lane in kept if lane.part == part}) == 1
    inputs = [absent for stream in DRAWN[name] for absent in stream.only_in_training]
    assert any([*inputs, *(lane.dropped for _, lane in lanes)]) == (SAID[name]["Dropped"] != "nothing")
