"""What names a run, how a finished one is read, and that no damage to its folder ends in a traceback."""

from __future__ import annotations

import json
import random
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from refusals import refused
from tiny import BACKBONE, EASY, SOLVING, TASK, arguments, tiny

from foresee.backbones import Cap
from foresee.core import files
from foresee.core.errors import ForeseeError, RequestError
from foresee.metrics.intervals import rate
from foresee.objectives.next_token import NextToken
from foresee.training.evaluate import evaluate, keep_rows
from foresee.training.loop import continue_run, train
from foresee.training.records import read_spec, rows_as_lines
from foresee.training.run import Run, load
from foresee.training.settings import Settings, settable


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run that no test may change."""
    return train(tiny(steps=20), tmp_path_factory.mktemp("runs"))


@pytest.fixture
def copy(finished: Run, tmp_path: Path) -> Path:
    """The folder of a finished run to do harm to."""
    return Path(shutil.copytree(finished.dir, tmp_path / finished.dir.name))


# Specs --------------------------------------------------------------------------------------------------------------


def test_the_digest_depends_on_every_field() -> None:
    changes: dict[str, Any] = {
        "task": TASK.replace("goals=one", "goals=all"), "objective": "reversed", "backbone": f"{BACKBONE},tied=false",
        "plugins": "0" * 16,
        "steps": 31, "batch": 36, "lr": 1e-3, "seed": 1, "data": "fixed:2001", "data_digest": "0" * 16, "test": 201,
        "eval_every": 11, "warmup": 6, "schedule": "cosine", "weight_decay": 0.02, "beta2": 0.99, "clip": 2.0,
        "precision": "float32" if tiny().precision == "bf16" else "bf16", "device": "cuda", "until_solved": True,
        "backbone_digest": "0" * 16, "accumulate": 2, "recompute": True, "task_digest": "0" * 16, "processes": 4,
        "test_data_digest": "0" * 16, "parent": "0" * 16, "parent_steps": 1,
    }  # fmt: skip
    assert changes.keys() == Settings.model_fields.keys() - {"test_data"}, "which needs data to be a file"
    digests = {tiny().replace(**{key: value}).digest for key, value in changes.items()}
    assert len(digests | {tiny().digest}) == len(changes) + 1


def test_a_run_from_before_a_setting_existed_keeps_its_name(tmp_path: Path) -> None:
    run = train(tiny(), tmp_path)
    path = run.dir / "spec.json"
    raw = json.loads(path.read_text())
    for key in ("backbone_digest", "accumulate", "recompute", "task_digest"):
        del raw[key]
    path.write_text(json.dumps(raw))
    assert load(run.dir).spec == run.spec
    del raw["lr"]
    path.write_text(json.dumps(raw))
    with pytest.raises(RequestError, match="its keys are not those of a run"):
        load(run.dir)


def test_what_means_the_same_run_has_the_same_digest() -> None:
    preset = Settings.of(TASK, "next-token", lr=1.0, weight_decay=0.0, clip=1.0, data="200000")
    spelled = Settings.of(
        "path-star:nodes=10,goals=one,length=3,degree=2", "next-token",
        "transformer:heads=4,width=128,layers=6,positions=rotary,hidden=none",
        lr=1, weight_decay=0, clip=1, data="fixed:200000", warmup=100, schedule="constant", beta2=0.999,
        eval_every=50, test=5000, seed=0, steps=600, batch=128, until_solved=False,
    )  # fmt: skip
    assert spelled == preset
    assert spelled.digest == preset.digest
    assert Settings.of(TASK, "teacherless").digest == Settings.of(TASK, "teacherless:0").digest
    assert Settings.of(TASK, "teacherless").digest != Settings.of(TASK, "teacherless:hybrid=0.5").digest


def test_numbers_of_every_kind_mean_the_same_run() -> None:
    given = tiny(steps=1e3, batch=numpy.int64(32), lr=1, clip=numpy.float64(2), seed=numpy.uint8(3), data=500)
    assert given == tiny(steps=1000, batch=32, lr=1.0, clip=2.0, seed=3, data="fixed:500")
    assert all(type(value) in (str, int, float, bool) for value in given.model_dump().values())
    assert tiny(lr=numpy.float32(0.5), until_solved=numpy.bool_(True)) == tiny(lr=0.5, until_solved=True)
    for data in (numpy.int64(2000), 2e3):
        assert tiny(data=data) == tiny(data=2000)


def test_settings_are_replaced_as_carefully_as_they_are_made() -> None:
    assert tiny().replace(objective="teacherless", steps=2e3) == tiny("teacherless", steps=2000)
    assert tiny("reversed") == tiny().control()
    for change in ({"steps": 0}, {"objective": "reverse"}, {"lrr": 1}, {"batch": 30, "accumulate": 4}):
        with pytest.raises(RequestError):
            tiny().replace(**change)


@pytest.mark.parametrize("changes", [{}, {"until_solved": True, "clip": 2}, {"processes": 2}])
def test_the_command_makes_the_same_run(changes: dict[str, Any]) -> None:
    words = shlex.split(tiny(**changes).command)
    start, words = words[: words.index("train")], words[words.index("train") + 1 :]
    assert start == ("torchrun --nproc-per-node 2 -m foresee" if "processes" in changes else "foresee").split()
    options = [word.partition("=")[0] for word in arguments(Path("runs")) if not word.startswith("--runs")]
    assert set(options) <= set(words)
    assert not {"--objective", "--seed", "--schedule"} & set(words), "they are at their defaults"
    given: dict[str, Any] = {"task": words[0], **{name: changes[name] for name in changes if name == "processes"}}
    for setting in settable():
        option = "--" + setting.name.replace("_", "-")
        if option in words:
            given[setting.name] = setting.type is bool or setting.type(words[words.index(option) + 1])
    assert Settings.of(**given) == tiny(**changes)


@pytest.mark.parametrize(
    ("degree", "given", "batch", "examples", "words"),
    [
        (2, {}, 128, 200_000, ""), (3, {}, 192, 200_001, ""), (4, {"batch": 128}, 128, 200_000, " --batch 128"),
        (3, {"data": "fresh", "batch": 129}, 129, None, " --batch 129 --data fresh"),
    ],
)  # fmt: skip
def test_a_batch_is_of_64_problems_unless_it_is_given(
    degree: int, given: dict[str, Any], batch: int, examples: int | None, words: str
) -> None:
    spec = Settings.of(f"path-star:degree={degree}", **given)
    assert (spec.batch, spec.data_examples) == (batch, examples)
    task = "path-star" if degree == 2 else f"path-star:degree={degree}"
    assert spec.command == f"foresee train {task}{words}"


@pytest.mark.parametrize(
    ("task", "given", "lr", "steps", "words"),
    [
        ("path-star", {}, 2e-3, 600, ""), ("path-star:degree=5", {}, 1.5e-3, 1000, ""),
        ("path-star:degree=5,goals=one", {}, 2e-3, 600, ""), ("path-star:length=10", {}, 2e-3, 600, ""),
        ("path-star:degree=5", {"steps": 600, "lr": 2e-3}, 2e-3, 600, " --steps 600 --lr 0.002"),
        ("path-star:degree=3", {"batch": 192, "data": "fresh"}, 1.5e-3, 1000, " --data fresh"),
        ("path-star", {"steps": 1000, "lr": 1.5e-3}, 1.5e-3, 1000, " --steps 1000 --lr 0.0015"),
    ],
)  # fmt: skip
def test_problems_of_three_rows_or_more_are_trained_longer_at_a_lower_rate_unless_those_are_given(
    task: str, given: dict[str, Any], lr: float, steps: int, words: str
) -> None:
    spec = Settings.of(task, **given)
    assert (spec.lr, spec.steps) == (lr, steps)
    assert spec.command == f"foresee train {task}{words}"


def test_every_setting_is_documented_and_automatic_choices_are_spelled_out() -> None:
    assert all(setting.description for setting in settable())
    assert {setting.name for setting in settable() if setting.default is None} == {"task"}
    spec = tiny(precision="auto", device="auto")
    assert spec.precision in ("bf16", "float32")
    assert spec.device == ("cuda" if torch.cuda.is_available() else "cpu")
    assert tiny(precision=spec.precision, device=spec.device) == spec


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"test": 0}, "test=0 must be at least 1"),
        ({"eval_every": 0}, "eval_every=0 must be at least 1"),
        ({"warmup": -1}, "warmup=-1 must be at least 0"),
        ({"seed": -1}, "seed=-1 must be a whole number from 0 to below 2^63"),
        ({"weight_decay": -0.5}, "weight_decay=-0.5 must be at least 0"),
        ({"weight_decay": float("nan")}, "weight_decay=nan must be at least 0"),
        ({"clip": float("inf")}, "clip=inf must be at least 0 and finite"),
        ({"lr": 0.0}, "lr=0.0 must be above 0 and finite"),
        ({"lr": float("inf")}, "lr=inf must be above 0 and finite"),
        ({"lr": float("nan")}, "lr=nan must be above 0 and finite"),
        ({"beta2": 1.0}, "beta2=1.0 must be from 0 to below 1"),
        ({"device": "tpu"}, "device='tpu' must be auto, cpu or"),
        ({"precision": "fp8"}, "precision='fp8' must be auto, bf16 or float32"),
        ({"steps": 1.5}, "steps=1.5 must be a whole number"),
        ({"steps": True}, "steps=True must be a whole number"),
        ({"lr": "1e-3"}, "lr='1e-3' must be a number"),
        ({"until_solved": 1}, "until_solved=1 must be true or false"),
        ({"lrr": 1}, "there is no setting 'lrr': did you mean 'lr'"),
        ({"plugins": "x"}, "there is no setting 'plugins'"),
        ({"data": "fixed:0"}, "data 'fixed:0' is none of fixed:N"),
        ({"objective": "teacherless:hybird=1"}, "has no option 'hybird': did you mean 'hybrid'"),
    ],
)
def test_a_wrong_request_is_one_sentence(changes: dict[str, Any], said: str) -> None:
    """Beside those that test_cli.py makes on the command line."""
    with refused(said):
        tiny(**changes)


def test_weights_are_this_runs_own() -> None:
    def weights(**settings: Any) -> dict[str, torch.Tensor]:
        spec = tiny("belief-state", **settings)
        return {name: each for name, each in spec.build_objective(spec.build_task()).named_parameters() if each.std()}

    first, same, other = weights(), weights(lr=0.5, steps=99), weights(seed=1)
    assert {"backbone.token_table", "text_head.inward"} <= first.keys()
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


def test_an_objective_that_a_backbone_cannot_serve_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(NextToken, "needs", frozenset({Cap.LOOKAHEAD}))
    assert train(tiny(steps=1), tmp_path / "sees").steps == 1
    monkeypatch.setattr("foresee.backbones.base.measure_once", lambda *_: frozenset())
    with pytest.raises(RequestError, match=r"next-token.*needs.*LOOKAHEAD"):
        train(tiny(steps=1), tmp_path / "blind")
    assert not (tmp_path / "blind").exists()


# Finished runs ------------------------------------------------------------------------------------------------------


def test_a_loaded_run_is_the_one_that_was_trained_wherever_it_lies(finished: Run, tmp_path: Path) -> None:
    prompt = "3,1|0,3|0,4|4,5/0,5="
    for again in (load(str(finished.dir)), load(shutil.copytree(finished.dir, tmp_path / "my run"))):
        assert (again.spec, again.rows, again.seconds) == (finished.spec, finished.rows, finished.seconds)
        assert again.generate(prompt) == finished.generate(prompt)
        assert len(again.generate(prompt).split(",")) == 3
        assert not again.objective.training
        with pytest.raises(RequestError, match="the goal 9 is not the end of an arm"):
            again.generate("3,1|0,3|0,4|4,5/0,9=")


def test_a_verdict_becomes_conclusive_once_the_control_beside_it_has_solved(tmp_path: Path) -> None:
    failed = train(tiny("next-token", EASY, **(SOLVING | {"lr": 1e-5})), tmp_path)
    assert failed.verdict.inconclusive
    assert failed.verdict.name != "solved"
    control = train(failed.spec.control(), tmp_path)
    assert control.verdict.name != "solved"
    assert failed.verdict.inconclusive, "a control that has not solved proves nothing"
    lines = rows_as_lines(control.rows)
    solved = [line | {"value": 0.97} if line["row"] == "exact" else line for line in lines]
    files.write_json_lines(control.dir / "rows.jsonl", solved)
    assert not failed.verdict.inconclusive
    assert load(failed.dir).json()["verdict"]["inconclusive"] is False
    (control.dir / "rows.jsonl").write_text("{")
    with pytest.raises(RequestError, match=f"{control.dir.name}/rows.jsonl is damaged"):
        assert failed.verdict


# Damage -------------------------------------------------------------------------------------------------------------


def use(directory: Path) -> None:
    """Everything that reads a finished run."""
    run = load(directory)
    assert json.dumps(run.json(), allow_nan=False)
    assert run.metrics
    evaluate(run)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("spec.json", b"{", "Expecting"),
        ("spec.json", b"[]", "its keys are not those of a run"),
        ("spec.json", b"{}", "its keys are not those of a run"),
        ("rows.jsonl", b"", "it is empty"),
        ("rows.jsonl", b'{"row": "free", "value": 1, "n": 1}\n', "it has no row 'exact'"),
        ("rows.jsonl", b'{"value": 1}\n', "line 1 is not a measurement"),
        ("rows.jsonl", b'{"row": "exact"}\n', "line 1 is not a measurement"),
        ("rows.jsonl", b'{"row": "exact", "value": "1", "n": 1}\n', "line 1 is not a measurement"),
        ("rows.jsonl", b'{"row": "exact", "value": NaN, "n": 1}\n', "line 1 is not a measurement"),
        ("rows.jsonl", b'{"row": "exact", "values": [1]}\n', "line 1 is not a measurement"),
        ("metrics.jsonl", b"", "it is empty"),
        ("metrics.jsonl", b"{}\n", "line 1: step: Field required"),
        ("metrics.jsonl", b'{"step": 20}\n', "line 1: examples: Field required"),
        ("timing.jsonl", b"", "it is empty"),
        ("timing.jsonl", b"nonsense", "line 1"),
        ("examples.jsonl", b'{"prompt": 1}\n', "line 1: prompt: "),
        ("anatomy.json", b'{"examples": [{}]}', "examples.0.prompt: Field required"),
        ("anatomy.json", b"[" * 100_000, "Invalid JSON"),
        ("env.json", b"[]", "Input should be an object"),
        ("model.safetensors", b"", ""),
        ("model.safetensors", b"x" * 5000, ""),
    ],
)
def test_a_damaged_file_is_one_sentence(copy: Path, name: str, content: bytes, said: str) -> None:
    (copy / name).write_bytes(content)
    with refused(f"{name} is damaged: {said}", f"delete {copy} and train again") as caught:
        use(copy)
    assert caught.value.status == 2


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("spec.json", "is not a run directory: it holds no spec.json"),
        ("rows.jsonl", "holds an unfinished run; finish it with `foresee train path-star:"),
        ("metrics.jsonl", "metrics.jsonl is missing; delete .* and train again"),
        ("timing.jsonl", "timing.jsonl is missing; delete .* and train again"),
        ("model.safetensors", "model.safetensors is missing; delete .* and train again"),
    ],
)
def test_a_missing_file_is_one_sentence(copy: Path, name: str, said: str) -> None:
    (copy / name).unlink()
    with pytest.raises(RequestError, match=said):
        use(copy)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": "20"},
        {"steps": 20.5},
        {"lr": "x"},
        {"device": "tpu"},
        {"task": None},
        {"until_solved": 1},
        {"lr": 0.5},
    ],
)
def test_a_spec_of_wrong_types_or_of_another_folder_is_damage(copy: Path, change: dict[str, Any]) -> None:
    raw = json.loads((copy / "spec.json").read_text())
    (copy / "spec.json").write_text(json.dumps(raw | change))
    wrong = (
        f"{next(iter(change))}=.* must be " if change != {"lr": 0.5} else "its digest is .*, not the name of its folder"
    )
    with pytest.raises(RequestError, match=f"spec.json is damaged: {wrong}"):
        read_spec(copy)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"task": "path-star:degree=2,length=3,nodes=12,goals=one"},
         r"'backbone.token_table' has shape \(16, 32\), but \(14, 32\) is needed; .* another vocabulary"),
        ({"backbone": "transformer:layers=2,width=32,heads=2"},
         r"weight 'backbone\.blocks\.1\..*' is only on one side"),
    ],
)  # fmt: skip
def test_weights_of_another_model_are_refused(copy: Path, tmp_path: Path, other: dict[str, str], said: str) -> None:
    shutil.copy(train(tiny(**other, steps=1), tmp_path / "other").dir / "model.safetensors", copy)
    with pytest.raises(RequestError, match=said):
        _ = load(copy).objective


def flip(content: bytes, rng: random.Random) -> bytes:
    changed = bytearray(content)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def scribble(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + rng.randbytes(8) + content[at + 8 :]


def double_line(content: bytes, rng: random.Random) -> bytes:
    lines = content.splitlines(keepends=True)
    return b"".join([*lines, rng.choice(lines)])


@pytest.mark.parametrize("harm", [flip, cut, scribble, double_line])
@pytest.mark.parametrize(
    "name", ["spec.json", "metrics.jsonl", "rows.jsonl", "timing.jsonl", "examples.jsonl", "env.json"]
)
def test_random_damage_is_a_sentence_or_harmless(
    copy: Path, name: str, harm: Callable[[bytes, random.Random], bytes]
) -> None:
    rng = random.Random(f"{name} {harm.__name__}")
    whole = (copy / name).read_bytes()
    sentences: list[str] = []
    for _ in range(40):
        (copy / name).write_bytes(harm(whole, rng))
        try:
            run = load(copy)
            assert json.dumps(run.json(), allow_nan=False)
            assert run.metrics
        except ForeseeError as error:
            sentences.append(str(error))
    assert all("\n" not in sentence and str(copy / name) in sentence for sentence in sentences)
    if name == "spec.json":
        assert len(sentences) == 40
    (copy / name).write_bytes(whole)
    assert load(copy).json()["run"] == copy.name


def test_rows_of_a_metric_added_later_are_kept_beside_those_that_are_there(finished: Run, copy: Path) -> None:
    older = {name: row for name, row in finished.rows.items() if name not in ("decision", "rest")}
    older["exact"] = rate(1, 8)
    files.write_json_lines(copy / "rows.jsonl", rows_as_lines(older))
    keep_rows(load(copy), evaluate(load(copy)))
    kept = load(copy).rows
    assert kept.keys() == finished.rows.keys()
    assert (kept["decision"], kept["exact"]) == (finished.rows["decision"], older["exact"])


def test_weights_that_are_not_finite_are_named(copy: Path) -> None:
    tensors, note = files.read_tensors(copy / "model.safetensors")
    name = max(tensors)
    tensors[name].view(-1)[0] = float("nan")
    files.write_tensors(copy / "model.safetensors", tensors, note)
    with pytest.raises(RequestError, match=f"weight '{re.escape(name)}' holds NaN or infinity") as refusal:
        _ = load(copy).objective
    assert "learning rate" not in str(refusal.value)
    with pytest.raises(RequestError, match="holds NaN or infinity"):
        continue_run(load(copy), 2)
