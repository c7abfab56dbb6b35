"""A real text set that everyone who has Python has: the standard library's functions, from signature to first line.

    python examples/data/standard_library.py functions.jsonl
    foresee diagnose functions.jsonl --prompt signature --response line --minutes 10

Each row holds a function's signature and the first line of its body, docstring left out. Only the text of the source
files is read; nothing of them is imported or run.
"""

from __future__ import annotations

import ast
import json
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

LONGEST_SIGNATURE, LONGEST_LINE = 72, 48
"""Characters; longer ones are left out, so that rows stay short enough for a small network."""


def functions(source: str) -> Iterator[tuple[str, str]]:
    """(signature, first line of the body) of every function in a source text that has a body of its own."""
    with warnings.catch_warnings(action="ignore"):  # old files have escapes that Python warns of
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
        if body:
            signature = f"{node.name}({ast.unparse(node.args)})"
            yield signature, ast.unparse(body[0]).splitlines()[0]


def rows(folder: Path) -> Iterator[dict[str, str]]:
    """One row a function, each (signature, line) once, files in the order of their names; tests are left out."""
    seen: set[tuple[str, str]] = set()
    for path in sorted(folder.rglob("*.py")):
        if {"test", "tests", "idle_test", "site-packages", "lib2to3"} & set(path.relative_to(folder).parts):
            continue
        try:
            found = list(functions(path.read_text(encoding="utf-8")))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for signature, line in found:
            fits = len(signature) <= LONGEST_SIGNATURE and len(line) <= LONGEST_LINE
            if fits and (signature, line) not in seen:
                seen.add((signature, line))
                yield {"signature": signature, "line": line}


def main() -> None:
    """Writes the file that the first argument names."""
    if len(sys.argv) != 2:
        sys.exit("give the JSON-lines file to write, as in: python examples/data/standard_library.py functions.jsonl")
    made = list(rows(Path(sysconfig.get_path("stdlib"))))
    Path(sys.argv[1]).write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    print(f"{len(made):,} functions of Python {sys.version.split()[0]} written to {sys.argv[1]}")


if __name__ == "__main__":
    main()
