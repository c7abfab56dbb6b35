"""Names: found by import, refused when taken or unknown, and open to other people's files and packages."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any

import pytest
from refusals import refused

import foresee.backbones
import foresee.metrics
import foresee.objectives
import foresee.tasks
from foresee.core.errors import ForeseeError, RequestError
from foresee.core.plugins import load_plugin_file, loaded_plugin_files, note_source, plugin_digest
from foresee.core.registry import Registry, nearest
from foresee.core.spec import resolve

KINDS: list[tuple[ModuleType, Registry[Any], Any]] = [
    (foresee.tasks, foresee.tasks.tasks, foresee.tasks.Task),
    (foresee.backbones, foresee.backbones.backbones, foresee.backbones.Backbone),
    (foresee.objectives, foresee.objectives.objectives, foresee.objectives.Objective),
    (foresee.metrics, foresee.metrics.metrics, foresee.metrics.Metric),
]
per_kind = pytest.mark.parametrize(("package", "registry", "base"), KINDS, ids=[kind[1].kind for kind in KINDS])


class Workshop:
    """A directory on ``sys.path`` to write throw-away packages, plug-in files and distributions in."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        """Writes one file below the directory."""
        file = self.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text), encoding="utf-8")
        importlib.invalidate_caches()
        return file

    def distribution(self, name: str, entry_points: str) -> None:
        """Makes it look as though a package of this name were installed."""
        self.write(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        self.write(f"{name}-1.0.dist-info/entry_points.txt", entry_points)


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workshop]:
    """A workshop whose modules are forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield Workshop(tmp_path)
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


@pytest.fixture
def things(workshop: Workshop) -> Registry[Any]:
    """The registry of a package with two built-in entries and a preset."""
    made = "from foresee.core.registry import Registry\nthings = Registry('thing', 'things')\n"
    workshop.write("things/__init__.py", made)
    spoon, fork = (KNIFE.replace("knife", name).replace("Knife", name.title()) for name in ("spoon", "fork"))
    workshop.write("things/spoon.py", f"{spoon}things.preset('teaspoon', 'spoon')\n")
    workshop.write("things/fork.py", fork)
    registry: Registry[Any] = importlib.import_module("things").things
    return registry


# Built-in entries.


@per_kind
def test_every_class_in_the_package_is_registered(package: ModuleType, registry: Registry[Any], base: Any) -> None:
    registered = {registry.get(name) for name in registry.names()}
    assert registered, f"no {registry.kind} is registered"
    for info in pkgutil.iter_modules(package.__path__):
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for name, cls in inspect.getmembers(module, inspect.isclass):
            concrete = cls.__module__ == module.__name__ and issubclass(cls, base) and not inspect.isabstract(cls)
            if concrete and cls is not registry.wrapper:
                assert cls in registered, f"{module.__name__}.{name} has no @{registry.kind}s.register(...)"


@per_kind
def test_registered_classes_keep_the_conventions(package: ModuleType, registry: Registry[Any], base: Any) -> None:
    for name in registry.names():
        cls = registry.get(name)
        assert issubclass(cls, base)
        assert not inspect.isabstract(cls), f"{registry.kind} {name!r} leaves methods out"
        assert inspect.getdoc(cls), f"{registry.kind} {name!r} has no docstring"
        assert re.fullmatch(r"[^\n]{10,100}", cls.summary), f"{registry.kind} {name!r}: summary is not one line"
    for name in [*registry.names(), *registry.presets()]:
        assert re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name), f"{name!r} is not lower-case words joined by hyphens"


# Names.


def test_discovery_imports_every_module_once(things: Registry[Any]) -> None:
    assert "things.spoon" not in sys.modules
    assert things.names() == ["fork", "spoon"]
    assert things.presets() == {"teaspoon": "spoon"}
    assert things.get("spoon").__name__ == "Spoon"
    assert things.expand("teaspoon") == "spoon"
    assert things.expand("spoon") is None
    assert things.names() == ["fork", "spoon"]


