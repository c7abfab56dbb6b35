"""Drawing path-star examples by array operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy
from numpy.typing import NDArray

from foresee.tasks.path_star_graphs import EdgeOrder, Shape, distinct, edge_order
from foresee.tasks.path_star_prompt import PromptForm, Tokens

Goals = Literal["one", "all"]
Generalised = Literal["none", "arm", "path"]


@dataclass(frozen=True)
class Drawn:
    """Examples, the rows of one graph side by side; where lengths differ, tokens are padded with 0 and arms with -1."""

    tokens: Tokens
    """[B, T] prompt, answer, padding."""
    prompt_len: NDArray[numpy.int64]
    """[B]"""
    answer_len: NDArray[numpy.int64]
    """[B]"""
    arms: Tokens
    """[B, ends, length] labels from the centre to each end, in an order that says nothing about the goal."""
    goal_arm: NDArray[numpy.int64]
    """[B] which of ``arms`` the answer is, or begins."""


@dataclass(frozen=True)
class Sampler:
    """How graphs become examples; the options are those of ``PathStar``."""

    form: PromptForm
    order: EdgeOrder
    goals: Goals
    generalised: Generalised

    def draw(self, shape: Shape, graphs: int, rng: numpy.random.Generator) -> Drawn:
        """``graphs`` graphs of one shape; each gives one row, or one for each of its ends."""
        labels = distinct(rng, shape.nodes, self.form.nodes, graphs)
        order = edge_order(rng, shape, self.order, graphs)
        if self.goals == "all":
            goal_arm = distinct(rng, shape.ends, shape.ends, graphs).T.reshape(-1).astype(numpy.int64)
        else:
            goal_arm = rng.integers(0, shape.ends, size=graphs)
        rows = len(goal_arm)

        edge_from = numpy.take_along_axis(labels, shape.parents[order], 0).T
        edge_to = numpy.take_along_axis(labels[1:], order, 0).T
        arms = labels.T[:, shape.paths].astype(numpy.int64)
        if rows > graphs:
            graph_of = numpy.arange(rows) // shape.ends
            edge_from, edge_to, arms = edge_from[graph_of], edge_to[graph_of], arms[graph_of]
        answers = arms[numpy.arange(rows), goal_arm]

        prompt_len = self.form.length(shape.edges)
        tokens = numpy.empty((rows, prompt_len + shape.length), numpy.int64)
        tokens[:, prompt_len:] = answers
        goal, answer_len = answers[:, -1], numpy.full(rows, shape.length)
        if self.generalised != "none":
            place = rng.integers(1, shape.length, size=rows)
            goal = answers[numpy.arange(rows), place]
            if self.generalised == "path":
                answer_len = place + 1
                tokens[:, prompt_len:][numpy.arange(shape.length) >= answer_len[:, None]] = 0
        self.form.write(tokens, edge_from, edge_to, answers[:, 0], goal)
        return Drawn(tokens, numpy.full(rows, prompt_len), answer_len, arms, goal_arm)

    def draw_mixed(self, shapes: list[Shape], graphs: int, rng: numpy.random.Generator) -> Drawn:
        """``graphs`` graphs, the shape of each drawn uniformly; the last of ``shapes`` is the largest, and all have
        the same number of ends."""
        largest = shapes[-1]
        rows_each = largest.ends if self.goals == "all" else 1
        rows = graphs * rows_each
        drawn = Drawn(
            numpy.zeros((rows, self.form.length(largest.edges) + largest.length), numpy.int64),
            numpy.empty(rows, numpy.int64),
            numpy.empty(rows, numpy.int64),
            numpy.full((rows, largest.ends, largest.length), -1, numpy.int64),
            numpy.empty(rows, numpy.int64),
        )
        shape_of = numpy.repeat(rng.integers(0, len(shapes), size=graphs), rows_each)
        for index, shape in enumerate(shapes):
            here = numpy.flatnonzero(shape_of == index)
            part = self.draw(shape, len(here) // rows_each, rng)
            drawn.tokens[here, : part.tokens.shape[1]] = part.tokens
            drawn.prompt_len[here] = part.prompt_len
            drawn.answer_len[here] = part.answer_len
            drawn.arms[here, :, : shape.length] = part.arms
            drawn.goal_arm[here] = part.goal_arm
        return drawn
