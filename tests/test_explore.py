"""``foresee explore`` without a browser: what the session says of a model, how calls are read, and who is let in."""

from __future__ import annotations

import dataclasses
import http.client
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any, cast

import pytest
import torch
from data_files import write_jsonl
from hypothesis import given
from hypothesis import strategies as some
from refusals import refused
from scripted import Broken
from support import SMALL, VOCAB, build, random_batch, scramble
from tiny import EASY, SOLVING, tiny
from torch import Tensor

from foresee.core.errors import ForeseeError, RequestError
from foresee.explore import Server, Session
from foresee.explore.server import CALLS, answer, page_files
from foresee.explore.steps import Decoding, decide, find_decoding, in_task_order, step_log_probs
from foresee.objectives.base import objectives
from foresee.tasks.path_star import PathStar
from foresee.training.loop import train

TREE = "path-star:degree=2,length=4,nodes=20,goals=one,splits=1"


def session(root: Path, objective: str = "next-token", task: str = EASY, **changes: Any) -> Session:
    """A session on a run of few steps."""
    return Session(train(tiny(objective, task, **{"steps": 2, "eval_every": 2, "test": 8, **changes}), root))


@pytest.fixture(scope="module")
def solved(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A model that solves its task."""
    return session(tmp_path_factory.mktemp("solved"), **SOLVING)


@pytest.fixture(scope="module")
def untrained(tmp_path_factory: pytest.TempPathFactory) -> Session:
    """A model of two steps, on arms of three nodes."""
    return session(tmp_path_factory.mktemp("untrained"), task="path-star:degree=2,length=3,nodes=10,goals=one")


# Steps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(objectives.names()))
def test_stepping_decides_what_decoding_decides(name: str) -> None:
    objective = build(name, next(iter(SMALL))).eval()
    scramble(objective, 0.1)
    length = 4
    for prompt in random_batch(4, answer=length).prompts.tolist():
        how = find_decoding(objective, prompt, length)
        assert (how is Decoding.whole) == (objective.order == "parallel")
        decided: list[int] = []
        while len(decided) < length:
            decided += decide(objective, prompt, decided, length, how)
        with torch.inference_mode():
            whole = objective.generate(torch.tensor([prompt]), length)[0].tolist()
        assert in_task_order(objective, decided) == whole


@pytest.mark.parametrize("name", ["next-token", "reversed"])
def test_a_step_is_scored_after_any_symbols_whatever_fills_the_rest(name: str) -> None:
    objective = build(name, next(iter(SMALL))).eval()
    scramble(objective, 0.1)
    prompt = random_batch(1).prompts[0].tolist()
    scores, *same, other = (
        cast(Tensor, step_log_probs(objective, prompt, begun, 4)) for begun in ([3, 9], [3, 9, 1], [3, 9, 7], [3, 8])
    )
    assert scores.shape == (3, len(VOCAB))
    assert all(torch.equal(again[:3], scores) for again in same)
    assert not torch.allclose(other[2], scores[2])


# Session -----------------------------------------------------------------------------------------------------------


def test_a_solved_run_is_right_and_told_so_and_a_forced_symbol_is_kept_and_judged(solved: Session) -> None:
    told = solved.describe()
    assert (told["verdict"], told["doubts"]) == (solved.run.verdict.label, list(solved.run.verdict.doubts))
    assert (told["order"], told["decoding"]) == ("forward", "scored")
    assert told["exact"] > 0.9
    problem = solved.draw(0)
    assert problem["truth"] == solved.task.solve(problem["prompt"])
    assert (problem["graph"]["goal"], problem["branch"]) == (problem["truth"][-1], 1)
    done = solved.decide(problem["prompt"], [], 99)
    assert (done["begun"], done["complete"], done["right"]) == (problem["truth"], True, True)
    assert done["said"].startswith("right: ")
    for step, token in zip(done["steps"], done["begun"], strict=True):
        assert step["shares"][0][0] == token
        assert sum(share for _, share in step["shares"]) + step["others"] == pytest.approx(1)
        assert [share for _, share in step["shares"]] == sorted((share for _, share in step["shares"]), reverse=True)
    start, goal = problem["truth"]
    wrong = next(end for end in problem["graph"]["goals"] if end != goal)
    done = solved.decide(problem["prompt"], [start, wrong], 0)
    assert not done["right"]
    assert done["said"].startswith("took a wrong arm")
    assert [step["place"] for step in done["steps"]] == [0, 1]
    assert {wrong, goal} <= {token for token, _ in done["steps"][1]["shares"]}


def test_another_goal_and_another_order_of_edges_ask_on_the_same_graph(untrained: Session) -> None:
    """Examples of the test split come by number."""
    lines = [untrained.draw(number)["line"] for number in (0, 1, 2, 300)]
    assert len(set(lines)) == 4
    problem = untrained.draw(2)
    assert problem["line"] == lines[2]
    other = next(end for end in problem["graph"]["goals"] if end != problem["graph"]["goal"])
    asked = untrained.choose_goal(problem["prompt"], other)
    assert asked["truth"][-1] == asked["graph"]["goal"] == other
    assert asked["graph"]["paths"] == problem["graph"]["paths"]
    orders = {untrained.shuffle(problem["prompt"], number)["line"] for number in range(12)}
    assert len(orders) > 6
    for line in orders:
        again = untrained.read(line)
        assert again["truth"] == problem["truth"]
        assert sorted(map(tuple, again["graph"]["paths"])) == sorted(map(tuple, problem["graph"]["paths"]))
    with refused("cannot be the goal"):
        untrained.choose_goal(problem["prompt"], problem["graph"]["start"])
    with refused("4 symbols are decided, but the answer has 3"):
        untrained.decide(problem["prompt"], [0, 0, 0, 0], 0)


def test_reversed_decides_from_the_last_place(tmp_path: Path) -> None:
    it = session(tmp_path, "reversed", "path-star:degree=2,length=3,nodes=10,goals=one")
    problem = it.draw(0)
    assert [step["place"] for step in it.decide(problem["prompt"], [], 1)["steps"]] == [2, 1]
    done = it.decide(problem["prompt"], problem["truth"][::-1], 0)
    assert (done["right"], done["said"].startswith("right: ")) == (True, True)


@pytest.mark.parametrize(("name", "passes"), [("teacherless", 1), ("masked-diffusion", 3), ("insertion", 3)])
def test_an_answer_decided_as_a_whole_comes_with_the_pass_of_each_place(name: str, passes: int, tmp_path: Path) -> None:
    it = session(tmp_path, name, "path-star:degree=2,length=3,nodes=10,goals=one")
    assert it.describe()["decoding"] == "whole"
    problem = it.draw(0)
    assert it.decide(problem["prompt"], [], 0)["steps"] == []
    done = it.decide(problem["prompt"], [], 1)
    assert done["complete"]
    assert [step["place"] for step in done["steps"]] == [0, 1, 2]
    assert {step["pass"] for step in done["steps"]} == set(range(1, passes + 1))
    for step, token, true in zip(done["steps"], done["begun"], problem["truth"], strict=True):
        assert step["shares"][0][0] == token
        assert true in {each for each, _ in step["shares"]}
    with pytest.raises(RequestError, match="as a whole"):
        it.decide(problem["prompt"], problem["truth"][:1], 0)


@pytest.mark.parametrize(
    ("task", "goals"),
    [
        (TREE, 4),
        ("path-star:degree=2,length=4,nodes=12,goals=one,sizes=mixed", 2),
        ("path-star:degree=3,length=4,nodes=20,goals=one,query=first,generalised=path", 9),
        ("path-star-branch:degree=3,length=3,nodes=12,goals=one", 3),
    ],
)
def test_other_path_stars_have_their_graph(tmp_path: Path, task: str, goals: int) -> None:
    it = session(tmp_path, task=task)
    for number in range(4):
        problem = it.draw(number)
        assert len(problem["graph"]["goals"]) == goals
        for goal in problem["graph"]["goals"]:
            asked = it.choose_goal(problem["prompt"], goal)
            assert any(path[: path.index(goal) + 1][-1] == goal for path in asked["graph"]["paths"] if goal in path)
            right = it.decide(asked["prompt"], asked["truth"], 0)
            assert right["complete"]
            assert right["right"]


def test_a_model_that_diverged_is_said_to_have(untrained: Session) -> None:
    assert isinstance(untrained.task, PathStar)
    run = dataclasses.replace(untrained.run)
    run.__dict__["objective"] = Broken(untrained.task).eval()
    with pytest.raises(ForeseeError, match="not numbers"):
        Session(run).describe()


def test_a_task_with_an_end_is_not_told_how_long_its_answer_is(tmp_path: Path) -> None:
    rows = [("ab" * (1 + n % 3) + "cdefgh"[n % 6] * n, "x" * (1 + n % 4)) for n in range(60)]
    task = f"data:path={write_jsonl(tmp_path / 'rows.jsonl', rows)}"
    forward = session(tmp_path / "runs", task=task, data="fixed:60")
    problem = next(each for each in map(forward.draw, range(50)) if len(each["truth"]) < forward.task.answer_length)
    assert (problem["length"], problem["graph"]) == (forward.task.answer_length, None)
    done = forward.decide(problem["prompt"], problem["truth"], 9)
    assert (done["complete"], done["right"], len(done["steps"])) == (True, True, len(problem["truth"]))
    backward = session(tmp_path / "runs", "reversed", task, data="fixed:60")
    assert backward.read(problem["line"])["length"] == len(problem["truth"])
    unknown = forward.read(json.dumps({"prompt": "hgfedc"}))
    assert unknown["truth"] is None
    written = forward.decide(unknown["prompt"], [], 99)
    assert (written["complete"], written["right"]) == (True, None)
    # Where an answer may be anything, none is the truth.
    open_ended = session(tmp_path, task="sibling-discovery:parents=4,siblings=4")
    problem = open_ended.draw(0)
    assert (problem["truth"], problem["branch"]) == (None, None)
    assert open_ended.decide(problem["prompt"], [], 9)["complete"]


# Calls -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "body", "says"),
    [
        ("nothing", b"{}", "there is no call 'nothing'"),
        ("run", b"", "one JSON object"),
        ("run", b"\xff", "one JSON object"),
        ("run", b"[" * 60_000, "one JSON object"),
        ("run", b"[]", "must be a JSON object"),
        ("run", b'{"x": 1}', "run does not take 'x'; it takes nothing"),
        ("draw", b"{}", "draw lacks 'number'"),
        ("draw", b'{"number": -1}', "number must be a whole number from 0"),
        ("draw", b'{"number": 1.0}', "number must be a whole number"),
        ("draw", b'{"number": true}', "number must be a whole number"),
        ("draw", b'{"number": NaN}', "one JSON object"),
        ("draw", b'{"number": 1e999}', "number must be a whole number"),
        ("draw", b'{"number": "1"}', "number must be a whole number"),
        ("read", b'{"line": 3}', "line must be a text"),
        ("read", b'{"line": "1,2\\n"}', "one line of Unicode text"),
        ("read", b'{"line": "\\ud800"}', "one line of Unicode text"),
        ("read", b'{"line": "1,2/1,2="}', ""),
        ("read", b'{"line": "<script>"}', ""),
        ("goal", b'{"prompt": [0], "goal": 0}', ""),
        ("decide", b'{"prompt": [], "begun": [], "ahead": 0}', ""),
        ("decide", b'{"prompt": 5, "begun": [], "ahead": 0}', "prompt must be a list"),
        ("decide", b'{"prompt": [99999], "begun": [], "ahead": 0}', "every token in prompt must be a whole number"),
        ("decide", b'{"prompt": [0, 1, 2], "begun": [], "ahead": 0}', ""),
    ],
)
def test_a_wrong_call_is_one_sentence(untrained: Session, name: str, body: bytes, says: str) -> None:
    with refused(says):
        answer(untrained, name, body)


JSON = some.recursive(
    some.none() | some.booleans() | some.integers(-3, 60) | some.floats(allow_nan=False) | some.text(max_size=8),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=4), inner, max_size=3),
)


@given(data=some.data(), name=some.sampled_from(sorted(CALLS)))
def test_no_call_brings_it_down(untrained: Session, data: some.DataObject, name: str) -> None:
    prompt = untrained.draw(0)["prompt"]
    values = JSON | some.just(prompt) | some.integers(0, 12) | some.lists(some.integers(0, 14), max_size=4)
    given_ = {key: data.draw(values, label=key) for key in CALLS[name][1]}
    with suppress(RequestError):
        json.dumps(answer(untrained, name, json.dumps(given_).encode()), allow_nan=False)


# Server ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(untrained: Session) -> Iterator[Server]:
    """A server on a free port."""
    with Server(untrained) as running:
        thread = Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(
    server: Server, method: str, path: str, body: bytes | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """One request; an underscore in a header's name stands for a hyphen."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_the_page_and_its_files_are_served_with_strict_headers_and_nothing_comes_from_elsewhere(server: Server) -> None:
    assert set(page_files()) >= {"", "index.html", "style.css", "main.js", "icon.svg"}
    foreign = re.compile(r"https?:|//[a-z]+\.|url\((?!#)|@import|innerHTML|insertAdjacent|eval\(|\son\w+=\"")
    for name, content in page_files().items():
        status, headers, body = ask(server, "GET", f"/{server.word}/{name}")
        assert (status, body) == (200, content)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Access-Control-Allow-Origin"] is None
        assert "Python" not in headers["Server"]
        assert not foreign.search(content.decode("utf-8").replace("http://www.w3.org/2000/svg", "")), name


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example:{port}"}, 403),
        ({"Host": "127.0.0.1"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Sec_Fetch_Site": "cross-site"}, 403),
        ({"Sec_Fetch_Site": "same-site"}, 403),
        ({"Host": "localhost:{port}", "Origin": "http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"}, 200),
    ],
)
def test_only_the_page_itself_may_ask(server: Server, method: str, headers: dict[str, str], status: int) -> None:
    filled = {name: value.format(port=server.server_port) for name, value in headers.items()}
    path = f"/{server.word}/" + ("api/run" if method == "POST" else "")
    body = b"{}" if method == "POST" else None
    assert ask(server, method, path, body, Content_Type="application/json", **filled)[0] == status


def test_a_call_is_answered_and_odd_requests_are_refused(server: Server) -> None:
    """It listens on this machine alone, and without the word there is nothing."""
    assert server.server_address[0] == "127.0.0.1"
    assert len(server.word) >= 32
    with refused("cannot be used"):
        Server(server.session, server.server_port)
    call, plain = f"/{server.word}/api", {"Content_Type": "application/json"}
    status, _, body = ask(server, "POST", f"{call}/run", b"{}", **plain)
    assert (status, json.loads(body)["symbols"][:3]) == (200, ["0", "1", "2"])
    status, _, body = ask(server, "POST", f"{call}/draw", b'{"number": "x"}', **plain)
    assert (status, json.loads(body)) == (400, {"error": "number must be a whole number from 0 to 2147483647"})
    for content, headers, status in (
        (b"{}", {"Content_Type": "text/plain"}, 415), (b"{}", plain | {"Content_Length": "x"}, 400),
        (b"", plain | {"Content_Length": str(10**9)}, 400),
    ):  # fmt: skip
        assert ask(server, "POST", f"{call}/run", content, **headers)[0] == status
    assert ask(server, "PUT", f"{call}/run", b"{}")[0] == 501
    assert ask(server, "POST", f"/{server.word}/main.js", b"{}")[0] == 404
    wrong, ours = server.word[:-1] + ("a" if server.word[-1] != "a" else "b"), f"/{server.word}"
    for path in ("/", "/x/", ours, f"/{wrong}/", f"{ours}/nothing", f"{ours}/../pyproject.toml", f"{ours}/%2e%2e/x"):
        assert ask(server, "GET", path)[0] == 404


def test_the_command_prints_its_address_and_stops_when_told(tmp_path: Path) -> None:
    run = train(tiny("next-token", EASY, steps=2, eval_every=2, test=8), tmp_path)
    command = [sys.executable, "-m", "foresee", "explore", str(run.dir), "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        found = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/[\w-]{32}/", url)
        assert found, process.communicate()
        with socket.create_connection(("127.0.0.1", int(found[1])), timeout=20):
            process.terminate()
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
