"""What the page may ask of a trained run: problems to try it on, and what it decides. Plain numbers go out, tokens all.

No call depends on an earlier one: each says all it needs, so that a page may go back at will.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property, lru_cache
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import ForeseeWarning, RequestError
from foresee.core.seeds import stream
from foresee.explore.graph import describe_answer, read_graph, replace_goal, shuffle_edges
from foresee.explore.steps import Decoding, decide, find_decoding, in_task_order, step_log_probs, trace
from foresee.metrics.accuracy import is_ended
from foresee.tasks.data import Data
from foresee.training.data import draw
from foresee.training.records import value_of
from foresee.training.run import Run

SHOWN, POOL, REMEMBERED = 10, 256, 10_000
"""Symbols of a step that are sent with their probability, beside the true one and the one written; test examples that
are drawn at a time; prompts that are known to be the task's own."""

Json = dict[str, Any]


class Session:
    """One run, ready to be asked by one thread at a time; whoever asks holds ``turn``."""

    def __init__(self, run: Run) -> None:
        """Raises ``RequestError`` where the run's weights cannot be read."""
        self.run, self.task, self.objective = run, run.task, run.objective
        self.vocab, self.turn = self.objective.vocab, Lock()
        self._known: dict[tuple[int, ...], None] = {}
        self._pool = lru_cache(maxsize=4)(lambda block: draw(self.task, run.spec.task, "test", POOL, block))
        self._kept: dict[tuple[int, ...], list[int]] = {}
        if isinstance(self.task, Data):
            try:
                self.task.rows("test")
            except RequestError as error:
                if run.data is not None:
                    raise
                warnings.warn(
                    f"{error}; the page shows the examples that the run has kept", ForeseeWarning, stacklevel=2
                )
                self._kept = {
                    tuple(self.task.read_line(each["prompt"])[0]): self.task.read_answer(each["answer"])
                    for each in run.examples
                }

    @cached_property
    def decoding(self) -> Decoding:
        """What of its decisions the objective can show."""
        prompt = self._example(0)
        return find_decoding(self.objective, prompt, self._length(prompt))

    def describe(self) -> Json:
        """The run, and the symbol of every token."""
        spec, verdict = self.run.spec, self.run.verdict
        return {
            "task": spec.task, "objective": spec.objective, "backbone": spec.backbone, "steps": self.run.steps,
            "summary": self.objective.summary, "order": self.objective.order, "decoding": self.decoding.value,
            "chance": self.task.chance, "exact": value_of(self.run.rows), "verdict": verdict.label,
            "doubts": list(verdict.doubts), "symbols": list(self.vocab), "task_symbols": len(self.task.vocab),
        }  # fmt: skip

    def draw(self, number: int) -> Json:
        """Test example ``number``, which training has not seen unless it read it in a file of the user's."""
        return self._problem(self._example(number))

    def read(self, line: str) -> Json:
        """The problem of a line in the task's text form; an answer after the prompt is left out."""
        return self._problem(self.task.read_line(line)[0])

    def choose_goal(self, prompt: Sequence[int], goal: int) -> Json:
        """The problem of the same graph with another goal."""
        self._require_prompt(prompt)
        return self._problem(replace_goal(self.task, prompt, goal))

    def shuffle(self, prompt: Sequence[int], number: int) -> Json:
        """The same problem with its edges in another order, one for each ``number``."""
        self._require_prompt(prompt)
        return self._problem(shuffle_edges(self.task, prompt, stream("explore", "edges", number)))

    def decide(self, prompt: Sequence[int], begun: Sequence[int], ahead: int) -> Json:
        """Lets the model decide up to ``ahead`` more symbols of an answer of which ``begun`` are decided, in the
        objective's own order, and says how likely every step was. Steps lie in that order, ``place`` in the task's."""
        self._require_prompt(prompt)
        length, decided = self._length(prompt), list(begun)
        if len(begun) > length:
            raise RequestError(f"{len(begun)} symbols are decided, but the answer has {length}")
        if self.decoding is Decoding.whole and 0 < len(begun) < length:
            raise RequestError(f"{self.run.spec.objective} decides its answer as a whole; none of it can be begun")
        while ahead > 0 and not self._complete(decided, length):
            decided += decide(self.objective, prompt, decided, length, self.decoding)
            ahead -= 1
        return self._view(prompt, decided, length)

    # What is behind ------------------------------------------------------------------------------------------------

    def _example(self, number: int) -> list[int]:
        if self._kept:
            return list([*self._kept][number % len(self._kept)])
        block, row = divmod(number, POOL)
        batch = self._pool(block)
        return batch.tokens[row, : int(batch.prompt_len[row])].tolist()

    def _require_prompt(self, prompt: Sequence[int]) -> None:
        """Raises ``RequestError`` unless the prompt was given out here, or the task reads it back from its text form
        (which not every prompt survives, such as one with a word that a tokenizer does not know)."""
        if tuple(prompt) in self._known:
            return
        if any(token >= len(self.task.vocab) for token in prompt):
            raise RequestError(f"a prompt holds tokens below {len(self.task.vocab)} only, those of the task's symbols")
        if self.task.read_line(self.task.write_line(prompt, []))[0] != list(prompt):
            raise RequestError(f"these tokens are no prompt of {self.run.spec.task}")

    def _truth(self, prompt: Sequence[int]) -> list[int] | None:
        """The answer; None where many are right, or where the task knows none, as for a prompt that is not in its
        file."""
        if self.task.open_ended:
            return None
        if self._kept:
            return self._kept.get(tuple(prompt))
        try:
            return self.task.solve(prompt)
        except RequestError:
            return None

    def _right(self, prompt: Sequence[int], answer: Sequence[int]) -> bool | None:
        """Whether a whole answer is right, by the rule of the measure ``exact``; None where nobody knows."""
        if not self.task.open_ended and self._truth(prompt) is None:
            return None
        return is_ended(self.task, answer) and (
            list(answer) == self._truth(prompt) if self._kept else self.task.verify(prompt, answer)
        )

    def _length(self, prompt: Sequence[int]) -> int:
        """Symbols of the answer to be written, the most where only a symbol ends it. An objective that does not write
        forwards has to know that beforehand and is told, as when it is measured."""
        truth = self._truth(prompt)
        if self.task.end is not None and self.objective.order == "forward":
            return self.task.answer_length
        return self.task.answer_length_of(prompt) if truth is None else len(truth)

    def _complete(self, decided: Sequence[int], length: int) -> bool:
        ended = self.objective.order == "forward" and self.task.end is not None and self.task.end in decided
        return ended or len(decided) == length

    def _problem(self, prompt: list[int]) -> Json:
        truth, graph = self._truth(prompt), read_graph(self.task, prompt)
        self._known[tuple(prompt)] = None
        if len(self._known) > REMEMBERED:
            del self._known[next(iter(self._known))]
        return {
            "line": self.task.write_line(prompt, []), "prompt": prompt, "truth": truth, "length": self._length(prompt),
            "branch": self._branch(prompt, truth), "graph": None if graph is None else asdict(graph),
        }  # fmt: skip

    def _branch(self, prompt: list[int], truth: list[int] | None) -> int | None:
        """The place of the decision in the answer, where the task knows one."""
        if truth is None:
            return None
        facts = self.task.facts_of(Batch.of(torch.tensor([[*prompt, *truth]]), len(prompt), len(truth)))
        place = int(facts["branch"][0]) if "branch" in facts else -1
        return place if place >= 0 else None  # a row that asks for a bare fact holds no decision

    def _view(self, prompt: Sequence[int], decided: list[int], length: int) -> Json:
        """What is decided so far, how likely every step was, and what came of it."""
        complete, answer = self._complete(decided, length), in_task_order(self.objective, decided)
        places = in_task_order(self.objective, range(length))
        truth = self._truth(prompt) or []
        steps: list[Json] = []
        if self.decoding is Decoding.scored:
            scores = step_log_probs(self.objective, prompt, decided, length)
            assert scores is not None
            expected = in_task_order(self.objective, truth)
            for step, row in enumerate(scores[: len(decided) + (not complete)]):
                besides = [*decided[step : step + 1], *expected[step : step + 1]]
                steps.append({"place": places[step], **_shares(row, besides)})
        elif self.decoding is Decoding.whole and complete and decided:
            found = trace(self.objective, prompt, len(answer))
            for place in places:
                if found is not None:
                    shares = _shares(found.log_probs[place], [answer[place], *truth[place : place + 1]])
                    steps.append({"place": place, "pass": int(found.passes[place]), **shares})
        return {
            "begun": decided, "complete": complete, "steps": steps,
            "right": self._right(prompt, answer) if complete else None,
            "said": describe_answer(self.task, read_graph(self.task, prompt), answer) if complete else None,
        }  # fmt: skip


def _shares(log_probs: Tensor, besides: Sequence[int]) -> Json:
    """The likeliest symbols [[token, probability], ...], the likeliest first, and what all others have together."""
    probabilities = log_probs.double().softmax(0)
    ranked = probabilities.topk(min(SHOWN, len(probabilities))).indices.tolist()
    ranked += [token for token in dict.fromkeys(besides) if token not in ranked]
    # Not by topk itself: decoding takes the first of equal ones.
    first = int(log_probs.argmax())
    ranked = [first, *(token for token in ranked if token != first)]
    shown = [[token, float(probabilities[token])] for token in ranked]
    return {"shares": shown, "others": max(0.0, 1.0 - sum(share for _, share in shown))}
