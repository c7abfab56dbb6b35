"""Run directories made up for tests: realistic in shape, and nothing is trained."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from foresee.metrics.intervals import rate
from foresee.training.settings import Settings

Behaviour = Literal["follows", "solves", "babbles"]

TASK = "path-star:degree=2,length=5,nodes=50,goals=one"
BACKBONE = "transformer:layers=4,width=128,heads=4"

PROMPTS = (
    ("32,3|16,12|3,19|32,34|34,6|6,16|19,47|47,28/32,12=", "32,34,6,16,12", "32,3,19,47,28", "32,34,6,28,41"),
    ("7,1|1,9|9,44|44,20|7,5|5,30|30,2|2,11/7,20=", "7,1,9,44,20", "7,1,9,44,20", "7,30,9,5,20"),
    ("40,8|8,0|0,13|13,22|40,21|21,33|33,4|4,17/40,17=", "40,21,33,4,17", "40,8,0,13,22", "8,40,33,33,17"),
)
"""Prompt, answer, what a model that follows arms wrote, what one that babbles wrote."""


def fabricate_run(
    root: Path,
    objective: str = "next-token",
    behaviour: Behaviour = "follows",
    *,
    task: str = TASK,
    backbone: str = BACKBONE,
    seed: int = 0,
    steps: int = 600,
    chance: float = 0.5,
    length: int = 5,
    forced: bool = True,
    finished: bool = True,
    examples: Sequence[tuple[str, str, str]] | None = None,
    **settings: Any,
) -> Path:
    """Writes ``root/<digest>`` as a training run would and returns it. ``forced`` off is an objective that cannot be
    forced; ``finished`` off is a run stopped half-way; ``examples`` are (prompt, answer, wrote)."""
    spec = {
        "task": task, "objective": objective, "backbone": backbone, "steps": steps, "batch": 256, "lr": 0.001,
        "seed": seed, "data": "fixed:200000", "data_digest": "", "plugins": "", "test": 20000,
        "eval_every": 50, "warmup": 100, "schedule": "constant", "weight_decay": 0.01, "beta2": 0.999, "clip": 1.0,
        "precision": "bf16", "device": "cpu", "until_solved": False, **settings,
    }  # fmt: skip
    directory = root / Settings.read(spec).digest
    directory.mkdir(parents=True)
    _write_json(directory / "spec.json", spec)
    _write_json(directory / "env.json", {"foresee": "0.1.0", "torch": "2.13.0+cpu", "cores": 2, "gpu": None})
    shown_steps = range(50, (steps if finished else steps // 2) + 1, 50)
    metrics = [_metric(step, steps, behaviour, chance, length, seed, forced) for step in shown_steps]
    _write_lines(directory / "metrics.jsonl", metrics)
    speed = 2200.0 + 10 * seed
    timing = [{"step": step, "seconds": step * 256 / speed, "examples_per_second": speed} for step in shown_steps]
    _write_lines(directory / "timing.jsonl", timing)
    if finished:
        _write_lines(directory / "rows.jsonl", _rows(behaviour, chance, length, seed, forced))
        written = examples if examples is not None else _examples(behaviour)
        lines = [{"prompt": prompt, "answer": answer, "wrote": wrote} for prompt, answer, wrote in written]
        _write_lines(directory / "examples.jsonl", lines)
    return directory


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def _write_lines(path: Path, lines: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def _examples(behaviour: Behaviour) -> list[tuple[str, str, str]]:
    column = {"follows": 2, "solves": 1, "babbles": 3}[behaviour]
    return [(each[0], each[1], each[column]) for each in PROMPTS]


def _wobble(step: int, seed: int) -> float:
    """Noise without a random generator, within 0.015 of zero."""
    return 0.015 * math.sin(step * 0.37 + seed * 2.1)


def _learned(step: int, steps: int, place: float) -> float:
    """A smooth rise from 0 to 1 that is half done at ``place`` of the run."""
    return 1.0 / (1.0 + math.exp(-25.0 * (step / steps - place)))


def _metric(
    step: int, steps: int, behaviour: Behaviour, chance: float, length: int, seed: int, forced: bool
) -> dict[str, Any]:
    edges = _learned(step, steps, 0.25 if behaviour != "babbles" else 3.0)
    branch = chance + _wobble(step, seed)
    if behaviour == "solves":
        branch = chance + (1.0 - chance) * _learned(step, steps, 0.55 + 0.05 * seed)
    walked = 0.1 + 0.9 * edges
    free = [1.0, *(round(branch * walked**at, 4) for at in range(length - 1))]
    seen: dict[str, Any] = {"n": 1000, "exact": free[-1], "free": free, "child": walked, "branch_free": free[1]}
    if forced:
        seen |= {"branch": round(branch, 4), "forced": [1.0, round(branch, 4), *[round(walked, 4)] * (length - 2)]}
    loss = 0.14 + 2.0 * math.exp(-16.0 * step / steps)
    return {"step": step, "examples": step * 256, "loss": loss, "parts": {"it": loss}, "lr": 0.001, "eval": seen}


def _rows(behaviour: Behaviour, chance: float, length: int, seed: int, forced: bool) -> list[dict[str, Any]]:
    n = 20_000
    branch = rate(round(n * {"follows": chance, "solves": 0.998, "babbles": chance}[behaviour]) + 11 * seed, n)
    good = rate(round(n * (0.35 if behaviour == "babbles" else 0.999)), n)
    exact = rate(round(n * {"follows": chance - 0.002, "solves": 0.996, "babbles": 0.01}[behaviour]) + 9 * seed, n)
    whole = [rate(n, n), branch, *[good] * (length - 2)]
    free = [rate(n, n), branch, *[rate(round(n * branch["value"] * good["value"]), n)] * (length - 2)]
    rows: list[dict[str, Any]] = [{"row": "exact", **exact}, {"row": "free", "values": free}, {"row": "child", **good}]
    if forced:
        rows += [
            {"row": "branch", **branch},
            {"row": "margin", "value": -0.01, "n": n},
            {"row": "forced", "values": whole},
            {"row": "follow", **good},
            {"row": "train_branch", **branch},
            {"row": "plateau", "value": 0.1391, "reference": math.log(round(1 / chance)) / length, "n": n},
            {"row": "compounded", "value": math.prod(each["value"] for each in whole), "n": n},
        ]
    return rows


def add_position_loss(directory: Path, length: int = 5, branch: int = 1, *, solves: bool = False) -> None:
    """Adds ``position_loss`` to each line of ``metrics.jsonl``: all but the branch is soon learned."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        rest = 3.0 * math.exp(-line["step"] / 60.0)
        decision = math.log(2) * (math.exp(-line["step"] / 250.0) if solves else 1.0)
        line["position_loss"] = [round(decision + rest if at == branch else rest, 5) for at in range(length)]
    _write_lines(directory / "metrics.jsonl", lines)


