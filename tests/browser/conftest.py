"""A real Chromium, the shop's pages and the tracking API they report to."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote

import pytest

from tests.browser.receiver import KEY, Receiver, pages, serving

PATIENCE = 30.0
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
QUICK = {"writeKey": KEY, "flushAfter": 20, "retryAfter": 50, "page": False}


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """The browser; in CI its absence is a failure. While it lives, an event loop runs in this thread: no other may."""
    if not (find_spec("playwright") and CHROMIUM):
        message = "no browser to test in: `make test-browser` installs playwright, and Chromium where it may"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield browser
        browser.close()


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


class Shopper:
    """A browser with storage of its own; what its pages throw or log as an error is in `errors`."""

    def __init__(self, context: Any, site: str, endpoint: str) -> None:
        self.context, self.site, self.endpoint = context, site, endpoint
        self.errors: list[str] = []
        self.warnings: list[str] = []
        context.on("weberror", lambda error: self.errors.append(str(error.error)))
        context.on("console", lambda said: self.warnings.append(said.text))

    def open(self, path: str = "blank.html", query: str = "", **settings: Any) -> Any:
        """A new tab on a page, with the snippet set up to lose no time."""
        tab = self.context.new_page()
        given = quote(json.dumps({**QUICK, "endpoint": self.endpoint, **settings}))
        tab.goto(f"{self.site}/{path}{query}#{given}")
        return tab

    def until(self, what: str, done: Callable[[], Any]) -> None:
        """Wait for it, while the browser's messages are read."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {PATIENCE:.0f} s: {what}; {self.errors} {self.warnings}")
            self.context.pages[0].wait_for_timeout(20)


@pytest.fixture
def shopper(chromium: Any, receiver: Receiver) -> Iterator[Shopper]:
    with serving(pages()) as site, serving(receiver.handler()) as endpoint:
        context = chromium.new_context()
        shopper = Shopper(context, site, endpoint)
        yield shopper
        context.close()
    assert [] == shopper.errors
