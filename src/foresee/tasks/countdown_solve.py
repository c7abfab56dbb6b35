"""Solutions of countdown by search, and what an equation says. Shares no code with the drawing of examples."""

from __future__ import annotations

from itertools import combinations

OPERATIONS = ("+", "-", "*", "/")

Step = tuple[int, str, int, int]


def apply(sign: str, a: int, b: int) -> int | None:
    """The result of an operation, or None where it is no whole number from 0 up."""
    if sign == "+":
        return a + b
    if sign == "-":
        return a - b if a >= b else None
    if sign == "*":
        return a * b
    return a // b if b and a % b == 0 else None


def search(numbers: list[int], target: int, most: int) -> list[Step] | None:
    """Equations that use every number once and leave ``target``, none with a result above ``most``; None where there
    are none."""
    return _search(tuple(sorted(numbers, reverse=True)), target, most, set())


def _search(numbers: tuple[int, ...], target: int, most: int, hopeless: set[tuple[int, ...]]) -> list[Step] | None:
    """``numbers`` descend; ``hopeless`` collects those from which the target cannot be reached."""
    if len(numbers) == 1:
        return [] if numbers[0] == target else None
    if numbers in hopeless:
        return None
    for first, second in combinations(range(len(numbers)), 2):
        a, b = numbers[first], numbers[second]
        rest = numbers[:first] + numbers[first + 1 : second] + numbers[second + 1 :]
        for sign in OPERATIONS:
            result = apply(sign, a, b)
            if result is None or result > most:
                continue
            after = _search(tuple(sorted((*rest, result), reverse=True)), target, most, hopeless)
            if after is not None:
                return [(a, sign, b, result), *after]
    hopeless.add(numbers)
    return None
