"""What holds for the repository as a whole: its layers, its words, its links and its pins."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "foresee"
MODULES = sorted(PACKAGE.rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, wherever in the file; ``from a import b`` counts as both a and a.b."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{name.name}" for name in node.names)


def dotted(node: ast.expr) -> str:
    """``a.b.c`` for an attribute chain that starts at a name, else the empty string."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def within(module: str, package: str) -> bool:
    """Whether ``module`` is ``package`` or lies in it."""
    return module == package or module.startswith(f"{package}.")


def text_files() -> list[tuple[Path, str]]:
    """Every file that git tracks or would track, and is text."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    found: list[tuple[Path, str]] = []
    for name in sorted(set(filter(None, listed.split("\0")))):
        path = ROOT / name
        if path.is_file():
            try:
                found.append((path, path.read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue  # a picture
    return found


# Modules.


def test_every_module_says_what_it_is_and_reads_in_one_sitting() -> None:
    assert not [str(path) for path in MODULES if not ast.get_docstring(tree(path))]
    lines = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert not {path: count for path, count in lines.items() if count > 300}, "split it by idea"


def test_what_only_posix_has_is_imported_where_it_is_used() -> None:
    posix = {"fcntl", "grp", "pty", "pwd", "resource", "termios"}
    for path in MODULES:
        top = [node for node in tree(path).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module or "" for node in top if isinstance(node, ast.ImportFrom)}
        assert not names & posix, path


def test_nothing_is_unpickled() -> None:
    unpicklers = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    for path in MODULES:
        assert not {name for name in imports(path) if name.partition(".")[0] in unpicklers}, path
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                assert dotted(node.func) not in {"torch.load", "pandas.read_pickle"}, f"{path}:{node.lineno}"
                assert not any(word.arg == "allow_pickle" for word in node.keywords), f"{path}:{node.lineno}"


def test_no_global_random_state_is_used() -> None:
    """``foresee.core.seeds`` is the one source of randomness; ruff (NPY002) watches NumPy's global state."""
    touching = {"torch.manual_seed", "torch.seed", "torch.set_rng_state", "torch.get_rng_state", "torch.initial_seed"}
    for path in MODULES:
        assert "random" not in set(imports(path)), path
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute):
                name = dotted(node)
                wrong = name in touching or name.startswith(("torch.random.", "torch.cuda.manual_seed"))
                # The one place that lends the global stream to other people's code, and puts it back.
                wrong = wrong and (path.name, name) != ("seeds.py", "torch.random.fork_rng")
                assert not wrong, f"{path}:{node.lineno}: {name}"


@pytest.mark.slow
def test_training_needs_neither_rich_nor_platformdirs_nor_transformers(tmp_path: Path) -> None:
    """The library and the command train without them, with plain lines on standard error."""
    script = """
import sys
for name in ("rich", "platformdirs", "transformers"):
    sys.modules[name] = None  # importing it fails
import foresee
from foresee.cli import main
from foresee.core.files import cache_folder
small = dict(backbone="transformer:layers=1,width=16,heads=2", steps=2, batch=8, test=20, data="fixed:50")
run = foresee.train("path-star:degree=2,length=3,nodes=10", runs="runs", **small)
assert "exact" in run.rows and cache_folder().name == "foresee"
options = [word for name, value in small.items() for word in (f"--{name}", str(value))]
sys.argv = ["foresee", "train", "path-star:degree=2,length=3,nodes=10", "--seed", "1", *options]
main()
"""
    command = [sys.executable, "-c", script]
    environ = {name: value for name, value in os.environ.items() if name != "FORESEE_CACHE"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, env=environ)
    assert json.loads(done.stdout)["rows"]["exact"]["n"] == 20
    assert "step 2/2" in done.stderr


ROOMS = (
    "cli", "explore", "report", "experiments", "training", "metrics", "objectives", "backbones", "tasks", "datasets",
    "core",
)  # fmt: skip
"""From the top down: a room may import itself and those after it, and ``cli`` the words of ``api``, which it says."""


def test_every_module_has_a_room_and_arrows_point_down() -> None:
    """Of backbones an objective knows the interface alone."""
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py", "__main__.py", "api.py"}
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ROOMS)
    upwards = [
        f"{path.relative_to(PACKAGE)} imports {module}"
        for floor, room in enumerate(ROOMS)
        for path in sorted((PACKAGE / room).rglob("*.py"))
        for module in imports(path)
        if any(within(module, f"foresee.{above}") for above in (*ROOMS[:floor], *(["api"] if floor else [])))
    ]
    assert not upwards, "\n".join(upwards)
    allowed = {"foresee.backbones", "foresee.backbones.base"}
    for path in sorted((PACKAGE / "objectives").rglob("*.py")):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ImportFrom) and within(node.module or "", "foresee.backbones"):
                assert node.module in allowed, f"{path}:{node.lineno}: {node.module}"


# Files.


def test_no_file_holds_a_path_of_somebodys_machine() -> None:
    pattern = re.compile(r"(?<![\w.:/-])/(?:work|home|root|Users|mnt|var/folders)/[\w.-]+")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match.group()}"
        for path, text in text_files()
        for number, line in enumerate(text.splitlines(), start=1)
        for match in pattern.finditer(line)
    ]
    assert not found, "\n".join(found)


def test_relative_links_in_documents_resolve() -> None:
    link = re.compile(r"""\]\(([^)\s]+)\)|(?:src|href|srcset)="([^"]+)\"""")
    documents = [(path, text) for path, text in text_files() if path.suffix == ".md"]
    assert ROOT / "README.md" in [path for path, _ in documents]
    broken: list[str] = []
    for path, text in documents:
        prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for markdown, html in link.findall(prose):
            target = (markdown or html).partition("#")[0]
            if target and not re.match(r"[a-z]+:", target) and not (path.parent / target).exists():
                broken.append(f"{path.relative_to(ROOT)}: {target}")
    assert not broken, "\n".join(broken)


def test_every_dependency_is_pinned_within_its_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pinned: dict[str, str] = {}
    for pin in pins:
        (only,) = pin.specifier
        assert only.operator == "==", f"{pin} is not an exact version"
        pinned[canonicalize_name(pin.name)] = only.version
    for line in [*project["dependencies"], *extras]:
        needed = Requirement(line)
        version = pinned.get(canonicalize_name(needed.name))
        assert version, f"{needed.name} is not in constraints.txt"
        assert needed.specifier.contains(version), (
            f"constraints.txt has {needed.name} {version}, but {needed} is needed"
        )
    # Without a build suffix, so that an index of CPU builds can serve it; a range would fetch CUDA packages.
    assert pinned["torch"] == "2.13.0"
