"""``foresee list``."""

import ast
import sys
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

import foresee
from foresee.cli.options import AsJson, emit, output
from foresee.core.errors import RequestError
from foresee.core.plugins import ENTRY_POINT_GROUP, loaded_plugin_files
from foresee.core.registry import Registry, nearest
from foresee.core.spec import options_text, write_value

ROOMS = {"tasks": "tasks", "objectives": "objectives", "backbones": "backbones", "metrics": "metrics",
         "studies": "experiments/studies", "bases": "datasets"}  # fmt: skip
"""Where each kind is defined; a class of ``bases`` has options that a task inherits."""

Listing = dict[str, dict[str, dict[str, Any]]]


def command(
    kind: Annotated[
        str, typer.Argument(help="tasks, objectives, backbones, metrics or studies; all of them by default.")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Shows what can be named in a spec, with its options."""
    listed = listing()
    if kind and kind not in listed:
        raise RequestError(f"unknown kind {kind!r}: {nearest(kind, list(listed))}")
    chosen = {kind: listed[kind]} if kind else listed
    if as_json:
        emit(chosen)
        return
    for name, entries in chosen.items():
        table = Table(title=name, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
        for entry, found in entries.items():
            options = ", ".join(f"{key}={default}" for key, default in found.get("options", {}).items())
            said = f"preset for {found['preset']}" if "preset" in found else found["summary"]
            table.add_row(entry, f"{said}\n{options}" if options else said)
        output().print(table, "", markup=False)


def listing() -> Listing:
    """Summary and options of every entry by kind, of what every entry understands, and presets.

    They are read from the source of this package: importing PyTorch takes longer than everything else together. Where
    that is imported anyway, or there are plug-ins, they are what is registered (which a test holds together).
    """
    if "torch" in sys.modules or loaded_plugin_files() or entry_points(group=ENTRY_POINT_GROUP):
        return list_registered()
    source = _Source(ROOMS)
    return {kind: source.entries(kind) for kind in ROOMS if kind != "bases"}


class _Source:
    """The modules of some folders of this package, parsed."""

    def __init__(self, folders: Mapping[str, str]) -> None:
        here = Path(foresee.__file__).parent
        self.bodies = {
            kind: [node for path in sorted((here / folder).rglob("*.py")) for node in ast.parse(path.read_bytes()).body]
            for kind, folder in folders.items()
        }
        every = (node for body in self.bodies.values() for node in body)
        self.classes = {node.name: node for node in every if isinstance(node, ast.ClassDef)}

    def entries(self, kind: str) -> dict[str, dict[str, Any]]:
        """As ``_entries`` has them."""
        entries: dict[Any, dict[str, Any]] = {}
        wrapped: dict[Any, dict[str, Any]] = {}
        presets: dict[Any, dict[str, Any]] = {}
        for node in self.bodies[kind]:
            match node:
                case ast.ClassDef(
                    decorator_list=[ast.Call(ast.Attribute(attr="register"), [ast.Constant(name), *_]), *_]
                ):
                    entries[name] = self._read(node)
                case ast.ClassDef(decorator_list=[ast.Attribute(attr="wrap"), *_]):
                    wrapped[f"every {kind[:-1]}"] = self._read(node)
                case ast.Expr(ast.Call(ast.Attribute(attr="preset"), [ast.Constant(name), ast.Constant(spec)])):
                    presets[name] = {"preset": spec}
        return dict(sorted(entries.items())) | wrapped | dict(sorted(presets.items()))

    def _read(self, node: ast.ClassDef) -> dict[str, Any]:
        """A class's summary, and the options of its constructor or, of a dataclass, of its fields."""
        summary, options = "", dict[str, str]()
        for base in reversed(node.bases):
            if (name := ast.unparse(base).partition("[")[0]) in self.classes:
                inherited = self._read(self.classes[name])
                summary, options = inherited["summary"] or summary, options | inherited["options"]
        fields = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
        keyword = any("kw_only=True" in ast.unparse(each) for each in node.decorator_list)
        for each in node.body:
            match each:
                case ast.AnnAssign(ast.Name("summary"), _, ast.expr() as value) | ast.Assign(
                    [ast.Name("summary")], value
                ):
                    summary = ast.literal_eval(value)
                case ast.AnnAssign(ast.Name("_")):
                    keyword = True
                case ast.AnnAssign(ast.Name(name), kind, value) if (
                    fields and keyword and "ClassVar" not in ast.dump(kind)
                ):
                    options[name] = self._default(kind, value)
                case ast.FunctionDef("__init__", ast.arguments(kwonlyargs=declared, kw_defaults=defaults)):
                    pairs = zip(declared, defaults, strict=True)
                    options = {option.arg: self._default(option.annotation, value) for option, value in pairs}
        return {"summary": summary, "options": options}

    def _default(self, kind: ast.expr | None, value: ast.expr | None) -> str:
        if value is None:
            match kind:
                case ast.Subscript(ast.Name("Annotated"), ast.Tuple([declared, *_])):
                    kind = declared
            return f"<{ast.unparse(kind)}>" if kind else "<str>"
        return write_value(eval(ast.unparse(value)))  # noqa: S307  # a default of this package: literals, and arithmetic on them


def list_registered() -> Listing:
    """The same of what is registered."""
    from foresee.experiments.catalogue import all_registries

    return {kind: _entries(registry) for kind, registry in all_registries().items()}


def _entries(registry: Registry[Any]) -> dict[str, dict[str, Any]]:
    classes = {name: registry.get(name) for name in registry.names()}
    if registry.wrapper is not None:
        classes[f"every {registry.kind}"] = registry.wrapper
    entries = {name: {"summary": cls.summary, "options": options_text(cls)} for name, cls in classes.items()}
    return entries | {name: {"preset": spec} for name, spec in registry.presets().items()}
