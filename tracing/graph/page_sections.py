"""What the page's template writes of a diff beside the graphs themselves, with the rows that it links to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tracing.graph.chains import Chain, Fold
from tracing.graph.diff import GraphDiff, count_nodes
from tracing.graph.document import GraphDoc
from tracing.graph.escape import one_line
from tracing.graph.kept import KeptRow, kept_rows
from tracing.graph.layers import LayerRow, layer_rows
from tracing.graph.page_data import Side
from tracing.graph.reasons import Site
from tracing.graph.repeats import repeats
from tracing.graph.sizes import bytes_text
from tracing.graph.view import ChainRow, ChangeRow, chain_rows, change_rows

Link = list[Any]  # pane, row, text
_CLASSES = (
    ("Rewired operands", "other nodes are read than before", "rewired"),
    ("Changed attributes", "other constants, dtype or shape", "changed"),
    ("Reordered effects", "the order in which memory is read and written changed", "reordered"),
)


@dataclass(frozen=True)
class Tile:
    """A figure of the headline before and after."""

    name: str
    before: str
    after: str
    note: str


@dataclass(frozen=True)
class Section:
    """One pane's differences. Each list of equal things carries links to all of them, as `links`."""

    index: int
    title: str
    diff: GraphDiff
    before: Side
    after: Side
    removed: list[tuple[ChainRow, list[Link]]]
    added: list[tuple[ChainRow, list[Link]]]
    changes: list[tuple[str, str, list[tuple[ChangeRow, list[Link]]]]]
    layers: list[LayerRow]


def section(index: int, title: str, diff: GraphDiff, before: Side, after: Side) -> Section:
    """The differences of the pane numbered `index`, whose nodes are at `before` and `after`."""
    return Section(
        index=index,
        title=title,
        diff=diff,
        before=before,
        after=after,
        removed=list(_chains(index, diff, diff.before, diff.removed_folds, before)),
        added=list(_chains(index, diff, diff.after, diff.added_folds, after)),
        changes=[(title, meaning, list(_changes(index, diff, part, before))) for title, meaning, part in _CLASSES],
        layers=layer_rows(diff),
    )


def _chains(
    index: int, diff: GraphDiff, doc: GraphDoc, folds: Sequence[Fold], side: Side
) -> Iterator[tuple[ChainRow, list[Link]]]:
    for row, folded in zip(chain_rows(diff, doc, folds), folds, strict=True):
        yield row, [_chain_link(index, chain, side) for chain in folded.chains]


def _chain_link(index: int, chain: Chain, side: Side) -> Link:
    layer = next((side.layers[name] for name in chain.nodes if name in side.layers), None)
    what = chain.parameters[0] if chain.parameters else chain.spine[-1]
    return [index, side.rows[chain.spine[0]], _place(layer) + one_line(what)]


def _changes(index: int, diff: GraphDiff, part: str, side: Side) -> Iterator[tuple[ChangeRow, list[Link]]]:
    for row in change_rows(diff, getattr(diff.differences, part)):
        yield (
            row,
            [[index, side.rows[name], _place(side.layers.get(name)) + one_line(name)] for name in row.names],
        )


def repeated_rows(found: Section) -> Iterator[int]:
    """The rows of all but the first of each list of equal things."""
    for names, side in zip(repeats(found.diff), (found.before, found.after), strict=True):
        yield from (side.rows[name] for name in names)


def repeated_sites(rows: Sequence[tuple[KeptRow, list[Link]]], side: Side) -> Iterator[int]:
    """The rows of all but the first of the sites that are kept alike."""
    for row, _ in rows:
        yield from (side.rows[name] for site in row.sites[1:] for name in site.nodes if name in side.rows)


def _place(layer: int | None) -> str:
    return "" if layer is None else f"layer {layer} · "


def kept(sites: Sequence[Site], rows: Mapping[str, int]) -> list[tuple[KeptRow, list[Link]]]:
    """The sites that stayed, with links to those whose nodes the outermost graph has, at `rows`."""
    return [(row, [_site_link(site, rows) for site in row.sites]) for row in kept_rows(sites)]


def _site_link(site: Site, rows: Mapping[str, int]) -> Link:
    return [0, next((rows[name] for name in site.nodes if name in rows), None), one_line(site.title)]


def site_entries(sites: Sequence[Site], rows: Mapping[str, int]) -> list[dict[str, Any]]:
    """The sites as data: a node of a path is its row or, where the outermost graph has no such node, its name."""
    return [
        {
            "title": one_line(site.title),
            "status": one_line(site.status),
            "reason": one_line(site.reason),
            "bytes": site.bytes,
            "path": [rows[name] if name in rows else one_line(name) for name in site.path],
        }
        for site in sites
    ]


def tiles(diff: GraphDiff) -> list[Tile]:
    """Gathers, nodes and bytes a step, as far as known."""
    summary = diff.reasons.summary
    found = []
    if {"gathers_before", "gathers_after"} <= summary.keys():
        found.append(_count("gathers of the prefix", summary["gathers_before"], summary["gathers_after"]))
    found.append(_count("nodes", count_nodes(diff.before), count_nodes(diff.after)))
    if {"bytes_before", "bytes_after"} <= summary.keys():
        before, after = (bytes_text(summary[key]) if summary[key] else "0" for key in ("bytes_before", "bytes_after"))
        found.append(Tile("moved a step by prefix copies", before, after, "" if before != after else "unchanged"))
    return found


def _count(name: str, before: int, after: int) -> Tile:
    return Tile(name, f"{before:,}", f"{after:,}", f"{after - before:+,}" if before != after else "unchanged")
