"""What a backbone can do is measured, whatever it says of itself."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import numbered, transformer
from torch import Tensor

from foresee.backbones import Attend, Cap
from foresee.backbones.base import refuse_missing
from foresee.backbones.capabilities import measure
from foresee.backbones.transformer import Transformer
from foresee.core import seeds
from foresee.core.errors import ForeseeError, RequestError

EVERYTHING = frozenset(Cap)


class Twisted(Transformer):
    """A Transformer that treats what it is asked for in its own way."""

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        attend, positions = self.twist(x, attend, positions)
        return super().forward(x, attend=attend, positions=positions, keep=keep)

    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        raise NotImplementedError


class IgnoresMasks(Twisted):
    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        return ("causal" if isinstance(attend, Tensor) else attend), positions


class RefusesMasks(Twisted):
    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        if isinstance(attend, Tensor):
            raise RequestError("takes no mask")
        return attend, positions


class ReadsMasksUpsideDown(Twisted):
    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        if isinstance(attend, Tensor):
            attend = ~attend | torch.eye(attend.shape[-1], dtype=torch.bool)
        return attend, positions


class NeverLooksAhead(Twisted):
    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        return ("causal" if attend == "full" else attend), positions


class IgnoresPositions(Twisted):
    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        return attend, None


class CountsFromTwo(Twisted):
    """Given positions mean something other than the default ones."""

    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        return attend, None if positions is None else positions + 2


class Leaks(Twisted):
    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        return ("full" if attend == "causal" else attend), positions


class LeaksALittle(Twisted):
    """As a model that shifts its tokens by one the wrong way round."""

    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        if attend == "causal":
            attend = torch.ones(len(x), x.shape[1], x.shape[1], dtype=torch.bool).tril(1)
        return attend, positions


class ReadsOnlyItself(Twisted):
    def twist(self, x: Tensor, attend: Attend, positions: Tensor | None) -> tuple[Attend, Tensor | None]:
        return torch.eye(x.shape[1], dtype=torch.bool).expand(len(x), -1, -1), positions


def make(cls: type[Transformer], **options: Any) -> Transformer:
    return cls(numbered(13), seeds.torch_stream("measured"), **{"layers": 2, "width": 32, "heads": 4, **options})


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize(
    ("cls", "lacks"),
    [
        (Transformer, set()),
        (IgnoresMasks, {Cap.VISIBILITY}),
        (RefusesMasks, {Cap.VISIBILITY}),
        (ReadsMasksUpsideDown, {Cap.VISIBILITY}),
        (NeverLooksAhead, {Cap.LOOKAHEAD}),
        (IgnoresPositions, {Cap.POSITIONS}),
    ],
)
def test_what_is_missing_is_found(cls: type[Transformer], lacks: set[Cap], positions: str) -> None:
    assert make(cls, positions=positions).has == EVERYTHING - lacks


def test_positions_that_mean_something_else_do_not_count() -> None:
    assert Cap.POSITIONS not in make(CountsFromTwo).has


@pytest.mark.parametrize("cls", [Leaks, LeaksALittle])
def test_a_leak_is_an_error(cls: type[Transformer]) -> None:
    with pytest.raises(ForeseeError, match=rf"^{cls.__name__} leaks: in causal mode a position reads what comes after"):
        make(cls)


def test_a_model_without_memory_is_an_error() -> None:
    with pytest.raises(ForeseeError, match=r"^ReadsOnlyItself in causal mode does not read every earlier position"):
        make(ReadsOnlyItself)


@pytest.mark.parametrize(
    "options",
    [
        {"layers": 1, "width": 8, "heads": 1},
        {"layers": 1, "width": 16, "heads": 8},
        {"layers": 12, "width": 16, "heads": 2},
        {"layers": 1, "width": 256, "heads": 4},
        {"context": 5},
        {"context": 9},
        {"norm": "rms", "mlp": "swiglu", "bias": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_every_size_of_transformer_measures_the_same(options: dict[str, Any], positions: str) -> None:
    expected = EVERYTHING - ({Cap.POSITIONS} if positions == "none" else set())
    assert {transformer(seed=seed, positions=positions, **options).has for seed in range(3)} == {expected}


@pytest.mark.parametrize("training", [True, False])
def test_measuring_leaves_no_trace(training: bool) -> None:
    net = transformer().train(training)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    measure(net, net.width, net.longest)
    assert net.training is training
    assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_a_missing_capability_is_refused_in_one_sentence() -> None:
    net = transformer(positions="none")
    refuse_missing(frozenset({Cap.LOOKAHEAD, Cap.VISIBILITY}), "masked", net, "transformer")
    with pytest.raises(RequestError) as refusal:
        refuse_missing(frozenset({Cap.POSITIONS, Cap.LOOKAHEAD}), "permuted", net, "transformer:positions=none")
    assert str(refusal.value) == (
        "objective 'permuted' needs POSITIONS (positions may be given, so that a token's place is not its index), "
        "which backbone 'transformer:positions=none' was measured not to have; "
        "a transformer with learned or rotary positions has it"
    )
