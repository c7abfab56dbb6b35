"""Path-star graphs G(d, l): arms that leave a centre, and the path from the centre to the end of one of them.

Source: Bachmann & Nagarajan (2024); the text form is that of the data files published with it. ``length`` counts the
nodes on an arm, the centre included. The variants are Frydenlund's (2024, 2025); docs/tasks.md says what is our
reading.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from statistics import fmean
from typing import Annotated, ClassVar

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.core.fingerprints import Fingerprints
from foresee.tasks import path_star_draw as drawing
from foresee.tasks import path_star_oracle as oracle
from foresee.tasks.arms import draw_lures, draw_wrong_arms, follow_arms
from foresee.tasks.base import Bounds, Labels, Lure, Task, WrongTurn, label_vocabulary, tasks
from foresee.tasks.path_star_draw import PromptForm, Sampler, Shape, Tokens
from foresee.tasks.text import TextForm


@tasks.register("path-star", later=("order", "query", "generalised", "sizes", "splits", "labels"))
@dataclass(frozen=True, kw_only=True)
class PathStar(Task):
    """G(degree, length) with node labels drawn without replacement from ``nodes`` labels, and edges in random order.

    The prompt is ``u,v|u,v|.../start,goal=`` (3 * degree * (length - 1) + 3 tokens; the commas of the text form are not
    tokens) and the answer the ``length`` nodes from centre to goal. Tokens 0 .. nodes - 1 are the labels; ``|``, ``=``,
    ``/`` and ``$`` follow.

    * ``goals``: "one" draws a new graph for each row; with "all" rows come in groups that hold the same graph, edges in
      the same order, with each end as the goal once, in random order.
    * ``order`` of the edges: "shuffled"; "arm-wise", arm after arm; "causal-wise", arms interleaved at random. In the
      last two each arm's edges go outwards from the centre.
    * ``query``: "last", or "first", ``start,goal/u,v|u,v|...=``.
    * ``generalised``: "none" asks for an arm by its end; "arm" and "path" by any of its nodes but the centre, all
      equally likely. The answer is the whole arm, or for "path" stops at the goal.
    * ``sizes``: "mixed" draws each graph's length uniformly from 2 .. ``length``.
    * ``splits``: distances from the centre, such as "1" or "1+3", at which every node has two children, so that arms
      are trees whose ends are asked for; "none" for plain arms. Not combined with
      ``order``, ``generalised`` or ``sizes``.
    * ``labels``: "words" has a checkpoint read a word of its own in place of each number.

    Facts: ``arms`` [B, ends, length], the tokens from the centre to each end, padded with -1, in an order that says
    nothing about the goal; ``branch`` [B], where in the answer the decision lies (always at 1); on plain arms
    ``goal_arm`` [B], which of them the answer is or begins (on trees a wrong path may be right at first). ``chance``
    and ``plateau`` take every step from a node with several children for a blind decision, but for the share ``named``
    of rows that ask for the very node to step to.
    """

    summary: ClassVar[str] = (
        "the path from the centre of a star of arms to the end of one of them (Bachmann & Nagarajan)"
    )

    degree: Annotated[int, Bounds(1)] = 2
    length: Annotated[int, Bounds(2)] = 5
    nodes: int = 50
    goals: drawing.Goals = "all"
    order: drawing.EdgeOrder = "shuffled"
    query: drawing.Query = "last"
    generalised: drawing.Generalised = "none"
    sizes: drawing.Sizes = "fixed"
    splits: str = "none"
    labels: Labels = "numbers"

    def __post_init__(self) -> None:
        super().__post_init__()
        splits = read_splits(self.splits, self.length)
        for name, plain, why in (
            ("order", "shuffled", "the order of the edges of an arm that is a tree is not defined"),
            ("generalised", "none", "a node above a split does not say which way the answer goes on"),
            ("sizes", "fixed", "where shorter arms split is not defined"),
        ):
            if splits and getattr(self, name) != plain:
                given = f"splits={self.splits} cannot be combined with {name}={getattr(self, name)}"
                raise RequestError(f"path-star: {given}, since {why}; use {name}={plain}")
        shape, form = self.shape, self.form
        if self.nodes < shape.nodes:
            size = f"degree={self.degree},length={self.length}" + f",splits={self.splits}" * bool(splits)
            raise RequestError(f"path-star: nodes={self.nodes}, but {size} needs at least {shape.nodes} node labels")
        answer = (self.length + 2) / 2 if self.sizes == "mixed" else self.length
        if self.generalised == "path":
            answer = (2 + answer) / 2
        self.declare(
            vocab=label_vocabulary(self.labels, self.nodes, "|", "=", "/", "$"),
            chance=self.named + (1 - self.named) / shape.ends, prompt_length=form.length(shape.edges),
            answer_length=self.length, plateau=(1 - self.named) * math.log(shape.ends) / answer,
        )  # fmt: skip
        if self.goals == "all":
            vars(self).update(group=shape.ends, shared_prefix=form.shared_columns(min(self.shapes)))

    @cached_property
    def named(self) -> float:
        """The share of rows whose goal is the node after the centre: it stands in the prompt, and nobody need guess it.
        0 on G(d, 2), where that is all that is asked for."""
        lengths = range(2, self.length + 1) if self.sizes == "mixed" else [self.length]
        if self.length == 2:
            return 0.0
        return fmean(1 / (length - 1) if self.generalised != "none" else float(length == 2) for length in lengths)

    @cached_property
    def branch_chance(self) -> float:
        return self.named + (1 - self.named) / self.degree

    @cached_property
    def shape(self) -> Shape:
        """The graph, or the largest one."""
        return Shape(self.degree, self.length, read_splits(self.splits, self.length))

    @cached_property
    def shapes(self) -> dict[int, Shape]:
        """Every graph that may be drawn by its number of edges, the largest last."""
        if self.sizes == "fixed":
            return {self.shape.edges: self.shape}
        return {self.degree * (length - 1): Shape(self.degree, length) for length in range(2, self.length + 1)}

    @cached_property
    def form(self) -> PromptForm:
        """Where prompts hold what."""
        return PromptForm(self.query, self.nodes)

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        graphs = -(-n // self.group)
        sampler = Sampler(self.form, self.order, self.goals, self.generalised)
        if self.sizes == "fixed":
            drawn = sampler.draw(self.shape, graphs, rng)
        else:
            drawn = sampler.draw_mixed(list(self.shapes.values()), graphs, rng)
        tokens, facts = torch.from_numpy(drawn.tokens[:n]), self._facts(drawn.arms[:n], drawn.goal_arm[:n])
        if self.sizes == "fixed" and self.generalised != "path":
            return Batch.of(tokens, self.prompt_length, self.length, facts)
        prompt_len, answer_len = torch.from_numpy(drawn.prompt_len[:n]), torch.from_numpy(drawn.answer_len[:n])
        return Batch.of(tokens, prompt_len, answer_len, facts)

    def solve(self, prompt: Sequence[int]) -> list[int]:
        return oracle.solve(self, [int(token) for token in prompt])

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        """Nodes of an arm, or with generalised=path of the path to the goal."""
        if self.generalised == "path":
            return len(self.solve(prompt))
        return oracle.arm_length(self, len(prompt))

    @cached_property
    def text(self) -> TextForm:
        example = "start,goal/u,v|u,v|...=" if self.query == "first" else "u,v|u,v|.../start,goal="
        return TextForm(f"{example}start,...,goal", marks=("|", "/", "="), noun="label", item="edge", between="|")

    def check_prompt(self, prompt: Sequence[int]) -> None:
        oracle.check(self, [int(token) for token in prompt])

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        return oracle.fault(self.vocab, self.solve(prompt), answer)

    def identity(self, batch: Batch) -> Fingerprints:
        return self.form.graphs_in(batch.tokens.cpu().numpy(), batch.prompt_len.cpu().numpy())

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        tokens, counts = batch.tokens.cpu().numpy(), self.form.edge_counts(batch.prompt_len.cpu().numpy())
        arms = numpy.full((len(tokens), self.shape.ends, self.length), -1, numpy.int64)
        goal_arm = numpy.zeros(len(tokens), numpy.int64)
        for edges in numpy.unique(counts).tolist():
            here, shape = numpy.flatnonzero(counts == edges), self.shapes[edges]
            rows = tokens[here]
            start, goal = self.form.query_in(rows, edges)
            found = shape.paths_in(*self.form.edges_in(rows, edges), start)
            arms[here, :, : shape.length] = found
            goal_arm[here] = (found[:, :, 1:] == goal[:, None, None]).any(2).argmax(1)
        return self._facts(arms, goal_arm)

    @property
    def hops(self) -> int | None:
        """Edges from the goal back to the first node of its arm, and one more to the centre."""
        return self.length - 1

    def implied(self, batch: Batch, decisions: Tensor) -> Tensor | None:
        return follow_arms(batch, decisions)

    def wrong_turn(self, batch: Batch, rng: torch.Generator) -> WrongTurn | None:
        return draw_wrong_arms(batch, rng)

    def lure(self, batch: Batch, rng: torch.Generator) -> Lure | None:
        if self.sizes != "fixed" or self.generalised != "none":
            return None
        return draw_lures(batch, lambda tokens: self.form.edges_in(tokens, self.shape.edges)[1], rng)

    def _facts(self, arms: Tokens, goal_arm: NDArray[numpy.int64]) -> dict[str, Tensor]:
        facts = {"arms": torch.from_numpy(arms), "branch": torch.ones(len(arms), dtype=torch.int64)}
        if not self.shape.splits:
            facts["goal_arm"] = torch.from_numpy(goal_arm)
        return facts


@tasks.register("path-star-branch", later=("labels",))
@dataclass(frozen=True, kw_only=True)
class PathStarBranch(PathStar):
    """The one decision of path-star asked for alone: the node after the centre, on the arm that leads to the goal.
    Graphs, prompts, options and split are those of ``path-star``; a line reads ``u,v|u,v|.../start,goal=node``.

    Bachmann & Nagarajan (2024) train and score the hard token by itself (their Table 5, as a digest reports it; their
    code for it was not found). Deviation, as far as we can tell: it is predicted from ``=``, while in a whole answer it
    is predicted from the position that reads the start, a copy that comes before it.

    Facts: ``branch`` [B], all 0. The arms are not among them: nothing that is written here walks along one.
    """

    summary: ClassVar[str] = "the first step of a path-star answer alone, the only one that is a decision"
    control: ClassVar[str] = "path-star"

    def __post_init__(self) -> None:
        super().__post_init__()
        plateau = (1 - self.named) * math.log(self.degree)
        vars(self).update(chance=self.branch_chance, plateau=plateau, answer_length=1)

    def answer_length_of(self, prompt: Sequence[int]) -> int:
        return 1

    def sample(self, n: int, rng: numpy.random.Generator) -> Batch:
        whole = super().sample(n, rng)
        rows, end = torch.arange(len(whole)), whole.prompt_len
        tokens = whole.tokens[:, : self.prompt_length + 1].clone()
        tokens[rows, end] = whole.tokens[rows, end + 1]
        # After shorter prompts the rest of the path would follow.
        tokens[torch.arange(tokens.shape[1]) > end[:, None]] = 0
        prompt_len = self.prompt_length if self.sizes == "fixed" else end
        return Batch.of(tokens, prompt_len, 1, self.facts_of(whole))

    def solve(self, prompt: Sequence[int]) -> list[int]:
        """The node after the start."""
        return super().solve(prompt)[1:2]

    def fault(self, prompt: Sequence[int], answer: Sequence[int]) -> str | None:
        (right,) = self.solve(prompt)
        if list(answer) == [right]:
            return None
        written = ",".join(self.vocab.decode(answer))
        return f"the answer is {written!r}, but the first step towards the goal is to {right}"

    def facts_of(self, batch: Batch) -> Mapping[str, Tensor]:
        return {"branch": torch.zeros(len(batch), dtype=torch.int64)}


def read_splits(text: str, length: int) -> tuple[int, ...]:
    """Distances in ascending order out of ``1+3`` or ``none``; raises ``RequestError`` where they are not such."""
    if text == "none":
        return ()
    if not re.fullmatch(r"[1-9][0-9]{0,8}(\+[1-9][0-9]{0,8})*", text):
        raise RequestError(
            f"path-star: splits={text!r}, but it must be none or distances from the centre joined by +, as in 1+3"
        )
    distances = tuple(map(int, text.split("+")))
    if any(first >= second for first, second in pairwise(distances)):
        raise RequestError(f"path-star: splits={text}, but each distance must be greater than the one before it")
    if distances[-1] > length - 2:
        children = f"only nodes at distances 1 to {length - 2} have" if length > 2 else "no node of an arm has"
        raise RequestError(f"path-star: splits={text}, but with length={length} {children} children")
    return distances


tasks.preset("path-star-mini", "path-star:degree=2,length=3,nodes=10")
tasks.preset("path-star-long", "path-star:degree=2,length=10")
tasks.preset("path-star-wide", "path-star:degree=5,length=5")
