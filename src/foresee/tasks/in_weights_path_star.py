"""In-weights path-star: one star, learned by heart edge by edge, and paths to ends that were never asked for.

Noroozizadeh et al. 2025 (arXiv 2510.26745) and the mixed recipe of its repository; docs/tasks.md says what is not
built.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints, fingerprint
from foresee.tasks.arms import draw_wrong_arms, follow_arms
from foresee.tasks.base import Bounds, Labels, Task, WrongTurn, label_vocabulary, tasks
from foresee.tasks.text import TextForm

EDGE, PATH, PAUSE = "edge:", "path:", "_"

ARMS_SHOWN = 256
"""Nodes of the largest graph whose arms are facts of every row: the table is repeated in each."""

Directions = Literal["both", "forward", "backward"]
Query = Literal["goal", "start-goal"]
Answer = Literal["path", "first"]


@tasks.register("in-weights-path-star", later=("labels",))
@dataclass(frozen=True, kw_only=True)
class InWeightsPathStar(Task):
    """The graph G(degree, length), the same in every row; ``graph`` numbers its labels' permutation.

    ``edge:u=`` is answered by a neighbour of u, ``path:goal=`` (``path:start,goal=`` with query=start-goal) by the
    nodes from the centre to that end, or with answer=first by the node after the centre alone. Before ``=`` stand
    ``pauses`` pause tokens, which the text form leaves out. A share ``facts`` of the rows, before those that are held
    out leave, are edges, each in either or one of its ``directions`` ("forward": away from the centre). Of the ends,
    the share ``asked`` (at least one, and never all) is held out; all edges are trained on.

    Facts: ``branch`` [B], where in the answer the decision lies (-1 for edges), and on graphs of up to 256 nodes
    ``arms`` [B, degree, length] and ``goal_arm`` [B] (for an edge, the arm it is on).
    """

    summary: ClassVar[str] = "paths of one memorised star to ends that were not asked for in training (2510.26745)"
    text = TextForm("edge:u=v or path:goal=centre,...,goal", marks=(EDGE, PATH, "="), noun="label")

    degree: Annotated[int, Bounds(2)]
    length: Annotated[int, Bounds(2)]
    pauses: Annotated[int, Bounds(0)] = 1
    directions: Directions = "both"
    query: Query = "goal"
    answer: Answer = "path"
    asked: Annotated[float, Bounds(above=0, below=1)] = 0.25
    facts: Annotated[float, Bounds(0, below=1)] = 0.5
    graph: Annotated[int, Bounds(0)] = 0
    labels: Labels = "numbers"

    def __post_init__(self) -> None:
        super().__post_init__()
        answer_length = self.length if self.answer == "path" else 1
        self.declare(
            vocab=label_vocabulary(self.labels, self.nodes, EDGE, PATH, PAUSE, "="), chance=1 / self.degree,
            prompt_length=(3 if self.query == "goal" else 4) + self.pauses, answer_length=answer_length,
            plateau=math.log(self.degree) / answer_length,
        )  # fmt: skip

    @property
    def nodes(self) -> int:
        """Nodes of the graph."""
        return 1 + self.degree * (self.length - 1)

    @cached_property
    def arms(self) -> NDArray[numpy.int64]:
        """[degree, length] labels from the centre outwards. The last arms' ends are held out."""
        rng = seeds.stream("in-weights-path-star", self.degree, self.length, self.graph)
        labels = rng.permutation(self.nodes)
        arms = numpy.empty((self.degree, self.length), numpy.int64)
        arms[:, 0] = labels[0]
        arms[:, 1:] = labels[1:].reshape(self.degree, -1)
        return arms

    @property
    def _trained(self) -> int:
        """How many arms' ends are trained on: the first so many, and labels are random."""
        return min(self.degree - 1, max(1, round(self.degree * (1 - self.asked))))

    @cached_property
    def parent(self) -> dict[int, int]:
        """Every label but the centre's, and the one before it on its arm."""
        return {child: node for arm in self.arms.tolist() for node, child in pairwise(arm)}

    @cached_property
    def inner(self) -> frozenset[int]:
        """Labels that are not the end of an arm."""
        return frozenset(self.parent.values())

    @cached_property
    def _arm_of(self) -> NDArray[numpy.int64]:
        """[nodes]: the arm a label is on, 0 for the centre."""
        found = numpy.empty(self.nodes, numpy.int64)
        found[self.arms] = numpy.arange(self.degree)[:, None]
        found[self.arms[0, 0]] = 0
        return found

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        edge, path, pause, equals = self.vocab.encode((EDGE, PATH, PAUSE, "="))
        fact = rng.random(n) < self.facts
        arms = self.arms[rng.integers(self.degree, size=n)]
        tokens = numpy.full((n, self.prompt_length + self.answer_length), pause, numpy.int64)
        tokens[:, 0] = path
        tokens[:, 1 : self.prompt_length - 1 - self.pauses] = arms[:, [-1] if self.query == "goal" else [0, -1]]
        tokens[:, self.prompt_length - 1] = equals
        tokens[:, self.prompt_length :] = arms if self.answer == "path" else arms[:, 1:2]

        step = rng.integers(self.length - 1, size=n)
        rows = numpy.arange(n)
        ends = numpy.stack([arms[rows, step], arms[rows, step + 1]], axis=1)
        backward = rng.random(n) < {"both": 0.5, "forward": 0.0, "backward": 1.0}[self.directions]
        ends = numpy.where(backward[:, None], ends[:, ::-1], ends)
        tokens[fact] = 0
        tokens[fact, 0], tokens[fact, 1], tokens[fact, 2], tokens[fact, 3] = edge, ends[fact, 0], equals, ends[fact, 1]
        prompt_len = torch.from_numpy(numpy.where(fact, 3, self.prompt_length))
        answer_len = torch.from_numpy(numpy.where(fact, 1, self.answer_length))
        bare = Batch.of(torch.from_numpy(tokens), prompt_len, answer_len)
        return replace(bare, facts=self.facts_of(bare))

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        tokens = batch.tokens.cpu().numpy()
        fact = tokens[:, 0] == self.vocab.token(EDGE)
        decision = self.answer_length > 1
        facts = {"branch": torch.from_numpy(numpy.where(fact, -1, int(decision)))}
        if self.nodes <= ARMS_SHOWN:
            # The centre is on every arm, so an edge's arm is that of its outer end.
            outer = numpy.where(tokens[:, 1] == self.arms[0, 0], tokens[:, 3], tokens[:, 1])
            goal = tokens[:, self.prompt_length - 2 - self.pauses]
            facts["goal_arm"] = torch.from_numpy(self._arm_of[numpy.where(fact, outer, goal)])
            facts["arms"] = torch.from_numpy(self.arms).expand(len(tokens), -1, -1)
        return facts

    def implied(self, batch: Batch, decisions: Tensor) -> Tensor | None:
        return follow_arms(batch, decisions) if self.answer == "path" else None

    def wrong_turn(self, batch: Batch, rng: torch.Generator) -> WrongTurn | None:
        return draw_wrong_arms(batch, rng) if self.answer == "path" else None

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The path, by walking back from its end; for an edge, the neighbour nearest to the centre."""
        kind, node = self._asks(prompt)
        if kind == EDGE:
            if self.directions == "forward" or node not in self.parent:
                return [min(child for child, above in self.parent.items() if above == node)]
            return [self.parent[node]]
        path = [node]
        while path[-1] in self.parent:
            path.append(self.parent[path[-1]])
        path.reverse()
        return path if self.answer == "path" else path[1:2]

    def _asks(self, prompt: Sequence[int]) -> tuple[str, int]:
        """``edge:`` or ``path:``, and the node or goal that a prompt names. Raises ``RequestError`` on anything
        else."""
        symbols = self.vocab.decode([int(token) for token in prompt])
        if len(symbols) == 3 and symbols[0] == EDGE and symbols[2] == "=" and symbols[1].isdecimal():
            node = int(symbols[1])
            left = self.parent.keys() if self.directions == "backward" else self.inner
            if self.directions != "both" and node not in left:
                raise RequestError(f"node {node} has no edge that goes {self.directions}")
            return EDGE, node
        rest = [PAUSE] * self.pauses + ["="]
        named = self.prompt_length - len(rest)
        if len(symbols) == self.prompt_length and symbols[0] == PATH and symbols[named:] == rest:
            start, goal = symbols[1], symbols[named - 1]
            if named > 2 and (not start.isdecimal() or int(start) in self.parent):
                raise RequestError(f"the path is asked for from {start}, which is not the centre")
            if not goal.isdecimal() or int(goal) in self.inner:
                raise RequestError(f"{goal} is not the end of an arm")
            return PATH, int(goal)
        form = "goal" if self.query == "goal" else "start,goal"
        raise RequestError(f"in-weights-path-star: the prompt is neither edge:u= nor path:{form}= with its pauses")

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        return 1 if self._asks(prompt)[0] == EDGE else self.answer_length

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        """For an edge any neighbour in a trained direction is right."""
        kind, node = self._asks(prompt)
        if kind == EDGE and len(answer) == 1:
            other = int(answer[0])
            inwards = self.directions != "forward" and self.parent.get(node) == other
            if inwards or (self.directions != "backward" and self.parent.get(other) == node):
                return None
        return super().fault(prompt, answer)

    def identity(self, batch: Batch) -> Fingerprints:
        """[B] uint64: a fingerprint of the goal, or of the edge with its direction."""
        tokens = batch.tokens.cpu().numpy()
        fact = tokens[:, 0] == self.vocab.token(EDGE)
        goal = tokens[:, self.prompt_length - 2 - self.pauses]
        return fingerprint(
            numpy.stack([tokens[:, 0], numpy.where(fact, tokens[:, 1], goal), numpy.where(fact, tokens[:, 3], 0)], 1)
        )

    def held_out(self, batch: Batch) -> NDArray[numpy.bool_]:
        """[B]: paths to the ends that are held out; edges are all trained on."""
        tokens = batch.tokens.cpu().numpy()
        goal = tokens[:, self.prompt_length - 2 - self.pauses]
        asked = numpy.isin(goal, self.arms[self._trained :, -1])
        return numpy.asarray((tokens[:, 0] == self.vocab.token(PATH)) & asked)

    def write_line(self, prompt: Sequence[int], answer: Sequence[int]) -> str:
        pause = self.vocab.token(PAUSE)
        return super().write_line([token for token in prompt if token != pause], answer)

    def read_tokens(self, line: str) -> tuple[list[int], list[int]]:
        asked, answer = super().read_tokens(line)
        if asked[0] == self.vocab.token(PATH):
            asked[-1:] = self.vocab.encode([PAUSE] * self.pauses + ["="])
        return asked, answer


tasks.preset("in-weights-mini", "in-weights-path-star:degree=500,length=4")
# The repository's default graph, and the paper's pauses for the three it reports.
tasks.preset("in-weights-default", "in-weights-path-star:degree=10000,length=6,pauses=1")
tasks.preset("in-weights-5000-5", "in-weights-path-star:degree=5000,length=5,pauses=5")
tasks.preset("in-weights-10000-6", "in-weights-path-star:degree=10000,length=6,pauses=6")
tasks.preset("in-weights-10000-10", "in-weights-path-star:degree=10000,length=10,pauses=10")
