"""Sibling and triangle discovery, circle and line construction: their answers counted and named by hand."""

from __future__ import annotations

import math
from itertools import permutations, product
from typing import Any

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from refusals import refused

from foresee.core import seeds
from foresee.core.batch import Batch
from foresee.core.fingerprints import fingerprint
from foresee.core.spec import resolve
from foresee.tasks import Task, tasks
from foresee.tasks.construction import CircleConstruction, Construction, LineConstruction
from foresee.tasks.discovery import SiblingDiscovery, TriangleDiscovery
from foresee.training.data import draw

SIBLINGS = SiblingDiscovery(parents=3, siblings=2)
CIRCLE, LINE = CircleConstruction(symbols=5, nodes=4), LineConstruction(symbols=5, nodes=4)
TRIANGLES = TriangleDiscovery(nodes=30, triangles=2)


def rows_of(task: Task, lines: list[str]) -> Batch:
    """Examples of one length as a batch."""
    pairs = [task.read_line(line) for line in lines]
    return Batch.of(torch.tensor([prompt + answer for prompt, answer in pairs]), len(pairs[0][0]), len(pairs[0][1]))


# Sibling discovery


def test_all_triples_of_siblings_and_no_others_are_right() -> None:
    tokens = range(len(SIBLINGS.vocab))
    equals = [SIBLINGS.vocab.token("=")]
    right = [answer for answer in product(tokens, repeat=3) if SIBLINGS.verify(equals, answer)]
    assert {",".join(SIBLINGS.vocab.decode(answer)) for answer in right} == {
        f"b{2 * parent + first},c{2 * parent + second},a{parent}"
        for parent, first, second in product(range(3), range(2), range(2))
    }
    assert len(right) == 3 * 2**2
    drawn = SIBLINGS.sample(600, seeds.stream("siblings")).answers
    counts = torch.unique(drawn, dim=0, return_counts=True)[1]
    assert set(map(tuple, drawn.tolist())) == set(right)
    assert int(counts.min()) > 20
    # Chance is that of parents drawn apart.
    children = list(product(range(6), repeat=2))
    assert sum(a // 2 == b // 2 for a, b in children) / len(children) == pytest.approx(SIBLINGS.chance)
    for kinds, chance in ((3, 1 / 9), (2, 1 / 3), (1, 1)):
        assert SiblingDiscovery(parents=3, siblings=2, kinds=kinds).chance == pytest.approx(chance)


# Circle and line construction


@pytest.mark.parametrize(("task", "count"), [(CircleConstruction(symbols=5, nodes=3), 20 * 6), (LINE, 120 * 6)])
def test_shapes_are_counted_by_brute_force(task: Construction, count: int) -> None:
    """5 labels: 20 directed circles of 3, each in 3! orders; 120 paths of 4, each in 3!."""
    pairs = list(permutations(range(5), 2))
    equals, bar = [task.vocab.token("=")], task.vocab.token("|")
    right = set()
    for edges in product(pairs, repeat=task.edges):
        answer = [token for edge in edges for token in (*edge, bar)][:-1]
        if task.verify(equals, answer):
            right.add(tuple(answer))
    assert len(right) == count
    drawn = task.sample(12_000, seeds.stream("shapes")).answers
    assert set(map(tuple, drawn.tolist())) == right
    tokens = torch.tensor([[*equals, *answer] for answer in sorted(right)])
    found, counts = numpy.unique(task.identity(Batch.of(tokens, 1, task.answer_length)), return_counts=True)
    assert len(found) == math.factorial(task.nodes - 1)
    assert set(counts.tolist()) == {count // len(found)}


@pytest.mark.parametrize("task", [CircleConstruction(symbols=4, nodes=4), LineConstruction(symbols=4, nodes=4)])
def test_chance_is_the_share_of_locally_right_answers_that_are_one_shape(task: Construction) -> None:
    kept = right = 0
    equals, bar = [task.vocab.token("=")], task.vocab.token("|")
    for edges in product(list(permutations(range(4), 2)), repeat=task.edges):
        left, entered = {u for u, _ in edges}, {v for _, v in edges}
        if len(left) == len(entered) == task.edges and len(left | entered) == 4:
            kept += 1
            right += task.verify(equals, [token for edge in edges for token in (*edge, bar)][:-1])
    assert task.chance == pytest.approx(right / kept)


@given(st.integers(0, 2**32), st.sampled_from([CIRCLE, LINE]))
def test_node_names_do_not_matter_but_the_order_of_edges_does(seed: int, task: Construction) -> None:
    rng = numpy.random.default_rng(seed)
    batch = task.sample(1, seeds.stream("shapes", seed))
    names = torch.from_numpy(numpy.concatenate([rng.permutation(task.symbols), [task.symbols, task.symbols + 1]]))
    renamed = Batch.of(names[batch.tokens], 1, task.answer_length)
    assert task.identity(renamed).tolist() == task.identity(batch).tolist()
    edges = batch.answers[0].tolist()
    turned = [*edges[3:5], task.symbols, *edges[0:2], *edges[5:]]
    other = Batch.of(torch.tensor([[task.symbols + 1, *turned]]), 1, task.answer_length)
    assert task.verify([task.symbols + 1], turned)
    assert task.identity(other).tolist() != task.identity(batch).tolist()


# Triangle discovery


def test_the_graph_is_as_described() -> None:
    near = TRIANGLES.neighbours
    assert all(a in near[b] and a != b for a, others in enumerate(near) for b in others)
    assert min(map(len, near)) >= 3
    by_hand = {
        (a, b, c) for a in range(30) for b in range(a + 1, 30) for c in range(b + 1, 30)
        if b in near[a] and c in near[a] and c in near[b]
    }  # fmt: skip
    assert set(map(tuple, TRIANGLES.triangle_table.tolist())) == by_hand
    assert all(any(node in corners for corners in by_hand) for node in range(30))
    wedges = [(a, b, c) for b in range(30) for a in near[b] for c in near[b] if a != c]
    assert TRIANGLES.chance == pytest.approx(sum(c in near[a] for a, _, c in wedges) / len(wedges))
    assert TriangleDiscovery(nodes=30, triangles=2, graph=1).neighbours != near
    published: Any = resolve(tasks, "triangle-published").build()
    assert numpy.bincount(published.triangle_table.reshape(-1), minlength=999).mean() > 6
    assert min(map(len, published.neighbours)) >= 3


def test_every_triangle_is_drawn_in_every_order_and_every_edge_both_ways() -> None:
    batch = TRIANGLES.sample(60_000, seeds.stream("triangles"))
    fact = batch.tokens[:, 0] == TRIANGLES.vocab.token("edge:")
    assert abs(float(fact.float().mean()) - 2 / 3) < 0.01
    asked, facts = batch.tokens[~fact], batch.tokens[fact]
    assert len(torch.unique(asked[:, [1, 2, 5]], dim=0)) == 6 * len(TRIANGLES.triangle_table)
    assert len(torch.unique(facts[:, [1, 2]], dim=0)) == 2 * len(TRIANGLES.edge_table)
    assert set(batch.answer_len[fact].tolist()) == {5}


def test_facts_are_training_rows_and_triangles_are_in_one_split() -> None:
    test, train = (draw(TRIANGLES, "triangles", split, 3000, 0) for split in ("test", "train"))
    assert set(test.tokens[:, 0].tolist()) == {TRIANGLES.vocab.token("tri:")}
    assert test.layout.uniform
    facts = train.tokens[train.tokens[:, 0] == TRIANGLES.vocab.token("edge:")]
    assert len(torch.unique(facts[:, [1, 2]], dim=0)) == 2 * len(TRIANGLES.edge_table)
    named = {tuple(sorted(row)) for row in test.tokens[:, [1, 2, 5]].tolist()}
    assert 0 < len(named) < len(TRIANGLES.triangle_table) / 3
    assert not TRIANGLES.held_out(train).any()


def test_a_triangle_is_the_same_from_every_corner_and_way_round() -> None:
    a, b, c = TRIANGLES.triangle_table[0].tolist()
    lines = [f"tri:{x},{y}|{y},{z}|{z},{x}" for x, y, z in permutations((a, b, c))]
    assert len(set(TRIANGLES.identity(rows_of(TRIANGLES, lines)).tolist())) == 1
    ends = [f"edge:{x},{y}|{y},{x}" for x, y in ((a, b), (b, a))]
    assert len(set(TRIANGLES.identity(rows_of(TRIANGLES, ends)).tolist())) == 1


def test_wrong_triangles_are_refused() -> None:
    a, b, c = TRIANGLES.triangle_table[0].tolist()
    far = next(node for node in range(30) if node not in TRIANGLES.neighbours[a] and node != a)
    for line, message in (
        (f"{a},{b}|{b},{c}|{c},{a}", "a line reads tri:"),
        (f"tri:{a},{b}|{b},{c}", "does not return to where it began"),
        (f"tri:{a},{b}|{c},{b}|{c},{a}", "does not return to where it began"),
        (f"tri:{a},{b}|{b},{a}", "there are 2 edges, but tri: is answered by 3"),
        (f"edge:{a},{b}|{b},{c}|{c},{a}", "there are 3 edges, but edge: is answered by 2"),
        (f"edge:{a},{far}|{far},{a}", f"{a},{far} is not an edge of the graph"),
    ):
        with refused(message):
            TRIANGLES.read_line(line)
    prompt = TRIANGLES.vocab.encode(["tri:"])
    bar = TRIANGLES.vocab.token("|")
    assert TRIANGLES.verify(prompt, [a, b, bar, b, c, bar, c, a])
    assert not TRIANGLES.verify(prompt, [a, b, bar, b, c, bar, a, c])
    assert not TRIANGLES.verify(prompt, [bar] * 8)


def test_fingerprints_of_sequences() -> None:
    rows = numpy.array(list(product(range(-1, 4), repeat=5)))
    assert len(set(fingerprint(rows).tolist())) == len(rows)
    assert fingerprint(rows[:, :0]).tolist() == [0] * len(rows)
    assert fingerprint(rows).dtype == numpy.uint64
