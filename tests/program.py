"""The command line in this process, for tests: exit status and output, and runs that it trains one after the other."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from foresee.cli import main
from foresee.core import plugins
from foresee.experiments.catalogue import all_registries
from foresee.experiments.engine import InProcess


class Program:
    """Runs commands."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys, self._monkeypatch = capsys, monkeypatch

    def __call__(self, *argv: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error."""
        self._monkeypatch.setattr(sys, "argv", ["foresee", *argv])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = self._capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    def json(self, *argv: str) -> Any:
        """The one JSON object on standard output of a command that succeeds."""
        status, out, err = self(*argv, "--json")
        assert status == 0, err
        assert out.endswith("}\n")
        assert out.count("\n") == 1
        return json.loads(out)

    def refusal(self, *argv: str, status: int = 2) -> str:
        """The one sentence of a command that fails, which prints nothing else."""
        ended, out, err = self(*argv)
        assert (ended, out) == (status, "")
        assert err.startswith("foresee: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        return err.removeprefix("foresee: ").rstrip("\n")


@pytest.fixture
def forget_plugins() -> Iterator[None]:
    """Forgets afterwards what plug-in files register."""
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patched:
        for registry in all_registries().values():
            registry.discover()
            patched.setattr(registry, "_classes", dict(registry._classes))
        patched.setattr(plugins, "_sources", dict(plugins._sources))
        yield
    for name in set(sys.modules) - before:
        if name.startswith(plugins.PLUGIN):
            del sys.modules[name]


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """The command line on a wide terminal; the pool of this machine trains in this process."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("foresee.experiments.pool.WorkerPool", InProcess)
    handler = signal.getsignal(signal.SIGTERM)
    yield Program(capsys, monkeypatch)
    signal.signal(signal.SIGTERM, handler)
