"""The page by keyboard alone, its themes, and the page on a phone."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Show
from tests.browser.pages import changed, live, pruned
from tests.browser.waiting import frames, open_folds


def expect_selected(page: Page, number: str) -> None:
    """The selected row is on screen and has this number."""
    row = page.locator(".row.selected:not([hidden])")
    expect(row).to_have_count(1)
    expect(row.locator(".number").first).to_have_text(number)


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def test_rows_by_keyboard(show: Show) -> None:
    page = show(pruned())
    page.focus("#scroller")
    press(page, "ArrowDown")
    expect_selected(page, "%0")
    press(page, "j", "ArrowDown", "k")
    expect_selected(page, "%1")
    press(page, "n")
    expect_selected(page, "%3")
    press(page, "End")
    expect_selected(page, "%13")
    press(page, "p")
    expect_selected(page, "%10")
    press(page, "o")
    expect_selected(page, "%8")
    press(page, "u")
    expect_selected(page, "%10")
    press(page, "Home", "PageDown", "ArrowUp")
    expect(page.locator("#scroller")).to_have_attribute("aria-activedescendant", "row-12")
    expect(page.locator("#details")).to_be_hidden()


def test_enter_opens_and_escape_closes(show: Show) -> None:
    page = show(pruned())
    page.focus("#scroller")
    press(page, "n", "Enter")
    expect(page.locator("#details h3")).to_have_text("%3 layers_0_k_cache")
    press(page, "Escape")
    expect(page.locator("#details")).to_be_hidden()
    press(page, "/")
    page.keyboard.type("permute")
    expect(page.locator("#count")).to_have_text("4 of 47 rows")
    press(page, "Enter")
    expect_selected(page, "%7")
    press(page, "Escape")
    expect(page.locator("#count")).to_have_text(re.compile(r"^1\d of 47 rows"))
    press(page, "f")
    expect(page.locator("#count")).to_have_text("47 of 47 rows")


def test_help_names_every_key(show: Show) -> None:
    page = show(pruned())
    press(page, "?")
    expect(page.locator("#help")).to_be_visible()
    named = set(page.locator("#help kbd").all_inner_texts())
    assert {"p", "n", "Enter", "o", "u", "b", "/", "f", "Esc", "t", "?", "j", "k"} <= named
    page.click("#close-help")
    expect(page.locator("#help")).to_be_hidden()


def test_back_returns_to_the_node_before(show: Show) -> None:
    page = show(pruned(), place="#0:5")
    page.locator("#details a", has_text="view_default_1").click()
    expect(page.locator("#details h3")).to_have_text("%6 view_default_1")
    page.focus("#scroller")
    press(page, "b")
    expect(page.locator("#details h3")).to_have_text("%5 index_select_default")
    press(page, "b")  # the first place in the page: there is nothing behind it
    page.wait_for_timeout(100)
    expect(page.locator("#details h3")).to_have_text("%5 index_select_default")


def test_back_to_the_start_shows_no_node(show: Show) -> None:
    page = show(pruned())
    page.locator("#row-5").click()
    expect(page.locator("#details")).to_be_visible()
    page.focus("#scroller")
    press(page, "b")
    expect(page.locator("#details")).to_be_hidden()
    expect(page.locator(".row.selected:not([hidden])")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_theme_follows_the_system_and_the_toggle(show: Show, scheme: str) -> None:
    page = show(pruned(), color_scheme=scheme)
    background = "getComputedStyle(document.body).backgroundColor"
    light, dark = "rgb(246, 247, 249)", "rgb(19, 22, 26)"
    assert page.evaluate(background) == (light if scheme == "light" else dark)
    page.click("#theme")
    assert page.evaluate(background) == (dark if scheme == "light" else light)
    press(page, "t")
    assert page.evaluate(background) == (light if scheme == "light" else dark)


CONTRAST = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (part) => (part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
  const luminance = (color) => {
    const [red, green, blue] = parse(color).map((part) => linear(part / 255));
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
  };
  const behind = (node) => {
    const color = getComputedStyle(node).backgroundColor;
    return (parse(color)[3] ?? 1) === 1 ? color : behind(node.parentElement);
  };
  const contrast = (node) => {
    const both = [getComputedStyle(node).color, behind(node)].map(luminance);
    return (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  };
  const hasText = (node) => [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  return [...document.querySelectorAll("main *, header *")]
    .filter((node) => node.checkVisibility() && hasText(node))
    .map((node) => [contrast(node), `${node.className} ${node.textContent.slice(0, 30)}`])
    .sort(([one], [other]) => one - other)[0];
}"""


@pytest.mark.parametrize(("content", "scheme"), [(pruned, "light"), (changed, "dark"), (live, "light"), (live, "dark")])
def test_text_stands_out_from_its_background(show: Show, scheme: str, content: object) -> None:
    """At least 4.5 to 1, the contrast that WCAG 2.2 (1.4.3) asks of text."""
    page = show(content(), color_scheme=scheme, place="#0:5")
    worst, where = page.evaluate(CONTRAST)
    assert worst >= 4.5, where


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_nothing_is_wider_than_the_screen(show: Show, width: int) -> None:
    page = show(changed(), width=width, height=844, place="#0:8")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    open_folds(page)
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_a_phone_shows_one_side_at_a_time(show: Show) -> None:
    page = show(pruned(), width=390, height=844)
    before, after = page.locator("#row-8 .half.before"), page.locator("#row-8 .half.after")
    expect(before).to_be_visible()
    expect(after).to_be_hidden()
    assert before.bounding_box()["width"] > 320
    page.click("#show-after")
    expect(before).to_be_hidden()
    expect(after).to_be_visible()
    page.locator("#row-8").click()
    expect(page.locator("#details")).to_be_visible()
    frames(page)
    panel = page.locator("#details").bounding_box()
    assert panel["x"] == 0 and panel["width"] == 390 and panel["y"] + panel["height"] == 844
    row = page.locator("#row-8").bounding_box()
    assert row["y"] >= 0 and row["y"] + row["height"] <= panel["y"]
