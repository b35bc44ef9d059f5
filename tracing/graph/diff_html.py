"""A diff as one self-contained HTML file: nothing is loaded, everything that is data is escaped."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from jinja2 import Template

from tracing.graph.alignment import STATUSES, pane_numbers, panes
from tracing.graph.bytes_chart import charts
from tracing.graph.diff import GraphDiff, count_nodes
from tracing.graph.document import GraphDoc
from tracing.graph.kept import path_ends
from tracing.graph.page_data import PageData
from tracing.graph.page_sections import Section, kept, repeated_rows, repeated_sites, section, site_entries, tiles
from tracing.graph.page_templates import page_environment
from tracing.graph.reasons import Reasons
from tracing.graph.relation import warning
from tracing.graph.view import counted, headline, interface_rows

_STYLES = ("page.css", "viewer.css")
_SCRIPTS = (
    "model.js",
    "filter.js",
    "row.js",
    "list.js",
    "details.js",
    "viewer.js",
    "page.js",
)  # one module, so no globals


@dataclass(frozen=True)
class Asset:
    """The text of a style sheet or script, and the hash by which the page's security policy admits it."""

    text: str
    hash: str


def render_html(diff: GraphDiff, before: GraphDoc, after: GraphDoc, buckets: Sequence[tuple[int, Reasons]] = ()) -> str:
    """The diff as an HTML page: a summary, and the graphs side by side with matched nodes in one row.

    `buckets` are the sizes in tokens and the reports of all buckets of the model, for a chart each. The page needs no
    network and no server, its scripts show data as text only, and its bytes depend on nothing but the arguments.
    """
    data = PageData(diff.reasons)
    sections = list(_sections(diff, data))
    rows = sections[0].before.rows
    stayed = kept(diff.reasons.kept(), rows)
    data.mark_repeats(0, repeated_sites(stayed, sections[0].before))
    content = {
        "statuses": STATUSES,
        "sites": site_entries(diff.reasons.sites, rows),
        "ops": data.ops.entries,
        "types": data.types.entries,
        "sources": data.sources.entries,
        "panes": data.panes,
    }
    return _template().render(
        diff=diff,
        warning=warning(diff),
        headline=headline(diff),
        tiles=tiles(diff),
        nodes=(count_nodes(before), count_nodes(after)),
        sections=[part for part in sections if part.index == 0 or not part.diff.same],
        kept=stayed,
        charts=charts(diff.reasons, buckets),
        data=content,
        style=_asset(_STYLES),
        script=_asset(_SCRIPTS),
    )


def _sections(diff: GraphDiff, data: PageData) -> Iterator[Section]:
    found = list(panes(diff))
    opens = pane_numbers(found)
    for index, pane in enumerate(found):
        before, after = data.add(pane, opens.get(pane.title, {}))
        if pane.diff is not None:
            made = section(index, pane.title.strip(), pane.diff, before, after)
            data.mark_repeats(index, repeated_rows(made))
            yield made


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = page_environment("tracing.graph")
    environment.policies["json.dumps_kwargs"] = {
        "separators": (",", ":"),
        "ensure_ascii": True,
        "check_circular": False,
    }
    environment.filters.update(counted=counted, interface=interface_rows, ends=path_ends)
    return environment.get_template("diff.html.j2")


@lru_cache(maxsize=2)
def _asset(names: tuple[str, ...]) -> Asset:
    folder = files("tracing.graph") / "templates"
    text = "\n" + "".join((folder / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return Asset(text, f"'sha256-{digest}'")
