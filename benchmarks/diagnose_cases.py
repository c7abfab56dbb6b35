"""Files of which it is known what ``foresee diagnose`` ought to say: twelve of one pattern each, and twelve in which
two patterns are mixed. ``diagnose_known_answers.py`` diagnoses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy

from foresee.core.seeds import stream
from foresee.core.spec import resolve
from foresee.experiments.diagnose.verdict import COMPOUNDING, COSTLY, NONE_NEEDED, OPEN, TOO_SMALL
from foresee.tasks.base import tasks

Pair = tuple[str, str]
Rng = numpy.random.Generator

FINDER = "transformer:layers=3,width=128,heads=1,context=128,positions=rotary,norm=rms,mlp=swiglu"
"""Finds the look-ups of a path-star in a file by the middle of these budgets, which two layers of two heads do not
(docs/log.md)."""
TINY = "transformer:layers=2,width=64,heads=4,context=128"
ONE = "transformer:layers=1,width=64,heads=4,context=64"
"""Enough for the sums, and the quickest to learn them."""
DIGITS, BASE, LETTERS = 6, 4, 12


@dataclass(frozen=True)
class Case:
    """A file, the network and budget to diagnose it with, and what is right to say of it."""

    write: Callable[[Rng, int], list[Pair]]
    """Makes so many rows."""
    right: tuple[str, ...]
    """Verdicts that count as right."""
    why: str
    """What the file is, and why that is right."""
    backbone: str = TINY
    steps: int = 600
    batch: int = 64
    lr: float = 5e-3
    rows: int = 30_000
    tokenizer: str = "words"
    ending: str = "none"


# Rows of a task, and changes of them.


def from_task(
    spec: str, change: Callable[[Pair, Rng], Pair] = lambda pair, _: pair
) -> Callable[[Rng, int], list[Pair]]:
    """Rows of a task's training split, in its text form with spaces for commas; ``change`` is done to each."""

    def write(rng: Rng, n: int) -> list[Pair]:
        task = resolve(tasks, spec).build()
        pairs = []
        for prompt, answer in task.sample(n, rng).pairs():
            start, line = task.write_line(prompt, []), task.write_line(prompt, answer)
            pairs.append((start.replace(",", " "), line[len(start) :].replace(",", " ")))
        return [change(pair, rng) for pair in pairs]

    return write


def backwards(pair: Pair, _: Rng) -> Pair:
    """The answer with its words in the opposite order."""
    return pair[0], " ".join(pair[1].split()[::-1])


def given_away(pair: Pair, _: Rng) -> Pair:
    """The prompt ends with the answer's second word, which is the branch."""
    return f"{pair[0]} {pair[1].split()[1]} =", pair[1]


def noisy(symbols: int) -> Callable[[Pair, Rng], Pair]:
    """A tenth of the words of the answer are replaced by ones drawn from 0 to ``symbols`` - 1."""

    def change(pair: Pair, rng: Rng) -> Pair:
        return pair[0], " ".join(str(rng.integers(symbols)) if rng.random() < 0.1 else w for w in pair[1].split())

    return change


# Parts of rows, to be put side by side.


def join(*parts: Pair) -> Pair:
    """Prompts in a row, and answers in a row."""
    return " ".join(prompt for prompt, _ in parts), " ".join(answer for _, answer in parts)


def sums(rng: Rng, mark: str = "", *, known: bool = True) -> Pair:
    """A decision: the prompt's digits are added up from the left modulo 4, and the answer writes the sums from the last
    to the first, each followed by the digit that leads to the one before. The last sum takes all digits, and every
    later token only the two before it and a look-up. Written backwards, each takes one addition.

    Where it is not ``known``, a number that no prompt tells is added to every sum: a free choice, which looks the same
    token by token, and which no objective can learn."""
    digits = rng.integers(BASE, size=DIGITS).tolist()
    reached = (numpy.cumsum(digits) + (0 if known else rng.integers(BASE))) % BASE
    answer = [f"{mark}s{s} {mark}d{d}" for s, d in zip(reached[::-1].tolist(), digits[::-1], strict=True)]
    return " ".join(f"{mark}d{d}" for d in digits), " ".join(answer)


def letters(rng: Rng, n: int, *, noise: float = 0.0, slots: int = 0) -> Pair:
    """``n`` words to copy, each replaced by another with this probability; the prompt is filled up to ``slots``."""
    words = [f"x{w}" for w in rng.integers(LETTERS, size=n).tolist()]
    answer = [f"x{rng.integers(LETTERS)}" if rng.random() < noise else w for w in words]
    return " ".join(words + ["_"] * (slots - n)), " ".join(answer)


def each(row: Callable[[Rng], Pair]) -> Callable[[Rng, int], list[Pair]]:
    """So many rows, one by one."""
    return lambda rng, n: [row(rng) for _ in range(n)]


def a_tenth_without(rng: Rng) -> Pair:
    """The sums, but one row in ten copies as many words."""
    return letters(rng, 2 * DIGITS) if rng.random() < 0.1 else sums(rng)


def half_given_away(rng: Rng) -> Pair:
    """The prompt ends with the last sum in half of the rows, and with a word that says nothing in the others."""
    prompt, answer = sums(rng)
    return f"{prompt} {answer.split()[0] if rng.random() < 0.5 else 'hidden'}", answer


_CHAIN = from_task("noisy-chain:length=12,noise=0.05,key=6,states=8")
_TOO_LARGE = from_task("path-star:degree=4,length=6,nodes=40,goals=one")


