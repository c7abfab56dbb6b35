"""Star graphs whose arms differ in length and whose start need not be the centre.

Source: the generator of the public data sets star-small, star-medium and star-hard (insertion language models, arXiv
2505.05755), which are the presets ``star-easy``, ``star-medium`` and ``star-hard``. Each of ``degree`` paths has its
own length and passes through the centre at a place of its own; the answer is the path from its start to its end.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy
import torch
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.tasks import path_star_oracle as oracle
from foresee.tasks.arms import follow_arms
from foresee.tasks.base import Bounds, Labels, Task, WrongTurn, label_vocabulary, require_option, tasks
from foresee.tasks.path_star_draw import PromptForm, Query, Tokens
from foresee.tasks.text import TextForm


@tasks.register("star", later=("labels",))
@dataclass(frozen=True, kw_only=True)
class Star(Task):
    """``degree`` paths through one centre, each of ``shortest`` .. ``longest`` nodes, all lengths equally likely. The
    centre's place in each is uniform too, with at least ``plan`` nodes after it. Labels are drawn without replacement
    from ``nodes``, edges are in random order, and the text form is that of ``path-star``. Lengths alone tell a little,
    of which ``chance`` takes no account: who goes by them is right on 0.36 of ``star-medium`` and 0.23 of
    ``star-hard``. With ``labels`` "words" a checkpoint reads a word of its own in place of each number.

    Facts: ``branch`` [B], where in the answer the decision lies: after the centre; ``distance`` [B], the look-ups that
    it needs, which are the nodes after the centre on the right path; ``arms`` [B, degree, longest], what can be walked
    from the start, padded with -1, in the order of the labels after the centre; ``goal_path`` [B], which of them is
    right.
    """

    text = TextForm(
        "u,v|u,v|.../start,goal=start,...,goal", marks=("|", "/", "="), noun="label", item="edge", between="|"
    )
    summary: ClassVar[str] = (
        "the path through a star whose arms differ in length and whose start may lie before its centre"
    )

    query: ClassVar[Query] = "last"
    """Where prompts ask, as in ``path-star``."""

    degree: Annotated[int, Bounds(2)]
    shortest: int
    longest: int
    plan: Annotated[int, Bounds(1)]
    nodes: int
    labels: Labels = "numbers"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_option(self, "shortest", self.plan + 1)
        require_option(self, "longest", self.shortest)
        require_option(self, "nodes", self.degree * (self.longest - 1) + 1)
        self.declare(
            vocab=label_vocabulary(self.labels, self.nodes, "|", "=", "/", "$"), chance=1 / self.degree,
            prompt_length=self.form.length(self.degree * (self.longest - 1)), answer_length=self.longest,
            plateau=2 * math.log(self.degree) / (self.shortest + self.longest),
        )  # fmt: skip

    @cached_property
    def form(self) -> PromptForm:
        """Where prompts hold what."""
        return PromptForm(self.query, self.nodes)

    @property
    def hops(self) -> int:
        return self.longest - 1

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        degree, longest, row = self.degree, self.longest, numpy.arange(n)[:, None]
        lengths = rng.integers(self.shortest, longest + 1, (n, degree))
        joins = rng.integers(0, lengths - self.plan)
        labels = rng.random((n, self.nodes)).argsort(1)
        # Every path has labels of its own but for the centre, which is the first label.
        place = numpy.arange(longest)
        index = 1 + numpy.arange(degree)[:, None] * (longest - 1) + place - (place > joins[..., None])
        index[place == joins[..., None]] = 0
        paths = labels[row[..., None], index]
        paths[place >= lengths[..., None]] = -1
        ends = numpy.stack((paths[..., :-1], paths[..., 1:]), -1).reshape(n, -1, 2)
        keys = rng.random(ends.shape[:2]) + 2 * (ends[..., 1] < 0)
        ends = ends[row, keys.argsort(1)]
        edges, answer_len = (lengths - 1).sum(1), lengths[:, 0]
        prompt_len = self.form.length(0) + 3 * edges
        tokens = numpy.zeros((n, self.prompt_length + longest + 1), numpy.int64)
        bar, equals, slash = range(self.nodes, self.nodes + 3)
        triples = tokens[:, : 3 * ends.shape[1]].reshape(n, -1, 3)
        triples[..., :2], triples[..., 2] = ends, bar
        triples[row[:, 0], edges - 1, 2] = slash
        tokens[:, : 3 * ends.shape[1]] = triples.reshape(n, -1)
        goal = paths[row[:, 0], 0, answer_len - 1]
        written = numpy.concatenate((paths[:, 0, :1], goal[:, None], numpy.full((n, 1), equals), paths[:, 0]), 1)
        numpy.put_along_axis(tokens, 3 * edges[:, None] + numpy.arange(written.shape[1]), written, 1)
        tokens[numpy.arange(tokens.shape[1]) >= (prompt_len + answer_len)[:, None]] = 0
        tokens = tokens[:, : int((prompt_len + answer_len).max())]
        # What can be walked from the start: its path up to the centre, then any path's rest.
        after = place - joins[:, :1]
        source = numpy.where(after[:, None] > 0, joins[..., None] + after[:, None], 0)
        rests = numpy.take_along_axis(paths, source.clip(max=longest - 1), 2)
        rests[source >= lengths[..., None]] = -1
        arms = numpy.where(after[:, None] > 0, rests, paths[:, :1])
        order = numpy.take_along_axis(arms, joins[:, :1, None] + 1, 2)[..., 0].argsort(1)
        facts = self._facts(arms[row, order], order.argmin(1), joins[:, 0] + 1, answer_len - 1 - joins[:, 0])
        return Batch.of(torch.from_numpy(tokens), torch.from_numpy(prompt_len), torch.from_numpy(answer_len), facts)

    @staticmethod
    def _facts(arms: Tokens, goal_path: Tokens, branch: Tokens, distance: Tokens) -> dict[str, Tensor]:
        found = {"arms": arms, "goal_path": goal_path, "branch": branch, "distance": distance}
        return {name: torch.from_numpy(numpy.ascontiguousarray(value)) for name, value in found.items()}

    def _walk(self, prompt: Sequence[int]) -> tuple[list[int], list[list[int]], int]:
        """The nodes from the start to the centre, the rests of paths after it, by label, and the goal. Raises
        ``RequestError`` where the start leads to no centre."""
        edges, start, goal = oracle.read_prompt(self, [int(token) for token in prompt])
        children = oracle.children_of(edges)
        before = [start]
        while len(children.get(before[-1], [])) == 1 and len(before) <= len(edges):
            before += children[before[-1]]
        rests = [[child] for child in sorted(children.get(before[-1], []))]
        if len(rests) != self.degree:
            raise RequestError(f"star: the start {start} leads to no centre, which {self.degree} edges leave")
        for rest in rests:
            while len(children.get(rest[-1], [])) == 1 and len(rest) <= len(edges):
                rest += children[rest[-1]]
        return before, rests, goal

    def solve(self, prompt: Sequence[int]) -> list[int]:
        before, rests, goal = self._walk(prompt)
        right = [rest for rest in rests if rest[-1] == goal]
        if not right:
            raise RequestError(f"star: no path leads from {before[0]} to {goal} as the end of one")
        return before + right[0]

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        return oracle.fault(self.vocab, self.solve(prompt), answer)

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        return len(self.solve(prompt))

    def check_prompt(self, prompt: Sequence[int]) -> None:
        """Raises ``RequestError`` unless the edges are ``degree`` paths of the task's lengths through one centre, and
        start and goal lie on one of them."""
        edges, _, _ = oracle.read_prompt(self, [int(token) for token in prompt])
        least, most = self.degree * (self.shortest - 1), self.degree * (self.longest - 1)
        if not least <= len(edges) <= most:
            raise RequestError(f"there are {len(edges)} edges, but the task has from {least} to {most}")
        before, rests, _ = self._walk(prompt)
        centre, path = before[-1], self.solve(prompt)
        twice = [node for node, times in Counter(child for _, child in edges).items() if times > 1 and node != centre]
        left = Counter(node for node, _ in edges)
        if twice or max(left.values()) > self.degree or sum(times > 1 for times in left.values()) > 1:
            raise RequestError("the edges do not form a star: a node beside the centre has several edges in or out")
        into = [node for node, child in edges if child == centre]
        if before[0] != centre and before[0] in {child for _, child in edges}:
            raise RequestError(f"the start {before[0]} is entered by an edge, but must be where a path begins")
        if not self.shortest <= len(path) <= self.longest or len(into) > self.degree:
            raise RequestError(f"the path has {len(path)} nodes, but the task's have {self.shortest} to {self.longest}")
        if any(not self.plan <= len(rest) < self.longest for rest in rests):
            raise RequestError(f"each path must have {self.plan} to {self.longest - 1} nodes after the centre {centre}")
        reached = Counter([centre, *(node for rest in rests for node in rest)])
        parent, coming = {child: node for node, child in edges if child != centre}, list(into)
        while coming:
            reached[node := coming.pop()] += 1
            coming += [parent[node]] if node in parent and parent[node] not in reached else []
        if reached.keys() != {node for edge in edges for node in edge}:
            raise RequestError("the edges do not form a star: some do not lie on a path through the centre")

    def identity(self, batch: Batch) -> Fingerprints:
        return self.form.graphs_in(batch.tokens.cpu().numpy(), batch.prompt_len.cpu().numpy())

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        arms = numpy.full((len(batch), self.degree, self.longest), -1, numpy.int64)
        goal_path, branch, distance = numpy.zeros((3, len(batch)), numpy.int64)
        for row, (prompt, _) in enumerate(batch.pairs()):
            before, rests, goal = self._walk(prompt)
            for place, rest in enumerate(rests):
                walked = (before + rest)[: self.longest]
                arms[row, place, : len(walked)] = walked
                if rest[-1] == goal:
                    goal_path[row], distance[row] = place, len(rest)
            branch[row] = len(before)
        return self._facts(arms, goal_path, branch, distance)

    def implied(self, batch: Batch, decisions: Tensor) -> Tensor | None:
        return follow_arms(batch, decisions, "goal_path")

    def wrong_turn(self, batch: Batch, rng: torch.Generator) -> WrongTurn | None:
        """For each row a wrong path drawn uniformly among those that are no shorter than the right one, which goes on
        as long as the answer does."""
        if not {"arms", "goal_path", "branch"} <= batch.facts.keys():
            return None
        arms, goal_path, branch = (batch.facts[name] for name in ("arms", "goal_path", "branch"))
        long = ((arms >= 0).sum(2) >= batch.answer_len[:, None]).scatter(1, goal_path[:, None], False)
        draws = torch.rand(long.shape, generator=rng, device=rng.device).to(long.device)
        drawn = draws.masked_fill(~long, -1).argmax(1)
        rows = long.any(1).nonzero().flatten()
        answers = self.implied(batch, arms[torch.arange(len(batch), device=arms.device), drawn, branch])
        return WrongTurn(rows, branch[rows], answers[rows]) if len(rows) and answers is not None else None


tasks.preset("star-easy", "star:degree=3,shortest=5,longest=5,plan=4,nodes=20")
tasks.preset("star-medium", "star:degree=3,shortest=3,longest=6,plan=2,nodes=20")
tasks.preset("star-hard", "star:degree=5,shortest=6,longest=12,plan=5,nodes=56")