def test_a_name_is_given_once(things: Registry[Any]) -> None:
    class Ladle: ...

    for taken, holder in [("spoon", "things.spoon.Spoon"), ("teaspoon", "spoon")]:
        with refused(f"thing name '{taken}' is taken by {holder}; {__name__}.", "Ladle needs another name"):
            things.register(taken)(Ladle)
        with refused(f"thing name '{taken}' is taken by {holder}; fork needs another name"):
            things.preset(taken, "fork")
    assert things.names() == ["fork", "spoon"]


@pytest.mark.parametrize("name", ["My_Idea: 1,2", "my idea", "Idea", "my_idea", "", "-idea", "1-idea", Path])
def test_a_name_is_one_that_a_spec_can_hold(things: Registry[Any], name: Any) -> None:
    """A class, where the decorator is written without brackets."""
    with refused(" is no name for a thing; write lower-case words joined by hyphens, as my-idea"):
        things.register(name)
    with refused(" is no name for a thing; write"):
        things.preset(name, "spoon")


def test_an_unknown_name_brings_the_nearest(things: Registry[Any]) -> None:
    with refused("unknown thing 'spon': did you mean 'spoon' or 'teaspoon'? (--plugin"):
        things.get("spon")
    with refused("unknown thing 'xyz': known: fork, spoon, teaspoon ("):
        things.get("xyz")
    assert nearest("q", []) == "known: none"
    assert nearest("q", [f"n{at:02}" for at in range(30)]).endswith("n22, n23, and 6 more")


# Plug-in files.

KNIFE = """
from things import things
@things.register("knife")
class Knife: ...
"""


def test_a_plugin_file_registers_and_is_loaded_once(workshop: Workshop, things: Registry[Any]) -> None:
    path = workshop.write("elsewhere/my_knife.py", KNIFE)
    load_plugin_file(path)
    knife = things.get("knife")
    load_plugin_file(path)
    load_plugin_file(path.parent / ".." / "elsewhere" / "my_knife.py")
    assert things.get("knife") is knife
    assert things.names() == ["fork", "knife", "spoon"]


def test_a_changed_plugin_is_loaded_again(workshop: Workshop, things: Registry[Any]) -> None:
    """As where its author edits it beside an open notebook."""
    path = workshop.write("my_knife.py", KNIFE)
    load_plugin_file(path)
    before = things.get("knife")
    workshop.write("my_knife.py", KNIFE.replace("...", "sharp = True"))
    load_plugin_file(path)
    assert things.get("knife").sharp
    assert plugin_digest([before]) != plugin_digest([things.get("knife")])


@pytest.mark.parametrize("packaged", [False, True])
def test_what_a_plugin_imports_is_imported_again_where_it_has_changed(
    workshop: Workshop, things: Registry[Any], packaged: bool
) -> None:
    """Alone or together with the plug-in, also where a neighbour of a neighbour did, and for the second that has it."""
    if packaged:
        workshop.write("kitchen/__init__.py", "")
    imported = "from . import {}" if packaged else "import {}"
    idea = f"{imported.format('between')}\n{KNIFE.replace('...', 'edge = between.grind.EDGE')}"
    fork = idea.replace("knife", "spork").replace("Knife", "Spork")
    workshop.write("kitchen/between.py", imported.format("grind"))
    seen: list[tuple[int, int, str]] = []
    for edge, more in ((1, ""), (3, ""), (5, "# edited")):  # of one size, and within one second
        workshop.write("kitchen/grind.py", f"EDGE = {edge}\n")
        for path in (workshop.write("kitchen/knife.py", idea + more), workshop.write("kitchen/spork.py", fork)):
            load_plugin_file(path)
        knife, spork = things.get("knife"), things.get("spork")
        seen.append((knife.edge, spork.edge, plugin_digest([knife])))
    assert [each[:2] for each in seen] == [(1, 1), (3, 3), (5, 5)]
    assert len({digest for *_, digest in seen}) == 3
    load_plugin_file(workshop.path / "kitchen/knife.py")
    assert things.get("knife") is knife