def chain_after_copy(rng: Rng, n: int) -> list[Pair]:
    """Six words to copy, then a chain in which each step slips one time in twenty."""
    return [join(letters(rng, 6), pair) for pair in _CHAIN(rng, n)]


def half_too_hard(rng: Rng, n: int) -> list[Pair]:
    """Every other row copies six words; the others are path-stars too large for the budget."""
    return [letters(rng, 6) if row % 2 else pair for row, pair in enumerate(_TOO_LARGE(rng, n))]


G25, G34 = "path-star:degree=2,length=5,nodes=20,goals=one", "path-star:degree=3,length=4,nodes=20,goals=one"
MORE_LABELS = "path-star:degree=2,length=5,nodes=50,goals=one"
"""Where only two tokens are look-ups, some seeds find them sooner among more labels."""
PARITY = "running-parity:bits=12"

KNOWN: dict[str, Case] = {
    "path-star-2-5": Case(from_task(G25), (OPEN,), "the paper's", FINDER, 1200, 64, 1e-3, 60_000),
    "path-star-3-4": Case(from_task(G34), (OPEN,), "the paper's", FINDER, 700, 256, 1.5e-3, 60_000),
    "path-star-2-5-backwards": Case(
        from_task(G25, backwards), (NONE_NEEDED,), "each token is a look-up", FINDER, 900, 64, 1e-3, 60_000
    ),
    "path-star-3-4-backwards": Case(
        from_task(G34, backwards), (NONE_NEEDED,), "each token is a look-up", FINDER, 800, 128, 1e-3, 60_000
    ),
    "path-star-2-5-given-away": Case(
        from_task(MORE_LABELS, given_away), (NONE_NEEDED, COSTLY), "the branch is in the prompt", FINDER, 1800, 128,
        1e-3, 60_000,
    ),
    "running-parity": Case(
        from_task(PARITY), (OPEN,), "the parity of all bits comes first", steps=700, batch=128, lr=1e-3,
        tokenizer="characters",
    ),
    "copying": Case(from_task("copying:length=6,symbols=12"), (NONE_NEEDED,), "copying", steps=250, lr=2e-3),
    "sorting": Case(from_task("sorting:length=5,symbols=15"), (NONE_NEEDED,), "sorting", steps=500, lr=2e-3),
    "addition": Case(
        from_task("addition:digits=3"), (COSTLY, NONE_NEEDED), "carries come from the right", steps=4000, lr=1e-3,
        tokenizer="characters",
    ),
    "noisy-chain": Case(_CHAIN, (COMPOUNDING,), "each step slips", steps=700, lr=2e-3),
    "label-noise": Case(
        from_task("copying:length=6,symbols=12", noisy(12)), (NONE_NEEDED,), "a tenth of the labels is drawn",
        lr=2e-3,
    ),
    "too-hard": Case(
        _TOO_LARGE, (TOO_SMALL,), "a path-star too large", steps=300, lr=2e-3
    ),
}  # fmt: skip
"""One pattern each."""

MIXED: dict[str, Case] = {
    "a-tenth-without-decision": Case(each(a_tenth_without), (OPEN,), "the decision is in nine rows of ten", ONE, 450),
    "two-decisions": Case(
        each(lambda rng: join(sums(rng, "a"), sums(rng, "b"))), (OPEN,), "each is one that reversed learns", ONE
    ),
    "late-decision": Case(
        each(lambda rng: join(letters(rng, 6), sums(rng))), (OPEN,), "token 7 is the decision", ONE
    ),
    "decision-after-long-copy": Case(
        each(lambda rng: join(letters(rng, 20), sums(rng))), (OPEN,), "token 21 is the decision", ONE
    ),
    "decision-and-lengths": Case(
        each(lambda rng: join(sums(rng), letters(rng, int(rng.integers(1, 13)), slots=12))), (OPEN,),
        "answers of 13 to 24 tokens, of which the first is the decision", TINY, 3000, lr=2e-3, ending="symbol",
    ),
    "half-given-away": Case(each(half_given_away), (OPEN,), "half of the rows leave the decision to be made", ONE, 500),
    "decision-and-noise": Case(
        each(lambda rng: join(letters(rng, 6, noise=0.1), sums(rng))), (OPEN,),
        "the noise costs every order the same, the decision does not", ONE, 1200,
    ),
    "free-choice": Case(
        each(lambda rng: sums(rng, known=False)), (NONE_NEEDED,), "looks like a decision, but nothing can know it",
        TINY, 2000, lr=2e-3,
    ),
    "free-choice-and-decision": Case(
        each(lambda rng: join(sums(rng, "a", known=False), sums(rng, "b"))), (OPEN,),
        "token 13 can be known, token 1 cannot", TINY, 3000, lr=2e-3,
    ),
    "chain-after-copy": Case(
        chain_after_copy, (COMPOUNDING,), "the chain's errors add up, the copy's do not", steps=700, lr=2e-3
    ),
    "noise-and-lengths": Case(
        each(lambda rng: letters(rng, int(rng.integers(1, 16)), noise=0.1, slots=15)), (NONE_NEEDED,),
        "answers of 1 to 15 tokens, a tenth of them drawn", ONE, 600, ending="symbol",
    ),
    "half-too-hard": Case(
        half_too_hard, (TOO_SMALL,), "half of the rows are out of reach on this budget", steps=300, lr=2e-3
    ),
}  # fmt: skip
"""Two patterns each."""

CASES = KNOWN | MIXED


def write_case(name: str, seed: int) -> list[Pair]:
    """The rows of a case under a seed."""
    return CASES[name].write(stream("known answers", name, seed), CASES[name].rows)
