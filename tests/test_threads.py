"""A run keeps the number of threads that it began with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny

from foresee.core.errors import ForeseeError, RequestError
from foresee.training.loop import train
from foresee.training.process import recorded_threads, use_threads
from foresee.training.progress import Progress

QUICK: dict[str, Any] = {"steps": 2, "eval_every": 1, "data": "fixed:300", "test": 40}


class Notes(Progress):
    """Notes the threads at each step, and stops the run when told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.seen: list[int] = []
        self.stop_at = stop_at

    def step(self, step: int) -> None:
        self.seen.append(torch.get_num_threads())
        if step == self.stop_at:
            raise ForeseeError("stopped")


def test_a_run_that_is_continued_has_the_threads_it_began_with_and_a_damaged_record_is_said(tmp_path: Path) -> None:
    spec, notes = tiny(**QUICK), Notes()
    with pytest.raises(ForeseeError, match="stopped"):
        train(spec, tmp_path, Notes(stop_at=1))
    path = tmp_path / spec.digest / "env.json"
    recorded = json.loads(path.read_text())
    assert recorded["threads"] == torch.get_num_threads() == 1
    for text in ("{}", '{"threads": 0}', '{"threads": true}', '{"threads": "2"}', "[]", "{"):
        path.write_text(text)
        with pytest.raises(RequestError, match=r"env\.json is damaged: "):
            train(spec, tmp_path)
    path.write_text(json.dumps(recorded | {"threads": 2}))
    train(spec, tmp_path, notes)
    assert set(notes.seen) == {2}
    assert torch.get_num_threads() == 1


def test_without_a_record_the_number_stays(tmp_path: Path) -> None:
    with use_threads(recorded_threads(tmp_path)):
        assert torch.get_num_threads() == 1
