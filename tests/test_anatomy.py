"""The anatomy of an example says what the model computes, whichever way it decides."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

import foresee
from foresee.core.batch import Batch
from foresee.core.seeds import stream
from foresee.core.spec import resolve
from foresee.metrics.anatomy import TOP, anatomy
from foresee.objectives.base import objectives
from foresee.tasks.base import Task

TASK = foresee.task("path-star:degree=2,length=4,nodes=12,goals=one")


def objective(name: str, backbone: str = "transformer:layers=2,width=16,heads=2") -> Any:
    vocab = TASK.vocab.extended(resolve(objectives, name).cls.symbols)
    return foresee.objective(name, foresee.backbone(backbone, vocab), vocab)


def example(task: Task) -> tuple[list[int], list[int]]:
    batch = task.sample(1, stream("anatomy"))
    return batch.prompts[0].tolist(), batch.answers[0].tolist()


@pytest.mark.parametrize("name", ["next-token", "reversed", "any-order", "registers"])
def test_steps_hold_the_probabilities_of_truth_and_of_what_was_written(name: str) -> None:
    net = objective(name).eval()
    prompt, answer = example(TASK)
    wrote = answer[::-1]
    found = anatomy(TASK, net, prompt, answer, wrote)
    json.dumps(found, allow_nan=False)
    assert found["order"] == net.order
    for key, shown in (("truth", answer), ("free", wrote)):
        with torch.no_grad():
            expected = net.forced(Batch.of(torch.tensor([prompt + shown]), len(prompt), len(shown)))[0].exp()
        assert [step["symbol"] for step in found[key]] == net.vocab.decode(shown)
        for step, row, token in zip(found[key], expected, shown, strict=True):
            assert step["p"] == pytest.approx(float(row[token]), abs=1e-4)
            assert [p for _, p in step["top"]] == pytest.approx(row.topk(TOP).values.tolist(), abs=1e-4)


@pytest.mark.parametrize(("name", "decided"), [("next-token", 1), ("reversed", 2)])
def test_attention_is_read_from_the_position_that_decides_the_branch(name: str, decided: int) -> None:
    net = objective(name).eval()
    prompt, answer = example(TASK)
    found = anatomy(TASK, net, prompt, answer, [])
    read = [*prompt, *(answer if name == "next-token" else answer[::-1])[:decided]]
    assert found["attention"]["read"] == TASK.vocab.decode(read)
    with torch.no_grad():
        whole = net.backbone.attention(net.backbone.embed(torch.tensor([read])))
    torch.testing.assert_close(torch.tensor(found["attention"]["layers"]), whole[:, 0, :, -1], atol=1e-4, rtol=0)
    assert "free" not in found


def test_nothing_is_shown_to_decide_where_nothing_is_decided() -> None:
    task = foresee.task("in-weights-path-star:degree=3,length=3")
    net = foresee.objective(
        "next-token", foresee.backbone("transformer:layers=1,width=16,heads=2", task.vocab), task.vocab
    )
    for prompt, answer in task.sample(20, stream("edges")).pairs():
        assert ("branch" in anatomy(task, net, prompt, answer, [])) == (task.write_prompt(prompt)[:5] == "path:")


@pytest.mark.parametrize(
    ("name", "passes"), [("teacherless", 1), ("masked-diffusion:steps=2", 2), ("masked-diffusion", 4), ("insertion", 4)]
)
def test_an_objective_that_cannot_be_forced_tells_how_it_wrote_its_own_answer(name: str, passes: int) -> None:
    net = objective(name).eval()
    prompt, answer = example(TASK)
    with torch.no_grad():
        wrote = net.generate(torch.tensor([prompt]), len(answer))[0].tolist()
    found = anatomy(TASK, net, prompt, answer, wrote)
    json.dumps(found, allow_nan=False)
    assert found.keys() == {"order", "free", "passes"}
    assert sorted(set(found["passes"])) == list(range(1, passes + 1))
    # Greedy: whatever was written was the likeliest in its pass.
    assert [step["top"][0][0] for step in found["free"]] == net.vocab.decode(wrote)
    assert all(step["p"] == step["top"][0][1] for step in found["free"])


def test_a_place_is_scored_in_the_pass_that_decided_it() -> None:
    net = objective("masked-diffusion").eval()
    prompt, answer = example(TASK)
    with torch.no_grad():
        shown = net.generate(torch.tensor([prompt]), len(answer))[0].clone()
        trace = net.trace(torch.tensor([prompt]), len(answer))
        last = int(trace.passes.argmax())
        shown[last] = net.mask
        logits = net._logits(torch.tensor([prompt + shown.tolist()]), len(prompt), "full")
    torch.testing.assert_close(trace.log_probs[last], logits[0, last].log_softmax(-1))


def test_what_has_no_meaning_is_absent_and_the_objective_is_left_as_it_was() -> None:
    prompt, answer = example(TASK)
    assert anatomy(TASK, objective("teacherless"), prompt, answer, []) == {"order": "parallel"}
    recurrent = anatomy(TASK, objective("next-token", "mamba:layers=1,width=16"), prompt, answer, answer)
    assert recurrent.keys() == {"order", "truth", "free"}
    net = objective("next-token").train()
    anatomy(TASK, net, prompt, answer, answer)
    assert net.training
    assert not net.backbone._forward_pre_hooks
