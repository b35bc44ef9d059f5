"""A diff for Google's Model Explorer: both graphs in one file of its JSON format, `GraphCollection`.

The format is that of `graph_builder.py` in github.com/google-ai-edge/model-explorer. Matched nodes have one id in both
graphs, so that its two panes move together under "Match node id" and mark what one side lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tracing.graph.alignment import Pane, Row, pane_numbers, panes
from tracing.graph.changes import ADDED
from tracing.graph.diff import GraphDiff
from tracing.graph.document import GraphDoc, Node, references
from tracing.graph.escape import cut, json_text, one_line
from tracing.graph.interface import side_text
from tracing.graph.node_layers import cache_layers, node_layers
from tracing.graph.node_sites import node_sites
from tracing.graph.reasons import KEPT, Site
from tracing.graph.sizes import bytes_text, nbytes
from tracing.graph.text import type_text, value_text
from tracing.graph.view import headline, short_op

Json = dict[str, Any]
_COLORS = {  # fill and border
    "removed": ("#fee4e2", "#b42318"),
    "added": ("#d1fadf", "#067647"),
    "rewired": ("#fef0c7", "#b54708"),
    "changed": ("#d1e9ff", "#175cd3"),
    "reordered": ("#ebe9fe", "#6941c6"),
    "kept site": ("#f5eafd", "#7a2bb8"),
}


def render_model_explorer(diff: GraphDiff) -> str:
    """The JSON of one graph collection: graphs `before` and `after`, and those nested in them, by their paths."""
    found = list(panes(diff))
    opens = pane_numbers(found)
    graphs = []
    for pane in found:
        inner = {path: found[number].title.strip() for path, number in opens.get(pane.title, {}).items()}
        if pane.before is not None:
            graphs.append(_Writer(diff, pane, "before", inner).graph(pane.before))
        if pane.after is not None:
            graphs.append(_Writer(diff, pane, "after", inner).graph(pane.after))
    title = one_line(headline(diff))
    for graph in graphs[:2]:
        graph["groupNodeAttributes"] = {"": {"diff": title}}
    return json_text({"label": f"deadkv diff: {title}", "graphs": graphs}) + "\n"


class _Writer:
    """Writes one of the two graphs of a pane."""

    def __init__(self, diff: GraphDiff, pane: Pane, side: str, inner: Mapping[str, str]) -> None:
        self.side = side
        self.title = pane.title.strip()
        self.inner = inner
        self.rules = {} if pane.title else diff.reasons.rules
        sites = {} if pane.title else node_sites(diff)
        self.sites = {name: diff.reasons.sites[index] for name, index in sites.items()}
        self.caches = cache_layers(diff.reasons.sites)
        rows = ((row, row.before if side == "before" else row.after) for row in pane.rows)
        self.rows = [(row, node) for row, node in rows if node is not None]
        self.ids = {node.name: _id(row) for row, node in self.rows}

    def graph(self, doc: GraphDoc) -> Json:
        layers = node_layers(doc, self.caches)
        return {
            "id": _graph_id(self.side, self.title),
            "nodes": [self._node(row, node, layers.get(node.name)) for row, node in self.rows],
        }

    def _node(self, row: Row, node: Node, layer: int | None) -> Json:
        site = self.sites.get(row.before.name) if row.before else None
        if site is not None:
            layer = site.layer
        status = "kept site" if row.status == "unchanged" and site and site.status in KEPT else row.status
        found: Json = {
            "id": _id(row),
            "label": one_line(short_op(node)),
            "namespace": "" if layer is None else f"layer {layer}",
            "attrs": [{"key": key, "value": value} for key, value in self._attributes(row, node, site)],
            "incomingEdges": [
                {"sourceNodeId": self.ids[name], "sourceNodeOutputId": "0", "targetNodeInputId": str(slot)}
                for slot, name in enumerate(references(node))
            ],
            "outputsMetadata": [
                {"id": "0", "attrs": [{"key": "tensor_shape", "value": one_line(type_text(node.type))}]}
            ],
        }
        if status in _COLORS:
            found["style"] = dict(zip(("backgroundColor", "borderColor"), _COLORS[status], strict=True))
        path = node.target.removeprefix("module:")
        if node.op in ("get_attr", "call_module") and path in self.inner:
            found["subgraphIds"] = [_graph_id(self.side, self.inner[path])]
        return found

    def _attributes(self, row: Row, node: Node, site: Site | None) -> Iterator[tuple[str, Any]]:
        yield "status", row.status
        yield "target", one_line(node.target)
        if node.args or node.kwargs:
            yield "arguments", _arguments(node)
        size = nbytes(node.type)
        if size is not None:
            yield "bytes", bytes_text(size)
        if node.source is not None:
            yield "source", one_line(f"{node.source.at}: {node.source.code}")
        for change in row.changes:
            sides = (side_text(side) or "(absent)" for side in (change.before, change.after))
            yield one_line(f"changed {change.slot}"), " -> ".join(map(cut, sides))
        if row.before is not None and self.rules.get(row.before.name):
            yield "rule", one_line(self.rules[row.before.name])
        if site is not None:
            yield "site", one_line(f"{site.title}: {site.status}")
            yield "reason", one_line(site.reason)
            path = [name for name in site.path if name in self.ids]
            if path and self.side == "before":
                yield "pinned by", {"type": "node_ids", "nodeIds": [self.ids[name] for name in path]}


def _id(row: Row) -> str:
    """One name for both halves of a match: the before graph's."""
    if row.before is not None:
        return one_line(row.before.name)
    return one_line(ADDED + row.after.name) if row.after is not None else ""


def _graph_id(side: str, title: str) -> str:
    return one_line(f"{side}: {title}" if title else side)


def _arguments(node: Node) -> str:
    parts = [value_text(value, str) for value in node.args]
    return cut(", ".join([*parts, *(f"{key}={value_text(value, str)}" for key, value in node.kwargs)]))
