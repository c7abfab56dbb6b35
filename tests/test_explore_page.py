"""``foresee explore`` in a real browser: what a person does, with the mouse, with keys alone, and on a phone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread

import pytest
from browser import NARROW, WIDE, Browser
from scripted import Follower
from selenium.webdriver.common.keys import Keys
from tiny import tiny

from foresee.explore import Server, Session
from foresee.tasks.path_star import PathStar
from foresee.training.loop import train
from foresee.training.run import Run

pytestmark = pytest.mark.slow

STAR = "path-star:degree=2,length=4,nodes=12,goals=one"


@contextmanager
def page_of(run: Run, browser: Browser) -> Iterator[Session]:
    """The page about a run, open in the browser."""
    session = Session(run)
    with Server(session) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            browser.open(server.url)
            ready(browser)
            yield session
            assert [address for address in browser.requests() if not address.startswith(server.url)] == []
            assert browser.errors() == []
        finally:
            browser.open("about:blank")
            server.shutdown()
            thread.join()


def ready(browser: Browser) -> None:
    """Waits for the page to have done what it was told."""
    browser.wait(lambda: browser.all("#main:not([hidden]):not([aria-busy])"), "the page")


def press(browser: Browser, *keys: str) -> None:
    for key in keys:
        browser.keys(key)
        ready(browser)


def click(browser: Browser, selector: str) -> None:
    browser.one(selector).click()
    ready(browser)


def slots(browser: Browser) -> list[str]:
    """What is written at each place; ``?`` is the next, ``·`` open."""
    script = "return [...document.querySelectorAll('.slot .symbol')].map((each) => each.firstChild.data)"
    return [str(symbol) for symbol in browser.run(script)]


def graph(browser: Browser, session: Session) -> tuple[list[str], list[list[str]], str]:
    """Start and arms of the graph on the page as symbols, and its goal."""
    problem = session.read(str(browser.run("return document.getElementById('line').value")))
    arms = [session.vocab.decode(path) for path in problem["graph"]["paths"]]
    return arms[0][:1], arms, session.vocab.decode([problem["graph"]["goal"]])[0]


def node(session: Session, symbol: str) -> str:
    return f'.node[data-node="{session.vocab.token(symbol)}"]'


@pytest.fixture(scope="module")
def follower(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run whose model walks whatever arm it is put on, by a script."""
    spec = tiny("next-token", STAR, steps=2, eval_every=2, test=8, data="fixed:64")
    run = dataclasses.replace(train(spec, tmp_path_factory.mktemp("runs")))
    task = run.task
    assert isinstance(task, PathStar)
    run.__dict__["objective"] = Follower(task).eval()  # where the trained one would be kept
    return run


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Runs of hardly any training, by what is special about them."""
    root = tmp_path_factory.mktemp("quick")
    asked = {
        "reversed": ("reversed", STAR),
        "teacherless": ("teacherless", STAR),
        "many arms": ("next-token", "path-star:degree=12,length=4,nodes=60,goals=one"),
        "long arms": ("next-token", "path-star:degree=2,length=20,nodes=50,goals=one"),
        "tree": ("next-token", "path-star:degree=2,length=4,nodes=20,goals=one,splits=1"),
        "no graph": ("next-token", "addition:digits=3"),
        "no truth": ("next-token", "sibling-discovery:parents=4,siblings=4"),
    }
    return {
        name: train(tiny(objective, task, steps=2, eval_every=2, test=8, data="fixed:64"), root)
        for name, (objective, task) in asked.items()
    }


def test_a_wrong_first_step_is_followed_to_the_end_of_its_arm(follower: Run, browser: Browser) -> None:
    with page_of(follower, browser) as session:
        first = browser.run("return document.getElementById('line').value")
        click(browser, "#draw")
        assert browser.run("return document.getElementById('line').value") != first
        click(browser, "#shuffle")
        _, arms, goal = graph(browser, session)
        other = next(arm for arm in arms if arm[-1] != goal)
        click(browser, node(session, other[-1]))
        assert graph(browser, session)[2] == other[-1]
        assert "goal is now" in browser.text("#status")

        click(browser, "#step")
        assert slots(browser) == [arms[0][0], "?", "·", "·"]
        assert "the decision" in browser.text("#likely-title")
        shares = [each.text for each in browser.all("#bars button .share")]
        assert len(shares) >= 10
        assert all(each.endswith("%") for each in shares)
        assert len(browser.all("#bars .arm")) == 2

        wrong = next(arm for arm in arms if arm[-1] != other[-1])
        click(browser, node(session, wrong[1]))
        assert slots(browser)[:2] == wrong[:2]
        assert browser.all(".slot.branch.you.wrong")
        click(browser, "#end")
        assert slots(browser) == wrong
        assert "took a wrong arm, then followed it edge by edge to its end" in browser.text("#status")
        assert len(browser.all(".walk:not(.jump)")) == 3

        # A look back, and another symbol there.
        browser.all(".slot")[1].click()
        ready(browser)
        assert "what was likely" in browser.text("#likely-title")
        click(browser, f'#bars [data-token="{session.vocab.token(other[1])}"]')
        assert slots(browser) == [*other[:2], "?", "·"]
        click(browser, "#undo")
        assert slots(browser) == wrong
        click(browser, "#restart")
        assert slots(browser) == ["?", "·", "·", "·"]
        assert not browser.one("#restart").is_enabled()


def test_the_truth_can_be_shown_at_every_step(follower: Run, browser: Browser) -> None:
    with page_of(follower, browser) as session:
        _, arms, goal = graph(browser, session)
        right = next(arm for arm in arms if arm[-1] == goal)
        press(browser, "m", "e")
        assert slots(browser) == right
        assert "With the truth shown" in browser.text("#status")
        assert len(browser.all(".slot.shown")) == 4
        # A symbol of one's own ends it.
        press(browser, "r", "s")
        wrong = next(arm for arm in arms if arm[-1] != goal)
        click(browser, node(session, wrong[1]))
        assert browser.run("return document.querySelector('[name=mode]:checked').value") == "free"
        assert slots(browser)[:2] == wrong[:2]
        press(browser, "m")
        assert slots(browser)[:2] == right[:2]


def test_keys_alone_are_enough(follower: Run, browser: Browser) -> None:
    with page_of(follower, browser) as session:
        _, arms, _ = graph(browser, session)
        browser.run("document.querySelector('.node[tabindex=\"0\"]').focus()")
        browser.keys(Keys.ARROW_RIGHT, Keys.ARROW_UP, Keys.ARROW_LEFT, Keys.ARROW_RIGHT)
        focused = browser.run("return Number(document.activeElement.dataset.node)")
        arm = next(arm for arm in arms if session.vocab.token(arm[1]) == focused)
        press(browser, "s", Keys.ENTER)
        assert slots(browser)[:2] == arm[:2]
        assert browser.run("return Number(document.activeElement.dataset.node)") == focused
        browser.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
        press(browser, Keys.ENTER)
        assert graph(browser, session)[2] == arm[-1]
        press(browser, "s", "2", "1", "u", "u")
        assert slots(browser) == [arms[0][0], "?", "·", "·"]
        # Every control is reached by the tab key, and shows that it is.
        reached = set()
        browser.run("document.activeElement.blur()")
        for _ in range(40):
            browser.keys(Keys.TAB)
            reached.add(str(browser.run("return document.activeElement.id || document.activeElement.dataset.key")))
        ids = "draw shuffle step end undo restart other-symbol line single-keys"
        assert reached >= {"bar 0", *ids.split()}
        click(browser, "#single-keys")
        press(browser, "s")
        assert slots(browser) == [arms[0][0], "?", "·", "·"]


def test_a_typed_prompt_is_used_and_a_bad_one_is_explained(follower: Run, browser: Browser) -> None:
    with page_of(follower, browser) as session:
        before = browser.run("return document.getElementById('line').value")
        field = browser.one("#line")
        for line, says in (
            ("nonsense", "there is no '='"),
            ("<img src=x onerror=alert(1)>", "label '<img src'"),
            ("1,2|2,3/1,3=", ""),
        ):
            field.clear()
            field.send_keys(line)
            click(browser, "#typed button")
            assert browser.text("#line-error")
            assert says in browser.text("#line-error")
        assert len(browser.errors()) == 3  # a call that is refused is logged by the browser itself
        field.clear()
        field.send_keys("0,1|2,3|0,2|1,4|3,5|4,6/0,6=")
        click(browser, "#typed button")
        assert browser.text("#line-error") == ""
        assert graph(browser, session)[1] == [["0", "1", "4", "6"], ["0", "2", "3", "5"]]
        browser.run("document.activeElement.blur()")
        press(browser, "u")
        assert browser.run("return document.getElementById('line').value") == before
        other = browser.one("#other-symbol")
        other.send_keys("no such")
        click(browser, "#other button")
        assert browser.text("#other-error") == "no such is no symbol of this model."
        other.clear()
        other.send_keys("|")
        click(browser, "#other button")
        assert slots(browser)[0] == "|"


@pytest.mark.parametrize("kind", ["reversed", "teacherless", "many arms", "long arms", "tree", "no graph", "no truth"])
def test_every_kind_of_run_fits_every_screen(quick: dict[str, Run], kind: str, browser: Browser) -> None:
    with page_of(quick[kind], browser) as session:
        length = session.draw(0)["length"]
        press(browser, "s")
        if kind == "reversed":
            assert slots(browser)[0] == "·"
            assert slots(browser)[-1] not in "?·"
            assert "from the last to the first" in browser.text("#order")
        if kind == "teacherless":
            assert "·" not in slots(browser)
            assert "All places were decided at once" in browser.text("#likely-key")
            assert not browser.one("#other").is_displayed()
            assert not browser.all("#bars button")
            browser.all("#answer button")[0].click()
            assert browser.text("#likely-title").startswith("Place 1")
            assert not browser.one("#mode").is_displayed()
        press(browser, "e")
        assert len(slots(browser)) == length
        assert "The answer is" in browser.text("#status")
        assert len(browser.all("#graph svg")) == (kind not in ("no graph", "no truth"))
        assert browser.one('[name=mode][value="forced"]').is_enabled() == (kind not in ("teacherless", "no truth"))
        for scheme in ("light", "dark"):
            browser.prefer(scheme)
            for size in (WIDE, NARROW):
                browser.resize(size)
                assert browser.overflow() == 0
        press(browser, *"nhsuremse")
        assert "·" not in slots(browser)


def test_a_page_whose_program_is_gone_says_so(quick: dict[str, Run], browser: Browser) -> None:
    with page_of(quick["tree"], browser):
        browser.run("window.fetch = () => Promise.reject(new TypeError('gone'))")
        press(browser, "s")
        assert "does not answer" in browser.text("#problem-with-page")
