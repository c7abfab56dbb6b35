"""A task as a folder that the lm-evaluation-harness runs, so that any model can be asked: ``--include_path``.

The harness asks with the task's text, and reads the answer up to the end of its line. foresee scores it, since several
answers may be right; as in a run, the model is told how long the answer is: what it writes beyond that does not count.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import yaml

from foresee.core import files
from foresee.core.batch import Batch
from foresee.core.errors import RequestError
from foresee.tasks.base import Task
from foresee.tasks.example_files import write_examples

SHOTS = 64
"""Training examples that are written for ``--num_fewshot`` to choose from."""

CODE = '''"""Reads the examples beside this file, and scores what a model writes as foresee does."""

import json
from pathlib import Path

import datasets
import foresee
from foresee.tasks.harness import is_right

TASK = foresee.task({spec!r})


def load(**options):
    """The splits by name."""
    texts = {{name: Path(__file__).with_name(f"{{name}}.jsonl").read_text() for name in ("train", "test")}}
    rows = {{name: [json.loads(line) for line in text.splitlines()] for name, text in texts.items()}}
    return {{name: datasets.Dataset.from_list(each) for name, each in rows.items()}}


def score(doc, results):
    """1 where the answer is right."""
    return {{"exact_match": float(is_right(TASK, doc["prompt"], doc["answer"], results[0]))}}
'''


def write_harness_task(task: Task, spec: str, test: Batch, train: Batch, folder: Path) -> None:
    """Writes the folder: a YAML file, the code that it names, and examples. Raises ``RequestError`` where it is not
    empty, or where the task's rows are a user's own."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RequestError(f"{folder} exists and is not an empty folder; choose another for the task")
    name = "foresee_" + re.sub(r"[^a-z0-9]+", "_", spec.lower()).strip("_")
    with files.explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for split, batch in (("test", test), ("train", train)):
        write_examples(task, batch, folder / f"{split}.jsonl", "jsonl")
    answers = [json.loads(line)["answer"] for line in (folder / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    # YAML has no way to write the harness's own tag but as text.
    described = yaml.safe_dump({
        "task": name, "test_split": "test", "fewshot_split": "train", "output_type": "generate_until",
        "doc_to_text": "{{prompt}}", "doc_to_target": "{{answer}}", "target_delimiter": "", "fewshot_delimiter": "\n",
        "generation_kwargs": {"until": ["\n"], "do_sample": False, "max_gen_toks": max(map(len, answers)) + 2},
        "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0, "foresee": spec},
    }, sort_keys=False)  # fmt: skip
    files.write_text(folder / "task.py", CODE.format(spec=spec))
    files.write_text(
        folder / f"{name}.yaml",
        f"{described}custom_dataset: !function task.load\nprocess_results: !function task.score\n",
    )


def is_right(task: Task, prompt: str, answer: str, written: str) -> bool:
    """Whether what a model wrote after ``prompt`` begins with a right answer, as long as ``answer`` where the task has
    no symbol that ends one."""
    written = "".join(written.split("\n")[:1]).strip()
    asked, right = task.read_tokens(prompt + answer)
    for cut in range(len(written), 0, -1):
        try:
            _, found = task.read_tokens(prompt + written[:cut])
        except RequestError:
            continue
        found = found if task.end is not None else found[: len(right)]
        return task.verify(asked, found)
    return False
