"""Pages opened in a real headless Chromium, which may say nothing on its console and ask for nothing but the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Chromium as the system installed it; playwright's own download is not used."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.fail("these tests need Chromium: install the package chromium (apt install chromium)")
    expect.set_options(timeout=30_000)  # ms, what an action may take too: how long a loaded machine needs says nothing
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield started
        started.close()


Show = Callable[..., Page]


@pytest.fixture
def show(browser: Browser, tmp_path: Path) -> Iterator[Show]:
    """Opens HTML as a file: `show(content, width=390, color_scheme="dark", place="#0:3")`.

    `forgive` is part of the console messages that the test expects.
    """
    complaints: list[str] = []
    forgiven: list[str] = []
    pages: list[Page] = []

    def opened(
        content: str,
        *,
        width: int = 1280,
        height: int = 800,
        color_scheme: str = "light",
        place: str = "",
        forgive: str = "",
    ) -> Page:
        file = tmp_path / "diff.html"
        file.write_text(content, encoding="utf-8")
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=color_scheme)
        pages.append(page)
        forgiven.extend(filter(None, [forgive]))
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        page.on("dialog", lambda dialog: complaints.append(f"dialog: {dialog.message}"))
        page.on("request", lambda request: _check(request.url, file, complaints))
        page.goto(f"{file.as_uri()}{place}")
        page.wait_for_selector("html[data-ready]", state="attached")
        return page

    yield opened
    for page in pages:
        page.close()
    assert [line for line in complaints if not any(part in line for part in forgiven)] == []


def _check(url: str, file: Path, complaints: list[str]) -> None:
    if url.partition("#")[0] != file.as_uri():
        complaints.append(f"request: {url}")
