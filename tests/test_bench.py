"""The benchmark: what it counts, and that it times the work it says."""

from __future__ import annotations

import argparse
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from foresee.core.errors import RequestError
from foresee.experiments import bench as module
from foresee.experiments.bench import TrainingStep, bench, interleaved, recomputing, show, tokens_read
from foresee.objectives.decoding import decode_greedily
from foresee.training.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
TASK = "path-star:degree=2,length=3,nodes=10,goals=one"
TINY = "transformer:layers=1,width=32,heads=2,context=32"


def spec(task: str = TASK, **options: Any) -> Settings:
    return Settings.of(task, "next-token", TINY, data="fixed:64", batch=8, device="cpu", precision="float32", **options)


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "DRAWN", 64)
        return bench(task=TASK, backbone=TINY, batch=8, device="cpu", rounds=2, burst=0.0)


def test_works_take_turns_and_the_first_calls_are_not_counted() -> None:
    calls: list[str] = []
    works = {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}
    seconds = interleaved(works, "cpu", rounds=3, burst=0.0)
    assert calls == ["a", "a", "b", "b"] + ["a", "b"] * 3
    assert {name: len(each) for name, each in seconds.items()} == {"a": 3, "b": 3}
    assert min(min(each) for each in seconds.values()) > 0


def test_flops_are_six_times_parameters_times_tokens_and_a_shared_prefix_is_counted_once() -> None:
    training, paired = TrainingStep(spec()), TASK.replace("goals=one", "goals=all")
    # G(2, 3): 15 prompt and 3 answer tokens, of which the last is never read.
    assert tokens_read(training.batch()) == 8 * 17
    blocks = 4 * 32 * 32 + 2 * 32 * 128
    assert training.flops() == 6 * (blocks + 14 * 32) * 8 * 17
    batch = TrainingStep(spec(paired)).batch()
    assert tokens_read(batch) == 4 * (batch.layout.shared + 2 * (17 - batch.layout.shared)) < 8 * 17
    with pytest.raises(RequestError, match="groups of 2"):
        bench(task=paired, backbone=TINY, batch=7, device="cpu")


def test_each_call_is_a_training_step_on_the_next_batch_and_recomputing_writes_what_cached_decoding_does() -> None:
    training = TrainingStep(spec(warmup=0))
    first = training.batch()
    before = [parameter.clone() for parameter in training.objective.parameters()]
    training()
    assert training.step == 1
    assert not torch.equal(training.batch().tokens, first.tokens)
    assert not any(map(torch.equal, before, training.objective.parameters()))
    backbone, prompts = training.objective.backbone.eval(), training.batch().prompts
    with torch.inference_mode():
        assert torch.equal(recomputing(backbone, prompts, 3), decode_greedily(backbone, prompts, 3))


def test_what_is_measured_fits_together_and_is_shown_to_people(measured: dict[str, Any]) -> None:
    json.dumps(measured, allow_nan=False)
    assert {"task", "objective", "backbone", "batch", "device", "precision", "rounds", "environment"} <= measured.keys()
    training = measured["training"]
    assert training["model_flops"]["value"] == pytest.approx(
        training["examples"]["value"] / 8 * training["tokens_a_step"] * training["flops_a_token"]
    )
    assert measured["matrix_rate"] == max(each["value"] for each in measured["matrix_products"].values())
    assert measured["share"] == pytest.approx(training["model_flops"]["value"] / measured["matrix_rate"])
    for rate in (training["examples"], measured["data"], *measured["matrix_products"].values()):
        assert 0 < rate["low"] <= rate["value"] <= rate["high"]
    page = io.StringIO()
    show(measured, Console(file=page, width=120))
    assert f"{training['examples']['value']:,.0f} examples" in page.getvalue()
    assert f"{measured['share']:.0%} of the best" in page.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    "script", ["against_transformers", "attention", "data", "decoding", "objectives", "variable_lengths"]
)
def test_scripts_run(script: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / f"{script}.py"), "--quick", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


def test_what_a_gpu_is_asked_for_can_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    gpu = importlib.import_module("gpu")
    options = argparse.Namespace(device="cpu", quick=False)
    rates = {way: gpu.bench_spec("gpt-nano", way, options) for way in gpu.WAYS}
    assert {spec.batch for spec in rates.values()} == {510, 512}
    assert all(spec.batch % spec.build_task().group == 0 for spec in rates.values())
    assert len({gpu.paper_spec(wanted, options).digest for wanted in gpu.RUNS}) == len(gpu.RUNS)
    quick = argparse.Namespace(device="cpu", quick=True)
    gpu.our_step("gpt-nano", gpu.OURS_ALL + gpu.TOGETHER, quick)[0]()
