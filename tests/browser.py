"""A real browser for the tests."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlparse

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless one; skips where none is installed."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip("no Chromium is installed")
    with sync_playwright() as playwright:
        # As root, as CI often is, Chromium does without its sandbox or not at all.
        browser = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield browser
        browser.close()


@contextmanager
def page_of(browser: Browser, width: int = 1100, height: int = 900) -> Iterator[Page]:
    """A page that must not ask other hosts for anything, nor raise errors."""
    page = browser.new_page(viewport={"width": width, "height": height})
    hosts: set[str | None] = set()
    errors: list[str] = []
    page.on("request", lambda request: hosts.add(urlparse(request.url).hostname))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert hosts <= {None, "", "127.0.0.1"}
    assert errors == []
