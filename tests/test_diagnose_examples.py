"""What a page shows of held-out examples."""

from __future__ import annotations

from pathlib import Path

import data_files
import pytest

from foresee.core.seeds import stream
from foresee.core.spec import resolve
from foresee.experiments.diagnose.examples import gaps
from foresee.tasks.base import tasks


@pytest.mark.parametrize(
    ("text", "symbols", "expected"),
    [
        ("16 2 9", ["16", "2", "9", "<end>"], ["", " ", " ", ""]),
        ("32,34", ["32", "34"], ["", ","]),
        ("a b", ["a", " ", "b"], ["", "", ""]),
        ("f(x)", ["f", "(", "x", ")"], ["", "", "", ""]),
        ("\u00e9 z", ["<c3>", "<a9>", " ", "z"], ["", "", "", ""]),
        ("", ["<end>"], [""]),
    ],
)
def test_between_tokens_stands_what_the_text_has_there(text: str, symbols: list[str], expected: list[str]) -> None:
    assert gaps(text, symbols) == expected


def test_a_prompt_is_shown_as_it_is_in_the_file(tmp_path: Path) -> None:
    pairs = [(f"count to {n}", f"{n} {n + 1}") for n in range(20)]
    task = data_files.data(data_files.write_jsonl(tmp_path / "rows.jsonl", pairs), tokenizer="words")
    shown = {task.write_prompt(prompt) for prompt, _ in task.sample(200, stream("shown")).pairs()}
    assert shown == {prompt for prompt, _ in pairs}


def test_a_seed_is_shown_before_its_prompt() -> None:
    task = resolve(tasks, "path-star:degree=2,length=3,nodes=9,seed_length=2").build()
    ((prompt, _),) = task.sample(1, stream("shown")).pairs()
    assert task.write_prompt(prompt) == task.write_line(prompt, [])
