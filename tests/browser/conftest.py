"""Pages opened in a real headless Chromium, which may say nothing on its console and ask for nothing but the page."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Dialog, Page, expect, sync_playwright

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


@pytest.fixture(scope="package")
def tab(browser: Browser) -> Page:
    """The one tab of all tests, which each opens a document of its own in: a new tab takes longer than most tests."""
    return browser.new_page()


Show = Callable[..., Page]


@pytest.fixture
def show(tab: Page, tmp_path: Path) -> Iterator[Show]:
    """Opens HTML as a file: `show(content, width=390, color_scheme="dark", place="#0:3")`.

    `forgive` is part of the console messages that the test expects.
    """
    file = tmp_path / "diff.html"
    complaints: list[str] = []
    forgiven: list[str] = []

    def opened(
        content: str,
        *,
        width: int = 1280,
        height: int = 800,
        color_scheme: str = "light",
        place: str = "",
        forgive: str = "",
    ) -> Page:
        file.write_text(content, encoding="utf-8")
        forgiven.extend(filter(None, [forgive]))
        tab.set_viewport_size({"width": width, "height": height})
        tab.emulate_media(color_scheme=color_scheme)
        tab.goto(f"{file.as_uri()}{place}")
        tab.wait_for_selector("html[data-ready]", state="attached")
        return tab

    with _listening(tab, file, complaints):
        yield opened
        tab.mouse.move(0, 0)
        tab.goto("about:blank")
    assert [line for line in complaints if not any(part in line for part in forgiven)] == []


@contextmanager
def _listening(tab: Page, file: Path, complaints: list[str]) -> Iterator[None]:
    """Notes what the document says on the console, throws, asks the reader and asks the network."""

    def dismiss(dialog: Dialog) -> None:
        complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    listeners: dict[str, Callable[..., None]] = {
        "console": lambda message: complaints.append(f"console: {message.text}"),
        "pageerror": lambda error: complaints.append(f"error: {error}"),
        "dialog": dismiss,
        "request": lambda request: _check(request.url, file, complaints),
    }
    for event, listener in listeners.items():
        tab.on(event, listener)
    yield
    for event, listener in listeners.items():
        tab.remove_listener(event, listener)


def _check(url: str, file: Path, complaints: list[str]) -> None:
    if url.partition("#")[0] != file.as_uri():
        complaints.append(f"request: {url}")
