"""`deadkv explain` as one self-contained HTML file: no scripts, nothing loaded, everything that is data escaped."""

from __future__ import annotations

from functools import lru_cache

from jinja2 import Template

from passes.report import DEAD, KEPT, LIVE, PRUNED, PruneReport, readable_bytes
from tracing.graph.page_templates import page_environment

_MEANING = {
    PRUNED: "removed",
    DEAD: "nothing reads it: prune-prefix-cache removes it",
    KEPT: "proven dead, but a gate of the policy holds it",
    LIVE: "something reads it",
}


def render_explain(report: PruneReport, title: str) -> str:
    """The sites of a report as an HTML page, with the pin path of each live one; `title` says of what graph."""
    counts = {status: sum(site.status == status for site in report.sites) for status in _MEANING}
    return _template().render(report=report, title=title, counts=counts, meaning=_MEANING)


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = page_environment("tracing")
    environment.filters["bytes"] = readable_bytes
    return environment.get_template("explain.html.j2")
