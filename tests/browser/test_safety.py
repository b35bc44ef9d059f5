"""Text that others wrote stays text, and nested graphs open."""

from __future__ import annotations

import dataclasses

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Show
from tests.browser.waiting import open_folds
from tests.support.graphs import decoder
from tests.test_diff_render import HOSTILE, hostile_diff
from tracing.graph import diff, document, render_html
from tracing.graph.document import GraphDoc, Node, Ref
from tracing.graph.escape import one_line


@pytest.mark.parametrize("name", [name for name in HOSTILE if "<" in name or not name.isprintable()])
def test_hostile_text_is_shown_and_runs_nothing(show: Show, name: str) -> None:
    found = hostile_diff(name)
    page = show(render_html(found, found.before, found.after))
    tags = page.evaluate("new Set([...document.querySelectorAll('*')].map((node) => node.localName)).size")
    page.uncheck("#near")
    for row in (2, 3):
        page.evaluate(f"location.hash = '#0:{row}'")
        expect(page.locator("#details h3")).to_have_text(
            f"%{row} {one_line(name)}{'op' if row == 2 else 'kept'}", use_inner_text=True
        )
    page.fill("#search", one_line(name))
    expect(page.locator("#count")).to_have_text("4 of 5 rows")
    open_folds(page)
    added = page.evaluate(
        "[...document.querySelectorAll('img, iframe, object, link, #details script, main style')].length"
    )
    assert added == 0 and tags < 60


def test_a_script_that_got_in_would_not_run(show: Show) -> None:
    found = hostile_diff("plain")
    page = show(
        render_html(found, found.before, found.after).replace("<main>", "<main><b id='probe'></b>"),
        forgive="script-src",
    )
    blocked = page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "document.title = 'run'";
            document.getElementById("probe").append(script) })"""
    )
    assert blocked == "script-src-elem"
    assert page.title() != "run"


def test_nested_graphs_have_panes_of_their_own(show: Show) -> None:
    inner = document(decoder(1, prior="operand")), document(decoder(1, prior="none"))
    calls = Node("w", "call_module", "module:same", (Ref("x"),)), Node("y", "call_module", "module:region", (Ref("w"),))
    nodes = (Node("x", "placeholder", "x"), *calls, Node("output", "output", "output", (Ref("y"),)))
    before = GraphDoc("M", nodes, subgraphs=(("region", inner[0]), ("same", inner[1])))
    after = dataclasses.replace(before, subgraphs=(("region", inner[1]), ("same", inner[1])))
    found = diff(before, after)
    page = show(render_html(found, before, after))
    expect(page.locator("#pane option")).to_have_text(["outermost graph", "same", "region"])
    page.uncheck("#near") if page.is_checked("#near") else None
    page.locator("#row-2").click()
    page.locator("#details a", has_text="open the nested graph").click()
    expect(page.locator("#pane")).to_have_value("2")
    expect(page.locator("#count-before")).to_have_text("14 nodes")
    expect(page.locator("#count-after")).to_have_text("9 nodes")
    page.locator(".card.del a", has_text="index_select_default").click()
    expect(page.locator("#details h3")).to_have_text("%5 index_select_default")
    page.select_option("#pane", "1")
    expect(page.locator("#count")).to_have_text("9 of 9 rows")
    page.go_back()
    expect(page.locator("#pane")).to_have_value("2")
