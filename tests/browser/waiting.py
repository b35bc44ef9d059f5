"""Waits for what a browser does in its own time: it draws, measures and tells of an opened fold between two frames."""

from __future__ import annotations

import json

from playwright.sync_api import Page, expect


def frames(page: Page) -> None:
    """Two frames: by the second the first has been drawn, with what scrolling and changes of size led to."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def open_folds(page: Page) -> None:
    """Opens every list that is filled when it is opened, and waits for all its entries."""
    for fold in page.locator("details.fold").all():
        fold.locator("summary").click()
        expect(fold.locator("li")).to_have_count(len(json.loads(fold.get_attribute("data-links"))))