def test_a_plugin_that_would_get_the_neighbour_of_another_is_refused(workshop: Workshop, things: Registry[Any]) -> None:
    """It would be trained with other code than its digest says; nothing of it is registered."""
    idea = f"from {{}} import EDGE\n{KNIFE.replace('...', 'edge = EDGE')}"
    for helper, name in (("common_helper", "from-common"), ("folder.helper", "from-folder")):
        file = f"{helper.replace('.', '/')}.py"
        for place, edge in (("pa", 1), ("pb", 3)):
            workshop.write(f"{place}/{file}", f"EDGE = {edge}\n")
            workshop.write(f"{place}/{place}_{name}.py", idea.format(helper).replace('"knife"', f'"{name}"'))
        load_plugin_file(workshop.path / f"pa/pa_{name}.py")
        with refused(f"pb/{file}, but would get {workshop.path}/pa/{file} by that name; rename one"):
            load_plugin_file(workshop.path / f"pb/pb_{name}.py")
    assert things.names() == ["fork", "from-common", "from-folder", "spoon"]


def test_what_a_program_imports_is_a_plugin_too(workshop: Workshop, things: Registry[Any]) -> None:
    """Other processes load the same files: a script, what it imports, and modules of a package."""
    workshop.write("tools/__init__.py", "")
    workshop.write("tools/edge.py", "sharp = True\n")
    packed = workshop.write("tools/saw.py", KNIFE.replace("knife", "saw") + "\nfrom .edge import sharp\n")
    plain = workshop.write("plain.py", KNIFE)
    importlib.import_module("plain")
    load_plugin_file(packed)
    assert set(loaded_plugin_files()) >= {packed, plain}
    assert sys.modules["tools.saw"].sharp
    load_plugin_file(plain)
    assert things.names() == ["fork", "knife", "saw", "spoon"]


