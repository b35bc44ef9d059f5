"""Two graphs side by side: one row for each node that either has, and both halves of a match in one row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tracing.graph.changes import Change, Differences, NodeChange
from tracing.graph.diff import GraphDiff
from tracing.graph.document import GraphDoc, Node

STATUSES = ("unchanged", "removed", "added", "rewired", "changed", "reordered")


@dataclass(frozen=True, slots=True)
class Row:
    """A node of the before graph, the node of the after graph that it matches, or one of them alone."""

    status: str
    before: Node | None
    after: Node | None
    changes: tuple[Change, ...] = ()


@dataclass(frozen=True)
class Pane:
    """A graph beside the one in its place. `title` and `path` are empty for the outermost graphs.

    Of nested ones, `parent` is the title of the pane that names them, at `path` of its before graph if that has them.
    """

    title: str
    parent: str
    path: str
    rows: tuple[Row, ...]
    before: GraphDoc | None
    after: GraphDoc | None
    diff: GraphDiff | None  # None where only one side has the graph


def panes(diff: GraphDiff) -> Iterator[Pane]:
    """The outermost graphs, then each pair of nested graphs, differing or not, then those that one side lacks."""
    yield from _panes(diff, "", "", "")


def pane_numbers(found: Sequence[Pane]) -> dict[str, dict[str, int]]:
    """Per title of a pane, which of the panes shows the nested graph at a path."""
    numbers: dict[str, dict[str, int]] = {}
    for index, pane in enumerate(found):
        if index:
            numbers.setdefault(pane.parent, {}).setdefault(pane.path, index)
    return numbers


def _panes(diff: GraphDiff, title: str, parent: str, path: str) -> Iterator[Pane]:
    rows = tuple(_rows(diff.before, diff.after, diff.matches, diff.differences))
    yield Pane(title, parent, path, rows, diff.before, diff.after, diff)
    for nested in diff.nested:
        paths = dict.fromkeys((nested.before_path, nested.after_path))
        yield from _panes(nested.diff, f"{title}{' -> '.join(paths)} ", title, nested.before_path)
    yield from _one_sided(diff, title)


def _one_sided(diff: GraphDiff, title: str) -> Iterator[Pane]:
    before = {nested.before_path for nested in diff.nested}
    after = {nested.after_path for nested in diff.nested}
    for path, doc in diff.before.subgraphs:
        if path not in before:
            removed = tuple(Row("removed", node, None) for node in doc.nodes)
            yield Pane(f"{title}{path} ", title, path, removed, doc, None, None)
    for path, doc in diff.after.subgraphs:
        if path not in after:
            added = tuple(Row("added", None, node) for node in doc.nodes)
            yield Pane(f"{title}{path} ", title, path, added, None, doc, None)


def _rows(
    before: GraphDoc, after: GraphDoc, matches: Sequence[tuple[str, str]], differences: Differences
) -> Iterator[Row]:
    """In the before graph's order; an added node stands behind the matched node that it follows."""
    partners = dict(matches)
    changes = _changes(differences)
    runs = _added_runs(after, frozenset(partners.values()))
    nodes = {node.name: node for node in after.nodes}
    yield from runs.get(None, ())
    for node in before.nodes:
        partner = partners.get(node.name)
        if partner is None:
            yield Row("removed", node, None)
            continue
        status, found = changes.get(node.name, ("unchanged", ()))
        yield Row(status, node, nodes[partner], found)
        yield from runs.get(partner, ())


def _changes(differences: Differences) -> dict[str, tuple[str, tuple[Change, ...]]]:
    """Per before name the first class that a node is in, and all that changed about it."""
    found: dict[str, tuple[str, tuple[Change, ...]]] = {}
    classes: Mapping[str, tuple[NodeChange, ...]] = {
        "rewired": differences.rewired, "changed": differences.changed, "reordered": differences.reordered,
    }  # fmt: skip
    for status, group in classes.items():
        for change in group:
            first, known = found.get(change.name, (status, ()))
            found[change.name] = first, (*known, *change.changes)
    return found


def _added_runs(after: GraphDoc, matched: frozenset[str]) -> dict[str | None, list[Row]]:
    """The added nodes by the matched node that they follow; None for those that follow none."""
    runs: dict[str | None, list[Row]] = {}
    last: str | None = None
    for node in after.nodes:
        if node.name in matched:
            last = node.name
        else:
            runs.setdefault(last, []).append(Row("added", None, node))
    return runs
