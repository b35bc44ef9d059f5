"""Twenty thousand nodes: few elements, and work per frame that does not grow with the graph."""

from __future__ import annotations

import time

from playwright.sync_api import expect

from tests.browser.conftest import Show
from tests.test_diff_scale import large_page

MEASURE = """async () => {
  const scroller = document.getElementById("scroller");
  const frames = [];
  const next = () => new Promise((done) => requestAnimationFrame(done));
  let last = await next();
  for (let count = 0; count < 60; count++) {
    scroller.scrollTop += count % 10 === 9 ? 40000 : 700;
    const now = await next();
    frames.push(now - last);
    last = now;
  }
  frames.sort((one, other) => one - other);
  return { median: frames[30], worst: frames[59], rows: document.querySelectorAll(".row").length };
}"""


def test_a_page_of_twenty_thousand_nodes(show: Show) -> None:
    content = large_page()
    start = time.perf_counter()
    page = show(content)
    opened = time.perf_counter() - start
    assert opened < 20  # about 1 s on an idle core
    expect(page.locator("#count")).to_have_text("14 of 20,023 rows")
    page.uncheck("#near")
    expect(page.locator("#count")).to_have_text("20,023 of 20,023 rows")
    found = page.evaluate(MEASURE)
    assert found["rows"] < 120
    assert found["median"] < 200  # 17 ms, the length of a frame, on an idle core
    page.focus("#scroller")
    page.keyboard.press("End")
    expect(page.locator("#row-20022")).to_be_in_viewport()
    page.fill("#search", "permute_default_1819")
    expect(page.locator("#count")).to_have_text("1 of 20,023 rows")
    print(f"\nopened in {opened:.2f} s, frames {found}")
