"""Mirrors of runs: what they hold is what the run's own files hold, however the run came about."""

from __future__ import annotations

import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from refusals import refused
from tiny import outcome, tiny

from foresee.core import files
from foresee.core.errors import RequestError
from foresee.experiments.runner import run_all
from foresee.training.loop import train
from foresee.training.progress import Progress
from foresee.training.records import Report, Timing
from foresee.training.run import Run
from foresee.training.settings import Settings
from foresee.training.tracking import Mirrored

# Both libraries warn of things of their own when they are imported or used.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")

tensorboard = pytest.importorskip("tensorboard", reason="the extra 'tracking' is not installed")


def scalars(run: Run) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

    found = EventAccumulator(str(run.dir / "tensorboard"))
    found.Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def curve(run: Run, *keys: str) -> list[tuple[int, float]]:
    points = []
    for line in run.metrics:
        value: Any = line
        for key in keys:
            value = value[key]
        points.append((line["step"], value))
    return points


def offline_records(stored: bytes) -> Iterator[bytes]:
    """The records of a W&B file: after 7 bytes of its own, a LevelDB log (blocks of 32 KiB; checksum, length, kind)."""
    at, begun = 7, b""
    while at + 7 <= len(stored):
        left = -at % 32768
        if 0 < left < 7:  # a block's end that is too short for a header is padding
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", stored, at)
        begun += stored[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield begun
            begun = b""


def offline(run: Run) -> tuple[list[tuple[int, float]], set[str]]:
    """(step, loss) of each history row, and the names in the summary, of a run's one offline W&B file."""
    from wandb.proto import wandb_internal_pb2

    (stored,) = run.dir.glob("wandb/offline-run-*/run-*.wandb")

    def records() -> list[Any]:
        return [
            wandb_internal_pb2.Record.FromString(data)  # type: ignore[attr-defined]
            for data in offline_records(stored.read_bytes())
        ]

    # A process of W&B's own writes the file, and on busy cores it may still be at it; its last record is the exit.
    for _ in range(600):
        if any(record.HasField("exit") for record in records()):
            break
        time.sleep(0.1)
    steps, summary = [], set()
    for record in records():
        if record.HasField("history"):
            names = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            steps.append((int(names["_step"]), float(names["train/loss"])))
        summary |= {item.key or "/".join(item.nested_key) for item in record.summary.update}
    return steps, summary


def same(held: Sequence[tuple[int, float]], own: Sequence[tuple[int, float]]) -> bool:
    return [step for step, _ in held] == [step for step, _ in own] and [value for _, value in held] == pytest.approx(
        [value for _, value in own], rel=1e-6
    )


def test_tensorboard_holds_every_line_and_row_of_a_run_and_changes_no_byte_of_it(tmp_path: Path) -> None:
    run = train(tiny(), tmp_path, Mirrored(Progress(), "tensorboard", tmp_path))
    plain = train(tiny(), tmp_path / "plain")
    held = scalars(run)
    assert same(held["train/loss"], curve(run, "loss"))
    assert same(held["eval/exact"], curve(run, "eval", "exact"))
    assert len(held["eval/forced/2"]) == 3
    assert held["final/exact"][0][1] == pytest.approx(run.rows["exact"]["value"])  # type: ignore[call-overload]  # a rate
    assert outcome(plain.dir) == outcome(run.dir)
    assert files.read_json(plain.dir / "spec.json") == files.read_json(run.dir / "spec.json")


def test_a_mirror_of_a_killed_run_repeats_no_step(tmp_path: Path) -> None:
    class Killed(Exception):  # noqa: N818
        pass

    class KilledAtTwenty(Progress):
        def report(self, settings: Settings, line: Report, timing: Timing) -> None:
            if line["step"] == 20:
                raise Killed

    with pytest.raises(Killed):
        train(tiny(), tmp_path, Mirrored(KilledAtTwenty(), "tensorboard", tmp_path))
    run = train(tiny(), tmp_path, Mirrored(Progress(), "tensorboard", tmp_path))
    assert same(scalars(run)["train/loss"], curve(run, "loss"))


@pytest.mark.slow
def test_offline_mirrors_in_weights_and_biases_hold_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open at once, and one by itself."""
    pytest.importorskip("wandb", reason="the extra 'tracking' is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    progress = Mirrored(Progress(), "wandb", tmp_path)
    runs = run_all([tiny(), tiny(seed=1)], tmp_path, jobs=2, progress=progress)
    runs.append(train(tiny(seed=2), tmp_path, Mirrored(Progress(), "wandb", tmp_path)))
    for run in runs:
        history, summary = offline(run)
        assert same(history, curve(run, "loss"))
        assert {"final/exact", "verdict"} <= summary


def test_a_sweep_mirrors_its_runs_and_those_finished_before(tmp_path: Path) -> None:
    specs = [tiny(seed=seed) for seed in range(3)]
    train(specs[0], tmp_path)
    written = []
    for _ in range(2):
        progress = Mirrored(Progress(), "tensorboard", tmp_path)
        runs = run_all(specs, tmp_path, engine="in-process", progress=progress)
        written.append(sorted(tmp_path.glob("*/tensorboard/*")))
    assert written[0] == written[1], "each is mirrored once"
    for run in runs:
        found = scalars(run)
        assert same(found["train/loss"], curve(run, "loss"))
        assert "final/exact" in found


def test_an_unknown_tracker_and_a_missing_library_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    wrong = {"tensorbord": r"unknown tracker 'tensorbord'.*tensorboard", "wandb": r"foresee-lm\[tracking\]"}
    for name, said in wrong.items():
        with pytest.raises(RequestError, match=said):
            Mirrored(Progress(), name, Path())


def test_without_a_login_one_sentence_says_how_to_have_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = pytest.importorskip("wandb", reason="the extra 'tracking' is not installed")

    def without_login(**_: Any) -> None:
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.\nTraceback: more of it")

    monkeypatch.setattr(wandb, "init", without_login)
    with refused("--track wandb: No API key configured", "or set WANDB_MODE=offline") as caught:
        train(tiny(), tmp_path, Mirrored(Progress(), "wandb", tmp_path))
    assert "Traceback" not in str(caught.value)
