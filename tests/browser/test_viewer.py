"""The graphs side by side: what a reader sees, clicks, searches and types."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Show
from tests.browser.pages import LAYERS, changed, live, pruned
from tests.browser.waiting import frames

REMOVED = 5 * LAYERS


def rows(page: Page) -> list[str]:
    """The rows on screen from top to bottom: `before | after`, each half as its cells."""
    return page.evaluate(
        """() => [...document.querySelectorAll(".row:not([hidden])")]
            .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top)
            .map((row) => [...row.querySelectorAll(":scope > :not([hidden])")].map((half) =>
                [...half.querySelectorAll("span")].map((cell) => cell.textContent).filter(Boolean).join(" ")
                || half.textContent).join(" | "))"""
    )


def row(page: Page, index: int) -> object:
    return page.locator(f"#row-{index}:not([hidden])")


def test_the_headline_and_the_summary(show: Show) -> None:
    page = show(pruned())
    for index, text in enumerate(["4 -> 0", "47 -> 27"]):
        expect(page.locator(".figure").nth(index)).to_have_text(text)
    expect(page.locator("table").first).to_contain_text("aten.index_select.default", use_inner_text=True)
    expect(page.locator(".card.del")).to_contain_text("4 x the same, shown once: layers.{0-3}.k_cache")
    expect(page.locator("svg g")).to_have_count(LAYERS)
    expect(page.locator("svg title").first).to_have_text("layer 0: 1.02 kB a step -> 0")


def test_each_change_is_shown_once_with_what_is_around(show: Show) -> None:
    page = show(pruned())
    expect(page.locator("#near")).to_be_checked()
    assert rows(page) == [
        "%0 input hidden f32[2, 8] | %0 input hidden f32[2, 8]",
        "%1 input block_table i32[2, 4] | %1 input block_table i32[2, 4]",
        "%2 parameter layers.0.w f32[8, 8] | %2 parameter layers.0.w f32[8, 8]",
        "- %3 parameter layers.0.k_cache f32[9, 2, 8] | ",
        "- %4 view %1, [-1] i32[8] | ",
        "- %5 index_select %3, 0, %4 f32[8, 2, 8] | ",
        "- %6 view %5, [2, 8, 8] f32[2, 8, 8] | ",
        "- %7 permute %6, [0, 2, 1] f32[2, 8, 8] | ",
        "%8 mm %0, %2 f32[2, 8] | %8 mm %0, %2 f32[2, 8]",
        "%9 parameter layers.0.k_cache f32[9, 2, 8] | %9 parameter layers.0.k_cache f32[9, 2, 8]",
        "~ %10 attention_block_tkg %8, %7, %9, %1 f32[2, 8] | ~ %10 attention_block_tkg %8, None, %9, %1 f32[2, 8]",
        "%11 mul %10, 0.5 f32[2, 8] | %11 mul %10, 0.5 f32[2, 8]",
        "%12 add %0, %11 f32[2, 8] | %12 add %0, %11 f32[2, 8]",
        "%13 parameter layers.1.w f32[8, 8] | %13 parameter layers.1.w f32[8, 8]",
        "18 nodes that differ as those shown do, 15 nodes unchanged",
    ]
    page.click(".gap button")
    expect(page.locator("#count")).to_have_text("47 of 47 rows")
    page.uncheck("#near")
    expect(page.locator("#count")).to_have_text("47 of 47 rows")
    page.check("#near")
    expect(page.locator("#count")).to_have_text("14 of 47 rows")


def test_the_halves_of_a_row_stay_level_while_scrolling(show: Show) -> None:
    page = show(pruned(), height=500)
    page.uncheck("#near")
    for top in (0, 133, 400, 5000):
        page.evaluate(f"document.getElementById('scroller').scrollTop = {top}")
        frames(page)
        tops = page.evaluate(
            """() => [...document.querySelectorAll(".row:not(.gap):not([hidden])")].map((row) =>
                [...row.querySelectorAll(".half")].map((half) => half.getBoundingClientRect().top))"""
        )
        assert tops and all(before == after for before, after in tops)
        page.wait_for_function(
            """() => { const box = document.getElementById("scroller").getBoundingClientRect();
            const rows = [...document.querySelectorAll(".row:not([hidden])")];
            const shown = rows.map((row) => row.getBoundingClientRect());
            return [box.top, box.bottom - 4].every((y) => shown.some((row) => row.top <= y && y <= row.bottom)) }"""
        )


def test_a_click_tells_what_a_node_is_and_why_it_went(show: Show) -> None:
    page = show(pruned())
    page.locator("#row-5 .op").first.click()
    panel = page.locator("#details")
    expect(panel.locator("h3")).to_have_text("%5 index_select_default")
    for part in ("removed", "aten.index_select.default", "f32[8, 2, 8]", "512 B", "Why it went", "site layer 0 K"):
        expect(panel).to_contain_text(part, use_inner_text=True)
    expect(panel.locator("a")).to_have_text(
        ["%3 layers_0_k_cache parameter", "%4 view_default view", "%6 view_default_1 view"]
    )
    expect(page).to_have_url(re.compile("#0:5$"))
    panel.locator("a", has_text="view_default_1").click()
    expect(panel.locator("h3")).to_have_text("%6 view_default_1")
    expect(page).to_have_url(re.compile("#0:6$"))
    page.go_back()
    expect(panel.locator("h3")).to_have_text("%5 index_select_default")
    page.click("#close-details")
    expect(panel).to_be_hidden()


def test_a_rewired_node_shows_its_argument_before_and_after(show: Show) -> None:
    page = show(pruned(), place="#0:10")
    for part in ("K_prior: permute_default -> None", "Rule", "Operands before", "Operands after"):
        expect(page.locator("#details")).to_contain_text(part, use_inner_text=True)


def test_operands_and_users_are_marked_in_both_graphs(show: Show) -> None:
    page = show(pruned(), place="#0:8")
    expect(page.locator("#row-8")).to_have_class(re.compile(r"\bselected\b"))
    for index, part in ((0, "operand"), (2, "operand"), (10, "user")):
        expect(page.locator(f"#row-{index}")).to_have_class(re.compile(rf"\b{part}\b"))
        edges = page.locator(f"#row-{index} .half").evaluate_all(
            "all => all.map((e) => getComputedStyle(e).borderLeftColor)"
        )
        assert edges[0] == edges[1] != "rgba(0, 0, 0, 0)"


def test_the_pin_path_of_a_live_site(show: Show) -> None:
    page = show(live())
    expect(page.locator(".badge.same")).to_be_visible()
    card = page.locator(".card.pin")
    expect(card).to_contain_text("4 x the same, shown once")
    card.locator("summary").click()
    links = card.locator("li a")
    expect(links).to_have_count(LAYERS)
    links.nth(2).click()
    panel = page.locator("#details")
    expect(panel.locator("h3")).to_have_text("%27 index_select_default_2")
    expect(panel.locator(".path-list a")).to_have_text(
        [
            "%28 view_default_5 view",
            "%29 permute_default_2 permute",
            "%32 attention_block_tkg_default_2 attention_block_tkg",
        ]
    )
    for index in (28, 29, 32):
        expect(page.locator(f"#row-{index}.path .half:not(.none)")).to_have_count(2)


@pytest.mark.parametrize(
    ("typed", "count"),
    [
        ("index_select", 4),
        ("INDEX_SELECT layers", 0),
        ("layers.2", 3),
        ("f32[2, 8, 8] permute", 4),
        ("", 14),
        ("zzz", 0),
    ],
)
def test_search(show: Show, typed: str, count: int) -> None:
    page = show(pruned())
    page.fill("#search", typed)
    expect(page.locator("#count")).to_have_text(f"{count} of 47 rows")
    expect(page.locator("#empty")).to_be_visible(visible=count == 0)


def test_filters_by_status_operator_and_layer(show: Show) -> None:
    page = show(changed())
    expect(page.locator("#statuses button")).to_have_text(
        ["unchanged 11", "removed 10", "added 6", "rewired 2", "changed 2"]
    )
    page.click("#statuses button[value=added]")
    expect(page.locator("#count")).to_have_text(re.compile(r"^6 of "))
    assert all(text.startswith(" | +") for text in rows(page))
    page.select_option("#op", "aten.mul.Tensor")
    expect(page.locator("#count")).to_have_text(re.compile(r"^1 of "))
    page.click("#clear")
    page.select_option("#layer", "1")
    assert rows(page) and all("block_table" not in text for text in rows(page))
    page.click("#clear")
    expect(page.locator("#clear")).to_be_hidden()


def test_a_link_to_a_row_that_a_filter_hides_shows_it(show: Show) -> None:
    page = show(pruned())
    page.fill("#search", "mm")
    page.evaluate("location.hash = '#0:29'")
    expect(page.locator("#details h3")).to_have_text("%29 permute_default_2")
    expect(page.locator("#row-29")).to_be_visible()
    expect(page.locator("#search")).to_have_value("")


def test_all_members_of_a_fold_are_links(show: Show) -> None:
    page = show(pruned())
    fold = page.locator(".card.del details")
    fold.locator("summary").click()
    expect(fold.locator("a")).to_have_text([f"layer {n} · layers.{n}.k_cache" for n in range(LAYERS)])
    fold.locator("a").nth(3).click()
    expect(page.locator("#details h3")).to_have_text("%36 layers_3_k_cache")
