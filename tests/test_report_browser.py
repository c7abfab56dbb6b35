"""The page in a real browser: it opens without a network and without errors, its controls work, it fits and prints."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from browser import NARROW, Browser
from fabricated_runs import add_anatomy, add_position_loss, fabricate_run
from selenium.webdriver.support.ui import Select

from foresee.report import report

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("report")
    runs = []
    for seed in range(2):
        for name, behaviour in (("next-token", "follows"), ("reversed", "solves"), ("teacherless", "babbles")):
            forced = name != "teacherless"
            run = fabricate_run(root / "runs", name, behaviour, seed=seed, forced=forced)  # type: ignore[arg-type]
            order = {"next-token": "forward", "reversed": "backward", "teacherless": "parallel"}[name]
            add_anatomy(run, order, forced=forced)
            add_position_loss(run)
            runs.append(run)
    runs.append(fabricate_run(root / "runs", "a-plug-in:" + "long=1," * 20, finished=False))
    return report(*runs, out=root / "page.html", title="<b>A title</b>")


def seen(browser: Browser, selector: str) -> int:
    return sum(each.is_displayed() for each in browser.all(selector))


def drawn(browser: Browser) -> None:
    """Waits until every chart that can be seen is drawn."""
    browser.wait(lambda: browser.run("return document.documentElement.dataset.drawn"), "the charts")


def lines(browser: Browser) -> int:
    """Lines of the first learning curve."""
    drawn(browser)
    return len(browser.all("#curves figure:first-child .mark-line path"))


def choose(browser: Browser, selector: str, value: str) -> None:
    Select(browser.one(selector)).select_by_value(value)


def test_it_opens_without_a_network_and_without_errors(browser: Browser, page: Path) -> None:
    browser.requests()
    browser.open(page)
    assert browser.text("h1") == "<b>A title</b>"
    assert browser.overflow() == 0
    assert browser.errors() == []
    assert [each for each in browser.requests() if each != page.as_uri()] == []
    assert seen(browser, ".toolbar") == 1
    assert browser.run("return document.querySelector('.star use').getBBox().width") > 150
    drawn(browser)
    assert browser.run("return document.querySelectorAll('#curves .chart svg').length") == 3
    assert browser.errors() == []


def test_objectives_and_seeds_are_filtered(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert lines(browser) == 7
    rows = "#table tbody tr"
    assert seen(browser, rows) == 4
    browser.one("#objectives summary").click()
    box = browser.all("#objectives input")[0]
    box.click()
    assert seen(browser, rows) == 3
    assert browser.text("#objectives .count") == "3 of 4"
    assert lines(browser) == 5
    browser.one("#objectives button[data-all='1']").click()
    assert seen(browser, rows) == 4
    browser.keys("\ue00c")  # Escape
    assert seen(browser, ".choices") == 0
    choose(browser, "#seeds", "1")
    assert lines(browser) == 3
    assert browser.all("#example .anatomy[data-s='1']")[0].is_displayed()


def test_the_anatomy_follows_its_controls(browser: Browser, page: Path) -> None:
    browser.open(page)
    panels = "#example .anatomy"
    assert seen(browser, panels) == 3  # one example, one seed, every objective that kept examples
    choose(browser, "#example [data-control='objective']", "next-token")
    assert seen(browser, panels) == 1
    choose(browser, "#example [data-control='seed']", "")
    assert seen(browser, panels) == 2
    choose(browser, "#example [data-control='example']", "2")
    assert seen(browser, ".example[data-e='2']") == 1
    assert seen(browser, ".example[data-e='0']") == 0
    assert seen(browser, ".mode[data-m='truth']") == 2
    choose(browser, "#example [data-control='mode']", "free")
    assert (seen(browser, ".mode[data-m='truth']"), seen(browser, ".mode[data-m='free']")) == (0, 2)
    drawn(browser)
    assert seen(browser, ".attention svg") == 2
    assert len(browser.all(".attention svg .mark-rect path")) >= 12 * 28


def test_tables_sort_and_sections_fold(browser: Browser, page: Path) -> None:
    browser.open(page)
    names = "return [...document.querySelectorAll('#table tbody tr')].map(e => e.querySelector('.name').textContent)"
    given = browser.run(names)
    heading = next(each for each in browser.all("#table th button") if each.text == "exact")
    heading.click()
    rising = browser.run(names)
    assert [rising[0], rising[2]] == ["teacherless", "reversed"]
    heading.click()
    falling = browser.run(names)
    assert falling[0] == "reversed"
    assert rising[3] == falling[3] == given[3]  # what was not measured stays last
    browser.one("#fold").click()
    assert browser.run("return document.querySelectorAll('section > details[open]').length") == 0
    browser.run("location.hash = '#made-2'")
    browser.wait(lambda: browser.one("#made-2").is_displayed(), "the commands that a link leads to")
    ground = "return getComputedStyle(document.body).backgroundColor"
    light = browser.run(ground)
    choose(browser, "#theme", "dark")
    assert browser.run(ground) != light
    choose(browser, "#theme", "light")
    assert browser.run(ground) == light
    browser.prefer("dark")
    assert browser.run(ground) == light  # the reader's wish goes before the system's


def test_it_fits_a_phone_and_prints(browser: Browser, page: Path) -> None:
    browser.resize(NARROW)
    browser.open(page)
    assert browser.overflow() == 0
    sizes = "[...document.querySelectorAll('main p')].map(e => parseFloat(getComputedStyle(e).fontSize))"
    assert browser.run(f"return Math.min(...{sizes})") >= 12
    printed = browser.driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})
    pdf = base64.b64decode(printed["data"])
    assert pdf.startswith(b"%PDF")
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 40


def test_without_its_script_everything_is_there(browser: Browser, page: Path) -> None:
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        browser.open(page)
        assert browser.driver.page_source.count('class="toolbar" hidden') == 1
        shown = [each.is_displayed() for each in browser.all("#example .anatomy")]
        assert shown == [True] * 18  # three examples of six runs
        assert all(each.is_displayed() for each in browser.all(".mode"))
        assert "charts need JavaScript" in browser.text("noscript")
    finally:
        browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
