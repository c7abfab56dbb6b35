"""What a backbone can do is measured, whatever it says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from refusals import refused
from support import numbered, transformer
from torch import Tensor

from foresee.backbones import Attend, Cap, capabilities
from foresee.backbones.base import refuse_missing
from foresee.backbones.capabilities import measure
from foresee.backbones.transformer import Transformer
from foresee.core import seeds
from foresee.core.errors import ForeseeError, RequestError

EVERYTHING = frozenset(Cap)


Asked = tuple[Attend, Tensor | None]


class Twisted(Transformer):
    """A Transformer that treats what it is asked for in its own way."""

    twist: Callable[[Tensor, Attend, Tensor | None], Asked]

    def forward(
        self, x: Tensor, *, attend: Attend = "causal", positions: Tensor | None = None, keep: slice | None = None
    ) -> Tensor:
        attend, positions = type(self).twist(x, attend, positions)
        return super().forward(x, attend=attend, positions=positions, keep=keep)


def refuse_masks(x: Tensor, attend: Attend, positions: Tensor | None) -> Asked:
    if isinstance(attend, Tensor):
        raise RequestError("takes no mask")
    return attend, positions


def read_upside_down(x: Tensor, attend: Attend, positions: Tensor | None) -> Asked:
    return ~attend | torch.eye(attend.shape[-1], dtype=torch.bool) if isinstance(attend, Tensor) else attend, positions


def mask_of(x: Tensor, diagonal: int) -> Tensor:
    return torch.ones(len(x), x.shape[1], x.shape[1], dtype=torch.bool).tril(diagonal)


def make(twist: Callable[[Tensor, Attend, Tensor | None], Asked], **options: Any) -> Transformer:
    cls = type("Odd", (Twisted,), {"twist": staticmethod(twist)})
    made: Transformer = cls(
        numbered(13), seeds.torch_stream("measured"), **{"layers": 2, "width": 32, "heads": 4, **options}
    )
    return made


@pytest.mark.parametrize("positions", ["learned", "rotary"])
@pytest.mark.parametrize(
    ("twist", "lacks"),
    [
        (lambda x, attend, positions: (attend, positions), set()),
        (
            lambda x, attend, positions: ("causal" if isinstance(attend, Tensor) else attend, positions),
            {Cap.VISIBILITY},
        ),
        (refuse_masks, {Cap.VISIBILITY}),
        (read_upside_down, {Cap.VISIBILITY}),
        (lambda x, attend, positions: ("causal" if attend == "full" else attend, positions), {Cap.LOOKAHEAD}),
        (lambda x, attend, positions: (attend, None), {Cap.POSITIONS}),
    ],
    ids=["nothing", "ignores masks", "refuses masks", "masks upside down", "never looks ahead", "ignores positions"],
)
def test_what_is_missing_is_found(twist: Any, lacks: set[Cap], positions: str) -> None:
    assert make(twist, positions=positions).has == EVERYTHING - lacks


def test_positions_that_mean_something_else_do_not_count() -> None:
    net = make(lambda x, attend, positions: (attend, None if positions is None else positions + 2))
    assert Cap.POSITIONS not in net.has


@pytest.mark.parametrize(
    ("mask", "says"),
    [
        (lambda x: "full", "leaks: in causal mode a position reads what comes after"),
        # As a model that shifts its tokens by one the wrong way round.
        (lambda x: mask_of(x, 1), "leaks: in causal mode a position reads what comes after"),
        (
            lambda x: torch.eye(x.shape[1], dtype=torch.bool)[None],
            "in causal mode does not read every earlier position",
        ),
    ],
    ids=["everything", "one ahead", "only itself"],
)
def test_a_leak_or_no_memory_is_an_error(mask: Callable[[Tensor], Attend], says: str) -> None:
    with pytest.raises(ForeseeError, match=f"^Odd {says}"):
        make(lambda x, attend, positions: (mask(x) if attend == "causal" else attend, positions))


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
    built = [transformer(seed=seed, positions=positions, **options) for seed in range(3)]
    assert {measure(net, net.width, net.longest) for net in built} == {expected}
    assert {net.has for net in built} == {expected}


def test_a_kind_is_measured_once_and_measuring_leaves_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    for training in (True, False):
        net = transformer().train(training)
        before = {name: value.clone() for name, value in net.state_dict().items()}
        measure(net, net.width, net.longest)
        assert net.training is training
        assert all(parameter.grad is None and parameter.requires_grad for parameter in net.parameters())
        assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    counted = Mock(return_value=EVERYTHING)
    monkeypatch.setattr(capabilities, "measure", counted)
    monkeypatch.setattr(capabilities, "_found", {})
    for seed, context in ((0, 31), (1, 31), (0, 32), (2, 32)):
        assert transformer(seed=seed, context=context).has == EVERYTHING
    assert counted.call_count == 2


def test_a_missing_capability_is_refused_in_one_sentence() -> None:
    net = transformer(positions="none")
    refuse_missing(frozenset({Cap.LOOKAHEAD, Cap.VISIBILITY}), "masked", net, "transformer")
    with refused(
        "objective 'permuted' needs POSITIONS (positions may be given, so that a token's place is not its index), "
        "which backbone 'transformer:positions=none' was measured not to have; "
        "a transformer with learned or rotary positions has it"
    ):
        refuse_missing(frozenset({Cap.POSITIONS, Cap.LOOKAHEAD}), "permuted", net, "transformer:positions=none")