def add_anatomy(
    directory: Path,
    order: str = "forward",
    *,
    examples: int | None = None,
    layers: int = 3,
    heads: int = 4,
    forced: bool = True,
    passes: Sequence[int] = (),
) -> None:
    """Writes ``anatomy.json`` for the kept examples (the first ``examples`` of them) as training would; ``layers=0`` is
    a backbone without attention, ``forced`` off an objective without step-by-step probabilities, but for those of the
    ``passes`` that decided each place."""
    lines = [json.loads(line) for line in (directory / "examples.jsonl").read_text(encoding="utf-8").splitlines()]
    found: list[dict[str, Any]] = []
    for line in lines[:examples]:
        each = {**line, "order": order}
        answer, wrote = (text.replace(" ", "").split(",") for text in (line["answer"], line["wrote"]))
        if forced:
            each["truth"] = [_step(symbol, at, answer, wrote) for at, symbol in enumerate(answer)]
            each["free"] = [_step(symbol, at, wrote, wrote) for at, symbol in enumerate(wrote)]
        if passes:
            each["free"] = [_step(symbol, at, wrote, wrote) for at, symbol in enumerate(wrote)]
            each["passes"] = list(passes)
        if forced and layers:
            symbols = [*line["prompt"].replace("|", ",|,").replace("/", ",/,").replace("=", ",=").split(",")]
            each["branch"] = 1
            each["attention"] = {
                "read": [*symbols, answer[0]],
                "layers": [
                    [_weights(len(symbols) + 1, layer, head) for head in range(heads)] for layer in range(layers)
                ],
            }
        found.append(each)
    _write_json(directory / "anatomy.json", {"examples": found})


def _step(symbol: str, at: int, shown: Sequence[str], wrote: Sequence[str]) -> dict[str, Any]:
    """Sure of each symbol but at the branch, where two are equally likely."""
    other = wrote[at] if at < len(wrote) and wrote[at] != symbol else "49"
    top = [[symbol, 0.5121], [other, 0.4786], ["5", 0.0041]] if at == 1 else [[symbol, 0.9989], [other, 0.0007]]
    return {"symbol": symbol, "p": top[0][1], "top": top}


def _weights(count: int, layer: int, head: int) -> list[float]:
    raw = [math.exp(3.0 * math.sin((at + 1) * (layer + 1.3) * 0.7 + head * 1.9)) for at in range(count)]
    return [round(each / sum(raw), 4) for each in raw]