def test_a_class_that_stands_in_no_file_is_refused_and_may_be_defined_again(
    things: Registry[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a notebook's cell that runs twice."""
    monkeypatch.setitem(sys.modules, "session", ModuleType("session"))
    for _ in range(2):
        things.register("knife")(type("Knife", (), {"__module__": "session"}))
    with pytest.raises(RequestError, match=r"Knife stands in no file, .*in a notebook: %%writefile"):
        plugin_digest([things.get("knife")])


def test_a_plugin_that_trains_as_it_is_imported_is_refused(workshop: Workshop) -> None:
    path = workshop.write(
        "eager.py", "from foresee.experiments.runner import run_all\nfrom tiny import tiny\nrun_all([tiny()], 'runs')\n"
    )
    with pytest.raises(RequestError, match="trains as it is imported; put that under `if __name__"):
        load_plugin_file(path)


def test_a_plugin_that_takes_a_built_in_name_is_the_one_to_rename(workshop: Workshop, things: Registry[Any]) -> None:
    """Also where it is loaded before anything was looked up, and again after it was mended."""
    path = workshop.write("bad_spoon.py", KNIFE.replace("knife", "spoon"))
    taken = "thing name 'spoon' is taken by things.spoon.Spoon; "
    with refused(f"{taken}foresee_plugin_bad_spoon.Knife needs another name"):
        load_plugin_file(path)
    workshop.write("bad_spoon.py", KNIFE.replace("knife", "butter-knife"))
    load_plugin_file(path)
    assert "butter-knife" in things.names()


def test_a_file_that_is_no_plugin_is_refused(workshop: Workshop) -> None:
    broken = workshop.write("broken.py", "x = 1\ny = (\n")
    outer = workshop.write("outer.py", "import inner_of_plugin\n")
    inner = workshop.write("inner_of_plugin.py", "x = = 1")
    first, second = workshop.write("one/idea.py", ""), workshop.write("two/idea.py", "")
    load_plugin_file(first)
    refusals = {
        workshop.path / "none.py": "no such file; give the path of a Python file that registers something",
        workshop.path: "no such file; give the path of a Python file that registers something",
        workshop.write("notes.txt", "x = 1"): "not a Python file; its name must end in .py",
        broken: "line 2: '(' was never closed",
        outer: f"in {inner}: line 1: invalid syntax",
        second: f"a plug-in file of that name is already loaded from {first}; rename one",
    }
    for path, reason in refusals.items():
        for _ in range(2):
            with refused(f"--plugin {path}: {reason}"):
                load_plugin_file(path)
        assert path == second or f"foresee_plugin_{path.stem}" not in sys.modules


def test_an_error_inside_a_plugin_is_shown_as_it_is(workshop: Workshop) -> None:
    """A defect of the user's own code: the traceback is what they need, and a mended file loads."""
    path = workshop.write("faulty.py", "1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        load_plugin_file(path)
    workshop.write("faulty.py", "mended = True\n")
    load_plugin_file(path)
    assert sys.modules["foresee_plugin_faulty"].mended


# What a plug-in's runs depend on.


@pytest.mark.parametrize("packaged", [False, True])
def test_the_digest_of_a_plugin_covers_what_it_imports_of_its_own(workshop: Workshop, packaged: bool) -> None:
    folder, dots = ("mine/", ".") if packaged else ("", "")
    files = {
        "idea": f"import json\nfrom {dots}helper import *\nclass Idea: ...\n",
        "helper": "def late():\n    " + ("from . import deep" if packaged else "import deep") + "\n",
        "deep": "import torch, helper\n",
        "stranger": "",
        "__init__": "",
    }
    for name, text in files.items():
        workshop.write(f"{folder}{name}.py", text)
    module = importlib.import_module("mine.idea" if packaged else "idea")
    digests: list[str] = []
    for name in ("", "idea", "helper", "deep", "stranger"):
        if name:
            workshop.write(f"{folder}{name}.py", files[name] + "# edited\n")
            assert not digests or plugin_digest([module.Idea]) == digests[-1], "what runs is what was registered"
        note_source(module.Idea)
        digests.append(plugin_digest([module.Idea]))
    assert digests[4] == digests[3], "a module that nothing imports counts"
    assert len(set(digests)) == 4
    assert plugin_digest([foresee.tasks.Task]) == ""


# Entry points.


def test_installed_packages_register_by_entry_point(workshop: Workshop, things: Registry[Any]) -> None:
    workshop.write("cutlery.py", KNIFE)
    workshop.distribution("cutlery", "[foresee.plugins]\nanything = cutlery\n\n[other.group]\nspare = absent\n")
    assert things.names() == ["fork", "knife", "spoon"]
    assert things.get("knife").__module__ == "cutlery"


def test_an_entry_point_without_its_module_names_its_package_and_other_errors_are_shown_as_they_are(
    workshop: Workshop, things: Registry[Any]
) -> None:
    workshop.distribution("cutlery", "[foresee.plugins]\nanything = cutlery_gone\n")
    message = "plug-in 'anything' of cutlery names module 'cutlery_gone', which does not exist; "
    with pytest.raises(ForeseeError, match=message) as refused:
        things.names()
    assert refused.value.status == 1
    workshop.write("cutlery_gone.py", "import whetstone_that_nobody_has\n")
    with pytest.raises(ModuleNotFoundError, match="whetstone_that_nobody_has"):
        Registry("thing", "things").names()


# A wrapper of every entry


class Thing:
    """Anything that is registered."""


class Box(Thing):
    """A thing around a thing."""

    def __init__(self, inner: Thing, *, depth: int = 0) -> None:
        self.inner, self.depth = inner, depth


def test_there_is_one_wrapper_and_its_options_are_no_entry_s_own() -> None:
    things: Registry[Thing] = Registry("thing", "foresee.tasks")

    @things.register("well")
    @dataclass(kw_only=True)
    class Well(Thing):
        depth: int = 3

    assert resolve(things, "well").text == "well:depth=3"
    things.wrap(Box)
    assert things.wrapper is Box
    with pytest.raises(RequestError, match=r"every thing is wrapped by .*Box; .*Thing cannot be"):
        things.wrap(Thing)
    with pytest.raises(RequestError, match="'well' has an option 'depth', which every thing has"):
        resolve(things, "well")
