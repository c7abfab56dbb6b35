"""A real browser for tests of pages: headless Chromium that can reach nothing but this machine.

``browser`` is a fixture (``conftest.py`` makes it known everywhere). Tests that take it are marked ``slow``. It is
skipped only where no Chromium with its driver is installed (Debian: ``apt-get install chromium chromium-driver``), and
fails a test that leaves an error or a warning in the console.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
PATIENCE = 20.0
"""Seconds that ``Browser.wait`` allows a page; only a page that is broken takes them."""

WIDE, NARROW = (1400, 900), (360, 740)

ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",  # as root, which test machines run as, Chromium starts in no other way
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-prefers-reduced-motion",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
)

Found = TypeVar("Found")


class Browser:
    """What tests ask of a browser; ``driver`` has the rest."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver
        self._console: list[str] = []
        self._asked: list[str] = []

    def open(self, page: str | Path) -> None:
        """Loads an address, or a file."""
        self.driver.get(page.resolve().as_uri() if isinstance(page, Path) else page)

    def resize(self, size: tuple[int, int]) -> None:
        """Gives the page exactly this width and height in CSS pixels; a window could not be as narrow as a phone."""
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        # As on a phone, where they take no room.
        self.driver.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})

    def prefer(self, scheme: Literal["light", "dark"]) -> None:
        """The colours that the page's reader prefers."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def one(self, selector: str) -> WebElement:
        """The one element that a CSS selector finds."""
        found = self.all(selector)
        assert len(found) == 1, f"{selector} finds {len(found)} elements"
        return found[0]

    def all(self, selector: str) -> list[WebElement]:
        """The elements that a CSS selector finds, in the page's order."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """What is readable in the one element that a CSS selector finds."""
        return self.one(selector).text

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function body of JavaScript returns; ``arguments[0]`` and so on are the arguments."""
        return self.driver.execute_script(script, *arguments)

    def keys(self, *pressed: str) -> None:
        """Presses keys, one after the other, wherever the focus is."""
        for key in pressed:
            ActionChains(self.driver).send_keys(key).perform()

    def wait(self, until: Callable[[], Found], what: str) -> Found:
        """The first value of ``until`` that is true; fails with ``what`` where none comes. Elements that the page has
        replaced in the meantime must be looked up inside ``until``."""
        end = time.monotonic() + PATIENCE
        while not (value := until()):
            assert time.monotonic() < end, f"waited {PATIENCE:.0f} s for {what}; console: {self.errors()}"
            time.sleep(0.02)
        return value

    def overflow(self) -> int:
        """CSS pixels by which the page is wider than its window: 0 where nothing scrolls sideways."""
        measured = self.run("const e = document.documentElement; return e.scrollWidth - e.clientWidth")
        return int(measured)

    def errors(self) -> list[str]:
        """Errors and warnings in the console since this was last asked, such as an uncaught exception, a refused
        resource or a violation of the page's content security policy."""
        self._read_logs()
        seen, self._console = self._console, []
        return seen

    def requests(self) -> list[str]:
        """Addresses that pages have asked for since this was last asked, each page's own included."""
        self._read_logs()
        asked, self._asked = self._asked, []
        return asked

    def _read_logs(self) -> None:
        for entry in self._log("browser"):
            if entry["level"] in ("SEVERE", "WARNING"):
                self._console.append(f"{entry['level']}: {entry['message']}")
        for entry in self._log("performance"):
            event = json.loads(entry["message"])["message"]
            if event["method"] == "Network.requestWillBeSent":
                self._asked.append(event["params"]["request"]["url"])

    def _log(self, name: Literal["browser", "performance"]) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.driver.get_log(name)  # type: ignore[no-untyped-call]
        return entries


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One Chromium for all tests, with a profile of its own."""
    program = next((path for path in map(shutil.which, PROGRAMS) if path), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("no Chromium with its driver is installed (apt-get install chromium chromium-driver)")
    options = ChromeOptions()
    options.binary_location = program
    profile = tmp_path_factory.mktemp("chromium")
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}", f"--window-size={WIDE[0]},{WIDE[1]}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = Chrome(options=options, service=Service(executable_path=driver))
    yield chrome
    chrome.quit()


@pytest.fixture
def browser(_chromium: Chrome) -> Iterator[Browser]:
    """An empty page, wide and light; afterwards nothing may be left in the console that the test has not read."""
    found = Browser(_chromium)
    found.open("about:blank")
    found.resize(WIDE)
    found.prefer("light")
    found.errors()
    found.requests()
    yield found
    left = found.errors()
    found.open("about:blank")
    assert not left, f"left in the browser's console: {left}"
