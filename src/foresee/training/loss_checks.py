"""What a loss of one's own must keep, tried on a few examples, and the words in which any part is refused."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.plugins import explained, is_own
from foresee.core.seeds import global_states, torch_stream
from foresee.objectives.base import LossOut, Objective

CLOSE = 1e-3
"""How far two ways to compute final states, which are of order one, may lie apart."""

MOST = 32
"""How many answer columns are looked at, one by one."""


def check_loss(objective: Objective, batch: Batch) -> None:
    """Raises ``RequestError`` where a loss breaks what training relies on; warns of what it leaves out."""
    name = f"{kind(objective)}.loss (on {kind(objective.backbone)})"
    part = type(objective) if is_own(type(objective)) else type(objective.backbone)

    def compute(*key: int) -> LossOut:
        given = replace(batch, tokens=batch.tokens.clone(), facts=_Hidden())
        with explained(part, name):
            found = objective.loss(given, torch_stream("check", "loss", *key))
        if not torch.equal(given.tokens, batch.tokens):
            raise RequestError(f"{name} changes the tokens of its batch; change a copy (masked_fill, clone)")
        return found

    before, states, named = _gradients(objective), global_states(), dict(objective.named_parameters())
    out: Any = compute()
    if not isinstance(out, LossOut):
        raise RequestError(f"{name} must return a LossOut (foresee.objectives), not a {kind(out)}")
    if _gradients(objective) != before:
        raise RequestError(f"{name} calls backward itself; return the total, training takes its gradient")
    parts: Any = out.parts
    if not isinstance(parts, Mapping) or not all(isinstance(each, str) for each in parts):
        given = " ".join(repr(parts).split())
        raise RequestError(f'{name}: parts must be a dict of tensors by name, {{"mine": total}}, not {given:.60}')
    values: dict[str, Any] = {"total": out.total, **parts}
    for what, value in values.items():
        if not isinstance(value, Tensor) or value.shape != () or not value.isfinite() or not value.is_floating_point():
            raise RequestError(f"{name}: {what} must be a tensor of one finite number, not {_describe(value)}")
    if not out.total.requires_grad:
        raise RequestError(f"{name}: total has no gradient; compute it without detach, item or no_grad")
    total, added = out.total.item(), sum(part.item() for part in out.parts.values())
    if abs(added - total) > CLOSE * (1 + abs(added)):
        raise RequestError(f"{name}: its parts add up to {added:.6g}, but total is {total:.6g}")
    per_token: Any = out.per_token
    require_shape(f"{name}: per_token", per_token, batch.tokens.shape, getattr(per_token, "dtype", torch.float32))
    if not per_token.is_floating_point() or not per_token.isfinite().all():
        raise RequestError(f"{name}: per_token must hold finite floating-point numbers, not {_odd(per_token)}")
    if per_token.requires_grad:
        raise RequestError(f"{name}: per_token still has a gradient; detach it")
    leaves = _trained_by(out.total)
    held = {id(value) for value in named.values()}
    if strange := [str(list(leaf.shape)) for leaf in leaves if id(leaf) not in held]:
        raise RequestError(
            f"{name} uses weights of shapes {', '.join(strange)} that are none of its parameters, so nothing "
            "trains them; make modules in __init__, and several of them as an nn.ModuleList"
        )
    if abs((second := compute().total.item()) - total) > 1e-6 * (1 + abs(total)):
        raise RequestError(
            f"{name} gives {total:.6g} and then {second:.6g} for the same batch and stream; draw from "
            "`rng` and nothing else (no dropout), and keep nothing from call to call"
        )
    if global_states() != states:
        raise RequestError(
            f"{name} seeds or draws from the global stream of torch or NumPy; draw from `rng` and nothing else"
        )
    reached = {id(leaf) for leaf in leaves}
    if idle := [each for each, value in named.items() if value.requires_grad and id(value) not in reached]:
        _warn(f"{name} leaves parameters out: {', '.join(idle[:4])}{', ...' if len(idle) > 4 else ''}")
    _warn_of_silence(name, batch, out, compute)


def _warn_of_silence(name: str, batch: Batch, out: LossOut, compute: Callable[..., LossOut]) -> None:
    """Warns where no row loses anything at an answer token. A loss that draws which tokens it asks for is tried until
    each must have been drawn, even where it draws one a row; long answers would take too many tries."""
    columns = slice(batch.layout.first, batch.layout.last)
    silent = (out.per_token[:, columns] == 0).all(0)
    draws = bool(silent.any()) and not torch.equal(compute(0).per_token, out.per_token)
    if draws and len(silent) > MOST:
        return
    for turn in range(2 * len(silent) if draws else 0):
        silent &= (compute(turn).per_token[:, columns] == 0).all(0)
        if not silent.any():
            break
    if silent.any():
        places = ", ".join(map(str, silent.nonzero().flatten().tolist()[:8]))
        _warn(f"{name} asks for no answer token {places}: its per_token is 0 there in every row")


def warn_of_peeking(objective: Objective, batch: Batch) -> None:
    """Shows the network another token than the one that a loss asks for, or than one that is decided later, which must
    not change that loss; a loss that draws may draw another order. Up to ``MOST`` columns are tried at once, a row
    each; what is found is tried alone."""
    row, layout, name = batch.tokens[:1], batch.layout, f"{kind(objective)}.loss"
    used = {*row.flatten().tolist(), *map(objective.vocab.token, objective.symbols)}
    unused = sorted(set(range(len(objective.vocab))) - used)[:2]  # a loss that draws tokens may draw one of them
    if not unused:
        return
    columns = torch.linspace(layout.first, layout.last - 1, min(layout.width, MOST)).long()

    def moved(token: int, changed: Tensor) -> Tensor:
        """[K, T] bool: which losses change where the network is shown another token in these columns [K]."""
        tokens = row.repeat(len(changed), 1)
        tokens[torch.arange(len(changed)), changed] = token  # nowhere else, so it can be told from all others
        asked, losses = Batch.of(tokens, layout.first, layout.width), []
        for instead in (token, int(row[0, 0])):
            rng = torch_stream("check", "peeking")
            with torch.no_grad(), _shown(objective, token, instead), explained(type(objective), name):
                losses.append(objective.loss(asked, rng).per_token)
        found = (losses[0] - losses[1]).abs() > 1e-5
        places, at = torch.arange(found.shape[1]), changed[:, None]
        before = {"forward": places <= at, "backward": places >= at}.get(objective.order, places == at)
        drew = not torch.equal(rng.get_state(), torch_stream("check", "peeking").get_state())
        return found & asked.in_answer() & ((places == at) if drew else before)

    for column in columns[moved(unused[0], columns).any(1)].tolist():
        alone = torch.cat([moved(token, torch.tensor([column])) for token in unused]).all(0)
        if alone.any():
            place = column if alone[column] else int(alone.int().argmax())
            shown = "another in its place" if alone[column] else f"another token {column - layout.first}"
            _warn(
                f"{name}: the loss of answer token {place - layout.first} changes where the network is shown {shown}; "
                "does it read what it predicts (shift it by one) or what is decided later, or is what per_token says "
                "there another token's?"
            )
            return


@contextmanager
def _shown(objective: Objective, token: int, instead: int) -> Iterator[None]:
    """Within it the network is shown one token in place of another, however it looks tokens up."""
    embed, backbone = objective.backbone.embed, vars(objective.backbone)
    backbone["embed"] = lambda tokens: embed(tokens.masked_fill(tokens == token, instead))
    try:
        with _Replaced(token, instead, len(objective.vocab)):
            yield
    finally:
        del backbone["embed"]


class _Replaced(TorchFunctionMode):
    """Replaces a token wherever a table [V, D] is read by tokens."""

    def __init__(self, token: int, instead: int, size: int) -> None:
        super().__init__()
        self.token, self.instead, self.size = token, instead, size

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        at = {functional.embedding: 0, Tensor.__getitem__: 1}.get(func)
        if at is not None and len(args) > 1 and self._is_table(args[1 - at], args[at]):
            replaced = args[at].masked_fill(args[at] == self.token, self.instead)
            args = (replaced, *args[1:]) if at == 0 else (args[0], replaced)
        return func(*args, **(kwargs or {}))

    def _is_table(self, table: Tensor, index: Any) -> bool:
        sized = table.dim() == 2 and len(table) == self.size and table.is_floating_point()
        return sized and isinstance(index, Tensor) and index.dtype == torch.int64


def _gradients(objective: Objective) -> list[bool]:
    return [value.grad is not None for value in objective.parameters()]


def _trained_by(total: Tensor) -> list[Tensor]:
    """The leaves that a backward pass would give a gradient to."""
    seen, left, found = set[Any](), [total.grad_fn], list[Tensor]()
    while left:
        node: Any = left.pop()
        if node is not None and node not in seen:
            seen.add(node)
            left += [each for each, _ in node.next_functions]
            if type(node).__name__ == "AccumulateGrad":
                found.append(node.variable)
    return found


class _Hidden(dict[str, Tensor]):
    """Facts that a loss may not read."""

    def __missing__(self, key: str) -> NoReturn:
        raise RequestError(f"a loss reads batch.facts[{key!r}]; facts tell the solution and are for metrics alone")


def require_shape(what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    """Raises ``RequestError`` unless a value is a tensor of this shape and type."""
    if not isinstance(value, Tensor) or value.shape != torch.Size(shape) or value.dtype != dtype:
        raise RequestError(f"{what} must be a tensor {dtype} {list(shape)}, not {_describe(value)}")


def _odd(values: Tensor) -> str:
    return "nan or infinite ones" if values.is_floating_point() else str(values.dtype)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{value.dtype} {list(value.shape)}" if value.shape else str(value.item())
    return f"a {kind(value)}"


def kind(value: object) -> str:
    """The name of its class."""
    return type(value).__name__


def _warn(sentence: str) -> None:
    warnings.warn(sentence, ForeseeWarning, stacklevel=2)
