"""Objectives that follow a script on path-star in place of a trained model, so that what each one does is known.

Each says what it writes next, given the graph and what has been written; decoding and forcing follow from that. They
read tokens only, and their "guesses" are a fixed function of the prompt, as those of a trained greedy model are.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from foresee.backbones.base import Backbone
from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.metrics.base import Subject
from foresee.objectives.base import LossOut, Objective
from foresee.tasks.path_star import PathStar


@dataclass(frozen=True)
class Graph:
    """What a prompt of path-star says."""

    prompt: Tensor  # [B, P]
    firsts: Tensor  # [B, d] first nodes of the arms
    child: Tensor  # [B, V] the node after each node (of the centre: one of them); itself where there is none
    path: Tensor  # [B, l] from the centre to the goal


def prompt_length(task: PathStar, read: Tensor) -> int:
    """Of prompts of one length [B, T], which may have been written after."""
    return int((read[0] == task.vocab.token("=")).nonzero()[0, 0]) + 1


def read(task: PathStar, prompt: Tensor) -> Graph:
    """Reads the prompt's tokens, vectorised; walks back from the goal."""
    rows, end = len(prompt), prompt.shape[1] - 3
    length = task.length if task.sizes == "fixed" else end // 3 // task.degree + 1
    parents, children = prompt[:, 0:end:3], prompt[:, 1:end:3]
    start, goal = prompt[:, end], prompt[:, end + 1]
    itself = torch.arange(len(task.vocab)).expand(rows, -1)
    child, parent = itself.scatter(1, parents, children), itself.scatter(1, children, parents)
    path = [goal]
    for _ in range(length - 1):
        path.append(parent.gather(1, path[-1][:, None]).squeeze(1))
    firsts = children[parents == start[:, None]].view(rows, task.degree)
    return Graph(prompt, firsts, child, torch.stack(path[::-1], 1))


def guess(prompt: Tensor, purpose: str, choices: int) -> Tensor:
    """[B]: a number below ``choices`` for each prompt, spread evenly; the same for the same prompt and purpose."""
    weights = torch.randint(2**40, (prompt.shape[1],), generator=seeds.torch_stream("scripted", purpose))
    mixed = ((prompt + 1) * weights).sum(1) * 0x5851F42D4C957F2D
    return ((mixed >> 33) & 0x3FFFFFFF) % choices


def known(prompt: Tensor) -> set[tuple[int, ...]]:
    """Prompts as a memory holds them."""
    return set(map(tuple, prompt.tolist()))


class Scripted(Objective):
    """Decodes forwards and can be forced; what it writes is up to ``write_next``."""

    summary = "a script"

    def __init__(self, task: PathStar) -> None:
        super().__init__(cast(Backbone, nn.Identity()), task.vocab)
        self.task = task
        self.calls = {"generate": 0, "forced": 0}
        self.weight = nn.Parameter(torch.zeros(()))  # a model lies on a device

    @abstractmethod
    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        """[B, k] tokens written -> [B] the next one."""

    def loss(self, batch: Batch, rng: torch.Generator) -> LossOut:
        raise NotImplementedError

    def generate(self, prompt: Tensor, n: int) -> Tensor:
        self.calls["generate"] += 1
        assert not self.training
        assert not torch.is_grad_enabled()
        asked = prompt_length(self.task, prompt)
        graph, written = read(self.task, prompt[:, :asked]), prompt[:, asked:]
        given = written.shape[1]
        for _ in range(n):
            written = torch.cat([written, self.write_next(graph, written)[:, None]], 1)
        return written[:, given:]

    def forced(self, batch: Batch) -> Tensor | None:
        self.calls["forced"] += 1
        assert not self.training
        assert not torch.is_grad_enabled()
        graph, answers = read(self.task, batch.prompts), batch.answers
        wanted = torch.stack([self.write_next(graph, answers[:, :at]) for at in range(answers.shape[1])], 1)
        return self.confident(wanted)

    def confident(self, wanted: Tensor) -> Tensor:
        """[B, A] -> [B, A, V]: log-probabilities that put 6 nats between the wanted token and every other."""
        logits = 6.0 * nn.functional.one_hot(wanted, len(self.vocab)).float()
        return logits.log_softmax(-1)


class Planner(Scripted):
    """Knows the whole path, whatever it has been made to write."""

    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        return graph.path[:, prefix.shape[1]]


