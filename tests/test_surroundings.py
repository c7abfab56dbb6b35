"""What a run must not depend on: the program, the terminal, the file system and the operating system around it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from program import Program
from tiny import TASK, arguments, outcome, tiny

from foresee.core import files
from foresee.core.errors import ForeseeError, ForeseeWarning, RequestError
from foresee.core.isolation import fresh_torch_state
from foresee.training.distributed import init_process_group
from foresee.training.loop import continue_run, train
from foresee.training.process import recorded_threads, use_threads
from foresee.training.progress import Progress
from foresee.training.run import Run, load
from foresee.training.settings import Settings


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


WORLDS: dict[str, Any] = {
    "dtype": default_dtype, "autocast": lambda: torch.autocast("cpu", torch.bfloat16), "no grad": torch.no_grad,
    "inference": torch.inference_mode, "device": lambda: torch.device("meta"),
}  # fmt: skip


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tiny(steps=4, precision="float32"), tmp_path_factory.mktemp("plain"))


@pytest.mark.parametrize("world", WORLDS)
def test_the_callers_settings_of_torch_change_nothing_and_stay(world: str, plain: Run, tmp_path: Path) -> None:
    with WORLDS[world]():
        before = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
        found, line = train(plain.spec, tmp_path), "1,2|1,3|2,4|3,5/1,4="
        written = load(found.dir).generate(line)
        after = (torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_autocast_enabled("cpu"))
    assert before == after
    assert outcome(found.dir) == outcome(plain.dir)
    assert written == load(plain.dir).generate(line)


def test_trainings_in_two_threads_are_those_of_one_and_leave_the_callers_settings(tmp_path: Path) -> None:
    specs = [tiny(steps=4, precision="float32", seed=seed) for seed in range(4)]
    with default_dtype():
        with ThreadPoolExecutor(2) as threads:
            beside = [*threads.map(lambda spec: train(spec, tmp_path / "beside"), specs)]
        assert torch.get_default_dtype() == torch.float64
    for run in beside:
        assert outcome(run.dir) == outcome(train(run.spec, tmp_path / "alone").dir)


def test_what_is_the_whole_processs_is_put_back_when_the_last_thread_leaves() -> None:
    """One enters, then another, and the first leaves first."""
    entered, left, seen = threading.Barrier(2), threading.Event(), list[torch.dtype]()

    def enter_second() -> None:
        with fresh_torch_state():
            entered.wait(10)
            assert left.wait(10)
            seen.append(torch.get_default_dtype())

    other = threading.Thread(target=enter_second)
    with default_dtype():
        with fresh_torch_state():
            other.start()
            entered.wait(10)
        left.set()
        other.join()
        assert (seen, torch.get_default_dtype()) == ([torch.float32], torch.float64)


# Files


def test_a_new_folder_is_whole_or_absent_and_that_of_a_quicker_process_stays(tmp_path: Path) -> None:
    with pytest.raises(ForeseeError, match="the disk is full"), files.new_folder(tmp_path / "new"):
        raise OSError(errno.ENOSPC, "full")
    assert list(tmp_path.iterdir()) == []
    with files.new_folder(tmp_path / "new") as late:
        (late / "a").write_text("late")
        with files.new_folder(tmp_path / "new") as early:
            (early / "a").write_text("early")
    assert (tmp_path / "new" / "a").read_text() == "early"
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_pipes_and_devices_are_written_into_a_link_stays_and_the_umask_holds(tmp_path: Path, program: Program) -> None:
    command = ("generate", TASK, "-n", "3", "--out")
    assert program(*command, str(tmp_path / "plain"))[0] == 0
    text = (tmp_path / "plain").read_text()
    # A terminal first: none of its folder can be replaced, whatever goes wrong, as /dev/null could.
    ours, theirs = os.openpty()
    null = Path("/dev/null").stat()
    for device in (os.ttyname(theirs), "/dev/null"):
        assert program(*command, device) == (0, "", "")
        assert Path(device).is_char_device()
    assert os.read(ours, 4096).decode().replace("\r\n", "\n") == text
    assert (Path("/dev/null").stat().st_ino, Path("/dev/null").stat().st_rdev) == (null.st_ino, null.st_rdev)
    os.close(ours)
    os.close(theirs)
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    assert program(*command, str(tmp_path / "pipe"))[0] == 0
    reader.join(30)
    assert read == [text]
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "behind").write_text("old")
    (tmp_path / "behind").chmod(0o640)
    (tmp_path / "link").symlink_to("behind")
    assert program(*command, str(tmp_path / "link"))[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "behind").read_text() == text
    assert (tmp_path / "behind").stat().st_mode & 0o777 == 0o640
    before = os.umask(0o027)
    try:
        files.write_text(tmp_path / "new", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


# Windows, terminals


@pytest.mark.slow
def test_everything_is_imported_without_what_only_posix_has() -> None:
    program = (
        "import sys, pkgutil, importlib\n"
        "sys.modules['fcntl'] = None\n"
        "import foresee\n"
        "names = [m.name for m in pkgutil.walk_packages(foresee.__path__, 'foresee.') if '__main__' not in m.name]\n"
        "found = [importlib.import_module(name) for name in names]\n"
        "print(len(found))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 100


@pytest.mark.parametrize(
    ("encoding", "redirected"), [("ascii", ""), ("cp1252", ""), ("ascii", ">&-"), ("ascii", ">&- 2>&-")]
)
def test_a_narrow_terminal_and_a_closed_one_are_no_tracebacks(encoding: str, redirected: str) -> None:
    command = f"PYTHONIOENCODING={encoding} {sys.executable} -m foresee list tasks {redirected}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_mps_is_a_device_where_torch_has_it_and_only_torchrun_sets_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RequestError, match="where PyTorch has it, cuda or mps"):
        tiny(device="mps")
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert (tiny(device="mps").device, tiny(device="mps").precision) == ("mps", "float32")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "7")
    with pytest.warns(ForeseeWarning, match="RANK=0 and WORLD_SIZE=7 are set, but not by torchrun"):
        assert init_process_group().world_size == 1


# Paths, pairs of files, and going on


def test_a_path_may_hold_an_equals_sign(tmp_path: Path, program: Program) -> None:
    place = tmp_path / "a=b" / "c=d.jsonl"
    place.parent.mkdir()
    place.write_text('{"prompt": "a", "response": "b"}\n' * 3)
    assert program.json("inspect", str(place))["rows"] == 3
    assert program.json("inspect", f"{place},skip_bad=true")["rows"] == 3


@pytest.mark.parametrize(("length", "nodes"), [(3, 10), (2, 50)])
def test_a_file_that_leaves_problems_to_test_on_is_taken(
    length: int, nodes: int, tmp_path: Path, program: Program
) -> None:
    """Of G(2, 3) on 10 labels, 73 % of whose problems the file holds, and G(2, 2) on 50, of which it holds 29 %."""
    task = f"path-star:degree=2,length={length},nodes={nodes}"
    assert program("generate", task, "-n", "20000", "--out", str(tmp_path / "train.txt"))[0] == 0
    spec = tiny(task=task, steps=2, data=f"file:{tmp_path / 'train.txt'}")
    assert train(spec, tmp_path).rows["exact"]["n"] == 200  # type: ignore[call-overload]  # a single row


def test_a_file_that_leaves_hardly_any_problems_is_refused(tmp_path: Path, program: Program) -> None:
    everything = tmp_path / "test.txt"
    assert program("generate", "path-star:degree=2,length=2,nodes=5", "-n", "3000", "--out", str(everything))[0] == 0
    with pytest.raises(RequestError, match="holds nearly every problem"):
        train(tiny(task="path-star:degree=2,length=2,nodes=5", steps=2, data=f"file:{everything}"), tmp_path)


@pytest.mark.filterwarnings("always::foresee.core.errors.ForeseeWarning")
def test_a_pair_of_files_is_trained_and_tested_on(tmp_path: Path, program: Program) -> None:
    train_file, test_file = tmp_path / "train.txt", tmp_path / "test.txt"
    for file, split, n in ((train_file, "train", 300), (test_file, "test", 60)):
        assert program("generate", TASK, "-n", str(n), "--split", split, "--out", str(file))[0] == 0
    shared = train_file.read_text().splitlines()[0]
    test_file.write_text(test_file.read_text() + shared + "\n")
    more = arguments(tmp_path, "--steps=4", f"--data={train_file}", f"--test-data={test_file}", "--json")
    status, out, err = program("train", TASK, *[each for each in more if not each.startswith("--data=fixed")])
    assert status == 0, err
    assert f"foresee: warning: 1 of 60 problems of {test_file} are in the training file too" in err
    assert '"n": 30' in out  # half of them are watched
    with pytest.raises(RequestError, match="goes with data=FILE"):
        tiny(test_data=str(test_file))


def test_a_finished_run_is_trained_further_as_a_new_run(tmp_path: Path) -> None:
    parent = train(tiny(steps=20), tmp_path)
    child = continue_run(parent, 10)
    spec = child.spec
    assert (spec.parent, spec.parent_steps, spec.steps, child.steps) == (parent.spec.digest, 20, 30, 30)
    assert spec.command == f"foresee train {parent.spec.digest} --more-steps 10"
    assert [line["examples"] for line in child.metrics] == [30 * 32]
    assert child.metrics[0]["loss"] < parent.metrics[0]["loss"]
    # One that was killed before its start was written begins again.
    first, begun = outcome(child.dir), child.dir.rename(tmp_path / "first")
    (child.dir / "checkpoint").mkdir(parents=True)
    assert outcome(continue_run(parent, 10).dir) == first == outcome(begun)
    with pytest.raises(RequestError, match="lacks its start"):
        train(spec, tmp_path / "elsewhere")
    with pytest.raises(RequestError, match="at least 1"):
        continue_run(parent, 0)
    shared = spec.replace(processes=2).command
    assert shared == f"torchrun --nproc-per-node 2 -m foresee train {parent.spec.digest} --more-steps 10"


def test_more_steps_keep_the_objective_and_lie_beside_the_run_or_where_they_are_wanted(
    tmp_path: Path, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = train(tiny(steps=4), tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    status, _, err = program("train", str(parent.dir), "--more-steps", "2", "--objective", "next-token")
    assert (status, err) == (2, f"foresee: --more-steps keeps the objective of {parent.dir}; leave out --objective\n")
    for runs, folder in (([], "mine"), (["--runs", "yours"], "yours")):
        made = program.json("train", str(parent.dir), "--more-steps", "2", *runs)
        assert (tmp_path / folder / made["run"]).is_dir()


# A run keeps the number of threads that it began with


QUICK: dict[str, Any] = {"steps": 2, "eval_every": 1, "data": "fixed:300", "test": 40}


class Notes(Progress):
    """Notes the threads at each step, and stops the run when told to."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.seen: list[int] = []
        self.stop_at = stop_at

    def step(self, settings: Settings, step: int) -> None:
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
    with use_threads(recorded_threads(tmp_path)):  # without a record the number stays
        assert torch.get_num_threads() == 1
