"""A diff as one self-contained HTML file: no scripts, nothing loaded, everything that is data escaped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from tracing.graph.changes import ADDED
from tracing.graph.diff import GraphDiff, count_nodes
from tracing.graph.diff_text import names_text
from tracing.graph.document import GraphDoc
from tracing.graph.escape import one_line
from tracing.graph.layers import LayerRow, layer_rows
from tracing.graph.sizes import bytes_text
from tracing.graph.text import lines, number
from tracing.graph.view import (
    ChainRow,
    ChangeRow,
    chain_rows,
    change_rows,
    counted,
    headline,
    interface_rows,
)


@dataclass(frozen=True)
class Section:
    """What the template shows of one diff, of the outermost graph or a nested one."""

    title: str
    diff: GraphDiff
    removed: list[ChainRow]
    added: list[ChainRow]
    changes: list[tuple[str, str, list[ChangeRow]]]
    layers: list[LayerRow]


def render_html(diff: GraphDiff, before: GraphDoc, after: GraphDoc) -> str:
    """The diff as an HTML page, ending in the canonical text of both graphs with changed lines marked.

    The after text is numbered like the before text, so that equal lines read the same.
    """
    return _template().render(
        diff=diff,
        headline=headline(diff),
        nodes=(count_nodes(before), count_nodes(after)),
        sections=list(_sections(diff, "")),
        before=_marked(before, number(before), _marks(diff)),
        after=_marked(after, _renumbered(diff, before), dict.fromkeys(diff.differences.added, "add")),
    )


@lru_cache(maxsize=1)
def _template() -> Template:
    environment = Environment(
        loader=PackageLoader("tracing.graph"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda found: one_line(found) if type(found) is str else found,
    )
    environment.filters.update(bytes=bytes_text, counted=counted, names=names_text, interface=interface_rows)
    return environment.get_template("diff.html.j2")


def _sections(diff: GraphDiff, title: str) -> Iterator[Section]:
    found = diff.differences
    yield Section(
        title=title,
        diff=diff,
        removed=chain_rows(diff, diff.before, found.removed),
        added=chain_rows(diff, diff.after, found.added),
        changes=[
            ("Rewired operands", "other nodes are read than before", change_rows(diff, found.rewired)),
            ("Changed attributes", "other constants, dtype or shape", change_rows(diff, found.changed)),
            (
                "Reordered effects",
                "the order in which memory is read and written changed",
                change_rows(diff, found.reordered),
            ),
        ],
        layers=layer_rows(diff),
    )
    for nested in diff.subgraphs:
        yield from _sections(nested.diff, f"{title}{nested.before_path} ")


def _marks(diff: GraphDiff) -> dict[str, str]:
    found = diff.differences
    changed = (*found.rewired, *found.changed, *found.reordered)
    return {**{change.name: "mod" for change in changed}, **dict.fromkeys(found.removed, "del")}


def _renumbered(diff: GraphDiff, before: GraphDoc) -> dict[str, str]:
    """SSA numbers for the after graph: those of the before graph, and +0, +1, ... for added nodes."""
    numbers = number(before)
    added = {name: f"{ADDED}{index}" for index, name in enumerate(diff.differences.added)}
    return {**added, **{after: numbers[one] for one, after in diff.matches}}


def _marked(doc: GraphDoc, numbers: dict[str, str], marks: dict[str, str]) -> list[tuple[str, str]]:
    """The lines of a graph's canonical text with the mark of each."""
    return [(line.text, marks.get(line.node or "", "")) for line in lines(doc, numbers=numbers)]
