"""The graphs of a diff as the data that the page's scripts show. Plain lists and numbers, so that it stays small."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tracing.graph.alignment import STATUSES, Pane, Row
from tracing.graph.changes import ADDED
from tracing.graph.document import GraphDoc, Node, Type, Value, references
from tracing.graph.escape import cut, one_line
from tracing.graph.interface import side_text
from tracing.graph.node_layers import cache_layers, node_layers
from tracing.graph.node_sites import node_sites
from tracing.graph.reasons import Reasons
from tracing.graph.sizes import nbytes
from tracing.graph.text import printable, type_text, value_text
from tracing.graph.view import short_op


@dataclass(frozen=True)
class Side:
    """Of one graph of a pane, by node name: the row, the number that the row is written with, and the layer."""

    rows: Mapping[str, int]
    numbers: Mapping[str, str]
    layers: Mapping[str, int]


class Table:
    """Texts that many rows share, each written once and named by its number."""

    def __init__(self) -> None:
        self.entries: list[Any] = []
        self._numbers: dict[Hashable, int] = {}

    def number(self, key: Hashable, entry: Callable[[], Any]) -> int:
        """The number of what `key` stands for; `entry` makes it when it is new."""
        if key not in self._numbers:
            self._numbers[key] = len(self.entries)
            self.entries.append(entry())
        return self._numbers[key]


class PageData:
    """Collects the rows of all panes of a page.

    A row is an object: `s` the number of its status; `b` and `a` the node before and after, where there is one, `a` 1
    if it is as before; `l` its layer; `c` its changes as [slot, before, after]; `t` the number of its site; `r` the
    rule by which the pass rewrote it; `p` the number of the pane of the nested graph that it names; `e` 1 if it differs
    as an earlier row does, or belongs to a site that is kept as an earlier one is. A node is [name, operator, type,
    arguments, rows of its operands, source]; the last is left out where there is none.
    """

    def __init__(self, reasons: Reasons) -> None:
        self.reasons = reasons
        self.caches = cache_layers(reasons.sites)
        self.ops, self.types, self.sources = Table(), Table(), Table()
        self.panes: list[dict[str, Any]] = []

    def add(self, pane: Pane, opens: Mapping[str, int]) -> tuple[Side, Side]:
        """Adds `pane`; `opens` says which pane shows the nested graph at a path. Returns where its nodes are."""
        before, after = self.sides(pane)
        sites = {} if pane.title or pane.diff is None else node_sites(pane.diff)
        rows = [self._row(row, before, after, sites, opens) for row in pane.rows]
        self.panes.append({"title": one_line(pane.title.strip()), "rows": rows})
        return before, after

    def mark_repeats(self, pane: int, rows: Iterable[int]) -> None:
        """Marks rows, in any order, that need not be shown for a reader to have seen every difference once."""
        for row in rows:
            self.panes[pane]["rows"][row]["e"] = 1

    def sides(self, pane: Pane) -> tuple[Side, Side]:
        """Where the nodes of both graphs are. Matched nodes share row, number and, as names may differ, layer."""
        before: tuple[dict[str, int], dict[str, str]] = {}, {}
        after: tuple[dict[str, int], dict[str, str]] = {}, {}
        added = 0
        for index, row in enumerate(pane.rows):
            number = f"{ADDED}{added}" if row.before is None else str(len(before[0]))
            added += row.before is None
            for (rows, numbers), node in ((before, row.before), (after, row.after)):
                if node is not None:
                    rows[node.name], numbers[node.name] = index, number
        return Side(*before, self._layers(pane.before)), Side(*after, self._layers(pane.after))

    def _layers(self, doc: GraphDoc | None) -> dict[str, int]:
        return {} if doc is None else node_layers(doc, self.caches)

    def _row(
        self, row: Row, before: Side, after: Side, sites: Mapping[str, int], opens: Mapping[str, int]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"s": STATUSES.index(row.status)}
        if row.before is not None:
            name = row.before.name
            found["b"] = self._node(row.before, before)
            site = sites.get(name)
            layer = before.layers.get(name) if site is None else self.reasons.sites[site].layer
            found |= {"l": layer, "t": site, "r": cut(self.reasons.rules.get(name, "")) or None}
        if row.after is not None:
            node = self._node(row.after, after)
            found["a"] = 1 if node == found.get("b") else node
            if row.before is None:
                found["l"] = after.layers.get(row.after.name)
        if row.changes:
            found["c"] = [[one_line(c.slot), _side(c.before), _side(c.after)] for c in row.changes]
        found["p"] = _opened(row.before or row.after, opens)
        return {key: value for key, value in found.items() if value is not None}

    def _node(self, node: Node, side: Side) -> list[Any]:
        operands = list(dict.fromkeys(side.rows[name] for name in references(node)))
        found = [one_line(node.name), self._op(node), self._type(node.type), _arguments(node, side), operands]
        if node.source is not None:
            source = f"{node.source.at}: {node.source.code}"
            found.append(self.sources.number(source, lambda: cut(source)))
        return found

    def _op(self, node: Node) -> int:
        target = node.target if node.op.startswith("call") else node.op
        return self.ops.number(
            (node.op, target), lambda: [one_line(target), one_line(_WORDS.get(node.op) or short_op(node))]
        )

    def _type(self, found: Type | None) -> int:
        return self.types.number(found, lambda: [cut(type_text(found)), nbytes(found)])


_WORDS = {"placeholder": "input", "get_attr": "parameter"}


def _side(found: Value | str | None) -> str | None:
    text = side_text(found)
    return None if text is None else cut(text)


def _opened(node: Node | None, opens: Mapping[str, int]) -> int | None:
    if node is None or node.op not in ("get_attr", "call_module"):
        return None
    return opens.get(node.target.removeprefix("module:"))


def _arguments(node: Node, side: Side) -> str:
    """`%3, [-1], dtype=torch.float32`; of an input or parameter its name."""
    parts = [value_text(value, lambda name: f"%{side.numbers[name]}") for value in node.args]
    parts += [f"{key}={value_text(value, lambda name: f'%{side.numbers[name]}')}" for key, value in node.kwargs]
    if node.op in ("placeholder", "get_attr"):
        parts.insert(0, printable(node.target))
    return cut(", ".join(parts))
