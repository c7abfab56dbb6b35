"""A real set of questions and answers that the package index holds: the English corpus of chatterbot-corpus (BSD).

    pip install --no-deps chatterbot-corpus
    python examples/data/chatterbot.py chat.jsonl
    foresee diagnose chat.jsonl --backbone hf:smollm2 --steps 24 --seeds 1 --batch 8 --lr 1e-4

Each row holds a turn of a conversation and its answer. Only the package's YAML files are read; it is not imported.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import yaml

LONGEST = 48
"""Characters of a prompt or an answer; longer ones are left out, so that a step on one core takes seconds."""


def rows(folder: Path) -> Iterator[dict[str, str]]:
    """One row for each turn that is answered, each pair once, files in the order of their names."""
    seen: set[tuple[str, str]] = set()
    for path in sorted(folder.glob("*.yml")):
        for turns in yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]:
            texts = [str(turn).strip() for turn in turns]
            for pair in pairwise(texts):
                if all(0 < len(text) <= LONGEST for text in pair) and pair not in seen:
                    seen.add(pair)
                    yield {"prompt": pair[0], "answer": pair[1]}


def main() -> None:
    """Writes the file that the first argument names."""
    if len(sys.argv) != 2:
        sys.exit("give the JSON-lines file to write, as in: python examples/data/chatterbot.py chat.jsonl")
    found = find_spec("chatterbot_corpus")
    if found is None or found.origin is None:
        sys.exit("pip install --no-deps chatterbot-corpus brings the rows")
    made = list(rows(Path(found.origin).parent / "data" / "english"))
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    Path(sys.argv[1]).write_text(lines, encoding="utf-8")
    print(f"{len(made):,} rows of chatterbot-corpus {version('chatterbot-corpus')} written to {sys.argv[1]}")


if __name__ == "__main__":
    main()
