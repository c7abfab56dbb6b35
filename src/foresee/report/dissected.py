"""``anatomy.json`` of a run: what the trained model gave each symbol, step by step, on a few test examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from foresee.core.errors import RequestError
from foresee.report.reading import is_number, numbers, read_object, texts

ORDERS = ("forward", "backward", "parallel")


@dataclass(frozen=True)
class Step:
    """One answer token: the symbol shown there, its probability, and the likeliest symbols with theirs."""

    symbol: str
    p: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Anatomy:
    """One example of a run. ``truth`` and ``free`` are its steps in the task's order, with the true answer shown and
    with the model's own; ``truth`` is empty where the objective cannot be forced, and ``passes`` then says in which
    pass each place was decided. ``layers[layer][head][position]`` is what the
    position that decides the branch reads of each symbol of ``read``; both empty where there is no attention to
    show."""

    prompt: str
    answer: str
    wrote: str
    order: str
    truth: tuple[Step, ...]
    free: tuple[Step, ...]
    passes: tuple[int, ...]
    branch: int | None
    read: tuple[str, ...]
    layers: tuple[tuple[tuple[float, ...], ...], ...]


def read_anatomies(path: Path) -> tuple[Anatomy, ...]:
    """The examples of ``anatomy.json``; none where there is no such file. Raises ``RequestError`` where it is
    damaged."""
    found = read_object(path, required=False)
    if not found:
        return ()
    if not isinstance(found.get("examples"), list):
        raise RequestError(f"{path}: needs a list under 'examples'")
    anatomies = []
    for number, each in enumerate(found["examples"], start=1):
        try:
            if not isinstance(each, dict):
                raise ValueError("must be an object")
            anatomies.append(_anatomy(each))
        except ValueError as error:
            raise RequestError(f"{path}: example {number}: {error}") from None
    return tuple(anatomies)


def _anatomy(found: Mapping[str, Any]) -> Anatomy:
    words = {key: found.get(key) for key in ("prompt", "answer", "wrote", "order")}
    for key, value in words.items():
        if not isinstance(value, str):
            raise ValueError(f"needs the text {key!r}")
    if words["order"] not in ORDERS:
        raise ValueError(f"'order' must be one of {', '.join(ORDERS)}")
    branch = found.get("branch")
    if branch is not None and (not isinstance(branch, int) or isinstance(branch, bool)):
        raise ValueError("'branch' must be a whole number")
    free = _steps(found.get("free"), "free")
    passes = found.get("passes", [])
    if (
        not isinstance(passes, list)
        or not all(type(each) is int for each in passes)
        or len(passes) not in (0, len(free))
    ):
        raise ValueError("'passes' must hold a whole number for each step of 'free'")
    read, layers = _attention(found.get("attention"))
    return Anatomy(
        str(words["prompt"]), str(words["answer"]), str(words["wrote"]), str(words["order"]),
        _steps(found.get("truth"), "truth"), free, tuple(passes), branch, read, layers,
    )  # fmt: skip


def _steps(found: object, what: str) -> tuple[Step, ...]:
    if found is None:
        return ()
    if not isinstance(found, list):
        raise ValueError(f"{what!r} must be a list of steps")
    steps = []
    for each in found:
        if not isinstance(each, dict) or not isinstance(each.get("symbol"), str) or not is_number(each.get("p")):
            raise ValueError(f"a step of {what!r} needs the text 'symbol' and the number 'p'")
        top = each.get("top", [])
        pairs = isinstance(top, list) and all(
            isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) and is_number(pair[1])
            for pair in top
        )
        if not pairs:
            raise ValueError(f"'top' of a step of {what!r} must hold pairs of a symbol and a probability")
        steps.append(Step(each["symbol"], float(each["p"]), tuple((symbol, float(p)) for symbol, p in top)))
    return tuple(steps)


def _attention(found: object) -> tuple[tuple[str, ...], tuple[tuple[tuple[float, ...], ...], ...]]:
    if found is None:
        return (), ()
    if not isinstance(found, dict):
        raise ValueError("'attention' must be an object")
    read, layers = texts(found.get("read"), "'read' of the attention"), found.get("layers")
    if not isinstance(layers, list) or not all(isinstance(layer, list) and layer for layer in layers):
        raise ValueError("'layers' of the attention must hold a list of heads a layer")
    weights = tuple(
        tuple(numbers(head if isinstance(head, list) else [None], "a head of the attention") for head in layer)
        for layer in layers
    )
    if any(len(head) != len(read) for layer in weights for head in layer):
        raise ValueError(f"a head of the attention must hold {len(read)} weights, one for each symbol read")
    return read, weights
