"""The graphs of a diff as the data that the page's scripts show. Plain lists and numbers, so that it stays small."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tracing.graph.alignment import STATUSES, Pane, Row
from tracing.graph.changes import ADDED
from tracing.graph.document import GraphDoc, Node, Type, Value
from tracing.graph.escape import cut, one_line
from tracing.graph.forms import Form
from tracing.graph.interface import side_text
from tracing.graph.node_layers import cache_layers, node_layers
from tracing.graph.node_sites import node_sites
from tracing.graph.reasons import Reasons
from tracing.graph.sizes import nbytes
from tracing.graph.text import arguments_format, format_of, printable, type_text
from tracing.graph.view import short_op


@dataclass(frozen=True)
class Side:
    """One graph of a pane.

    Attributes:
        rows, layers: the row and the layer of each node, by name.
        forms, reads: the form of each node and the positions that it reads, by name.
        row_at, mark_at: the row of each node and how other rows name it (`%3`), by position.
    """

    rows: Mapping[str, int]
    layers: Mapping[str, int]
    forms: Mapping[str, Form]
    reads: Mapping[str, tuple[int, ...]]
    row_at: list[int]
    mark_at: list[str]

    def operands(self, name: str) -> list[int]:
        """The rows of the nodes that a node reads, in argument order."""
        return [self.row_at[position] for position in self.reads[name]]


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
        self.shapes: dict[Form, tuple[int, int, str]] = {}
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
        before: dict[str, tuple[int, str]] = {}
        after: dict[str, tuple[int, str]] = {}
        added = 0
        for index, row in enumerate(pane.rows):
            if row.before is None:
                place = index, f"%{ADDED}{added}"
                added += 1
            else:
                place = before[row.before.name] = index, f"%{len(before)}"
            if row.after is not None:
                after[row.after.name] = place
        return self._side(before, pane.before), self._side(after, pane.after)

    def _side(self, places: Mapping[str, tuple[int, str]], doc: GraphDoc | None) -> Side:
        if doc is None:
            return Side({}, {}, {}, {}, [], [])
        names = [node.name for node in doc.nodes]
        row_at = [places[name][0] for name in names]
        return Side(
            rows=dict(zip(names, row_at, strict=True)),
            layers=node_layers(doc, self.caches),
            forms=dict(zip(names, doc.forms.spread(lambda form: form), strict=True)),
            reads=dict(zip(names, doc.forms.reads, strict=True)),
            row_at=row_at,
            mark_at=[places[name][1] for name in names],
        )

    def _row(
        self, row: Row, before: Side, after: Side, sites: Mapping[str, int], opens: Mapping[str, int]
    ) -> dict[str, Any]:
        found: dict[str, Any] = {"s": _STATUSES[row.status]}
        if row.before is not None:
            name = row.before.name
            site = sites.get(name)
            found["b"] = self._node(row.before, before)
            found["l"] = before.layers.get(name) if site is None else self.reasons.sites[site].layer
            found["t"] = site
            found["r"] = cut(rule) if (rule := self.reasons.rules.get(name)) else None
        if row.after is not None:
            node = found.get("b") if self._as_before(row, before, after) else self._node(row.after, after)
            found["a"] = 1 if node == found.get("b") else node
            if row.before is None:
                found["l"] = after.layers.get(row.after.name)
        if row.changes:
            found["c"] = [[one_line(c.slot), _side(c.before), _side(c.after)] for c in row.changes]
        found["p"] = _opened(row.before or row.after, opens)
        return {key: value for key, value in found.items() if value is not None}

    def _as_before(self, row: Row, before: Side, after: Side) -> bool:
        """Whether a node is written as before: its operands are in the same rows, which go by the same numbers."""
        one, other = row.before, row.after
        if one is None or other is None or one.name != other.name or one.source != other.source:
            return False
        alike = self._shape(before.forms[one.name]) == self._shape(after.forms[other.name])
        return alike and before.operands(one.name) == after.operands(other.name)

    def _node(self, node: Node, side: Side) -> list[Any]:
        op, type_number, arguments = self._shape(side.forms[node.name])
        operands = list(dict.fromkeys(side.operands(node.name)))
        filled = cut(arguments % tuple([side.mark_at[position] for position in side.reads[node.name]]))
        found = [one_line(node.name), op, type_number, filled, operands]
        source = node.source
        if source is not None:
            found.append(self.sources.number(source, lambda: cut(str(source))))
        return found

    def _shape(self, form: Form) -> tuple[int, int, str]:
        """The numbers of operator and type, and the format of the arguments, of the nodes of a form."""
        if form not in self.shapes:
            self.shapes[form] = self._op(form.node), self._type(form.node.type), _arguments(form.node)
        return self.shapes[form]

    def _op(self, node: Node) -> int:
        target = node.target if node.op.startswith("call") else node.op
        return self.ops.number(
            (node.op, target), lambda: [one_line(target), one_line(_WORDS.get(node.op) or short_op(node))]
        )

    def _type(self, found: Type | None) -> int:
        return self.types.number(found, lambda: [cut(type_text(found)), nbytes(found)])


_STATUSES = {status: number for number, status in enumerate(STATUSES)}
_WORDS = {"placeholder": "input", "get_attr": "parameter"}


def _side(found: Value | str | None) -> str | None:
    text = side_text(found)
    return None if text is None else cut(text)


def _opened(node: Node | None, opens: Mapping[str, int]) -> int | None:
    if node is None or node.op not in ("get_attr", "call_module"):
        return None
    return opens.get(node.target.removeprefix("module:"))


def _arguments(node: Node) -> str:
    """The format of `%3, [-1], dtype=torch.float32`; of an input or parameter its name."""
    parts = arguments_format(node)
    if node.op in ("placeholder", "get_attr"):
        parts.insert(0, format_of(printable(node.target)))
    return ", ".join(parts)