class Follower(Scripted):
    """Chooses an arm without looking at the goal, and walks whatever arm it is on; with a ``rate``, it chooses the
    right one so often and a wrong one else."""

    def __init__(self, task: PathStar, *, rate: float | None = None) -> None:
        super().__init__(task)
        self.rate = rate

    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        if prefix.shape[1] == 0:
            return graph.path[:, 0]
        if prefix.shape[1] == 1:
            return self.first_step(graph)
        return graph.child.gather(1, prefix[:, -1:]).squeeze(1)

    def first_step(self, graph: Graph) -> Tensor:
        if self.rate is None:
            arm = guess(graph.prompt, "arm", self.task.degree)
            return graph.firsts.gather(1, arm[:, None]).squeeze(1)
        wrong = graph.firsts != graph.path[:, 1:2]
        first_wrong = graph.firsts.gather(1, wrong.int().argmax(1, keepdim=True)).squeeze(1)
        right = guess(graph.prompt, "right", 10_000) < round(10_000 * self.rate)
        return torch.where(right, graph.path[:, 1], first_wrong)


class Memoriser(Follower):
    """Goes the right way on prompts that it remembers, blindly elsewhere; walks arms, or wanders after the branch."""

    def __init__(self, task: PathStar, memory: set[tuple[int, ...]], *, walks: bool, rate: float | None = None) -> None:
        super().__init__(task, rate=rate)
        self.memory = memory
        self.walks = walks

    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        blind = super().write_next(graph, prefix)
        if not self.walks and prefix.shape[1] > 1:
            blind = guess(graph.prompt, f"wander {prefix.shape[1]}", self.task.nodes)
        remembered = torch.tensor([tuple(prompt) in self.memory for prompt in graph.prompt.tolist()])
        return torch.where(remembered, graph.path[:, prefix.shape[1]], blind)


class Unsure(Scripted):
    """Right with chance ``sure`` wherever it may slip."""

    def __init__(self, task: PathStar, *, sure: float) -> None:
        super().__init__(task)
        self.sure = sure

    def slips(self, graph: Graph, purpose: str) -> Tensor:
        return guess(graph.prompt, purpose, 10_000) >= round(10_000 * self.sure)


class Slipping(Unsure):
    """Writes each token of the path rightly with chance ``sure``, and loses its way for good after a slip."""

    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        at = prefix.shape[1]
        lost = self.slips(graph, f"slip {at}") | (prefix != graph.path[:, :at]).any(1)
        return torch.where(lost, self.task.nodes, graph.path[:, at])


class WeakPosition(Unsure):
    """Knows every token but the third, which it gets right with chance ``sure``, and recovers after it."""

    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        right = graph.path[:, prefix.shape[1]]
        return right if prefix.shape[1] != 2 else torch.where(self.slips(graph, "weak"), self.task.nodes, right)


class Babbler(Scripted):
    """Writes any node label."""

    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        return guess(graph.prompt, f"babble {prefix.shape[1]}", self.task.nodes)


class Backward(Planner):
    """Plans, and would decide from the goal backwards."""

    order = "backward"


class Unforced(Scripted):
    """Decides every token at once, as a teacherless objective, and cannot be forced."""

    order = "parallel"

    def forced(self, batch: Batch) -> None:
        return None


class Parallel(Unforced, Planner):
    """Plans."""


class ParallelGuesser(Unforced, Follower):
    """Decides all rightly but the first step, which it guesses."""

    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        return self.first_step(graph) if prefix.shape[1] == 1 else graph.path[:, prefix.shape[1]]


class ParallelWalker(Unforced, Follower):
    """Decides an arm that it guesses, whole."""


class GoalCopier(Follower):
    """Guesses an arm, walks it, and writes the goal at its end whatever arm it is on."""

    def write_next(self, graph: Graph, prefix: Tensor) -> Tensor:
        last = prefix.shape[1] == graph.path.shape[1] - 1
        return graph.path[:, -1] if last else super().write_next(graph, prefix)


class Broken(Planner):
    """A diverged model: every log-probability is not a number."""

    def confident(self, wanted: Tensor) -> Tensor:
        return torch.full((*wanted.shape, len(self.vocab)), torch.nan)


def examples(task: PathStar, n: int, split: str = "test", draw: int = 0) -> Batch:
    """``n`` examples from a stream of their own, another one for each ``draw``."""
    return task.sample(n, seeds.stream("scripted", split, task.degree, task.length, task.nodes, draw))


def subject(
    objective: Scripted, n: int = 2000, *, train: Batch | None = None, chunk: int = 700, test: Batch | None = None
) -> Subject:
    """An objective with ``n`` test examples, in chunks that do not divide them evenly."""
    batch = examples(objective.task, n) if test is None else test
    return Subject(objective.task, objective, batch, train, lambda name: seeds.torch_stream("scripted", name), chunk)
