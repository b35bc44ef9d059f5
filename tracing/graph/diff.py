"""The difference between two graphs, computed on their structure and told in the before graph's names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tracing.graph.anchors import Anchors, anchors
from tracing.graph.chains import Fold, fold
from tracing.graph.changes import Differences
from tracing.graph.classify import Classifier
from tracing.graph.diff_json import diff_dict
from tracing.graph.document import GraphDoc
from tracing.graph.interface import interface_changes, output_changes
from tracing.graph.matching import Matching, match
from tracing.graph.reasons import Reasons, reasons
from tracing.graph.text import called_by_name


@dataclass(frozen=True)
class SubgraphDiff:
    """The difference between a nested graph of the before graph and the one used in its place."""

    before_path: str
    after_path: str
    diff: GraphDiff


@dataclass(frozen=True)
class GraphDiff:
    """What `diff` returns.

    Attributes:
        before, after: the documents compared.
        matches: (before name, after name) of the nodes that both have, in the before graph's order.
        differences: the nodes removed, added, rewired, changed and reordered, and the interface changes.
        nested: nested graphs that take each other's place, whether they differ or not.
        reasons: what the pass's report says, if one was given.
    """

    before: GraphDoc
    after: GraphDoc
    matches: tuple[tuple[str, str], ...]
    differences: Differences
    nested: tuple[SubgraphDiff, ...] = ()
    reasons: Reasons = field(default_factory=Reasons)

    @property
    def subgraphs(self) -> tuple[SubgraphDiff, ...]:
        """The nested graphs that differ."""
        return tuple(nested for nested in self.nested if not nested.diff.same)

    @cached_property
    def removed_folds(self) -> tuple[Fold, ...]:
        """The removed nodes as folded chains."""
        return fold(self.before, self.differences.removed)

    @cached_property
    def added_folds(self) -> tuple[Fold, ...]:
        """The added nodes as folded chains."""
        return fold(self.after, self.differences.added)

    @property
    def same(self) -> bool:
        """Whether the graphs are equal up to legal order and names: of nodes, nested graphs and inputs of bodies."""
        return self.differences == Differences() and not self.subgraphs

    def op_counts(self) -> tuple[tuple[str, int, int], ...]:
        """(target, nodes before, nodes after) where they differ, largest change first."""
        before, after = count_ops(self.before), count_ops(self.after)
        changed = [(op, before[op], after[op]) for op in before.keys() | after.keys() if before[op] != after[op]]
        return tuple(sorted(changed, key=lambda count: (-abs(count[1] - count[2]), count[0])))

    def to_dict(self) -> dict[str, Any]:
        """The diff as JSON-able data, documented in docs/diff.md."""
        return diff_dict(self)


def diff(before: GraphDoc, after: GraphDoc, report: Mapping[str, Any] | None = None) -> GraphDiff:
    """Compare two graphs; `report` (the JSON of the pass's report.json) adds reasons and pin paths.

    A report that counts other nodes than `before` has is about other graphs and left out. Time is linear in nodes and
    edges. Raises DeadkvError if `report` is not a report.
    """
    return _diff(before, after, report, bodies=False)


def _diff(before: GraphDoc, after: GraphDoc, report: Mapping[str, Any] | None, *, bodies: bool) -> GraphDiff:
    common = anchors(before, after, bodies=bodies)
    matching = match(before, after, common)
    found = Differences() if matching.equal else _differences(matching, common)
    interface = (*interface_changes(before, after, common), *found.interface)
    return GraphDiff(
        before=before,
        after=after,
        matches=_matches(matching),
        differences=Differences(found.removed, found.added, found.rewired, found.changed, found.reordered, interface),
        nested=tuple(_nested(matching)),
        reasons=_fitting(reasons(report), before),
    )


def _fitting(found: Reasons, before: GraphDoc) -> Reasons:
    fits = found.summary.get("nodes_before") in (None, len(before.nodes), count_nodes(before))
    return found if fits else Reasons()


def _differences(matching: Matching, common: Anchors) -> Differences:
    classifier = Classifier(matching, common)
    rewired, changed, reordered = classifier.node_changes()
    output = matching.before.doc.nodes[-1].name
    outputs = [change for node in (*rewired, *changed) if node.name == output for change in node.changes]
    return Differences(
        removed=classifier.removed(),
        added=classifier.added(),
        rewired=tuple(node for node in rewired if node.name != output),
        changed=tuple(node for node in changed if node.name != output),
        reordered=reordered,
        interface=tuple(output_changes(outputs)),
    )


def _matches(matching: Matching) -> tuple[tuple[str, str], ...]:
    before, after = matching.before.doc.nodes, matching.after.doc.nodes
    return tuple((before[i].name, after[j].name) for i, j in enumerate(matching.pairs.forward) if j >= 0)


def _nested(matching: Matching) -> list[SubgraphDiff]:
    """Differences between nested graphs that matched nodes name, each pair of graphs once."""
    before, after = matching.before.doc, matching.after.doc
    graphs, others = dict(before.subgraphs), dict(after.subgraphs)
    matched = [(before.nodes[i], after.nodes[j]) for i, j in enumerate(matching.pairs.forward) if j >= 0]
    paths = dict.fromkeys(
        (one.target.removeprefix("module:"), other.target.removeprefix("module:"))
        for one, other in matched
        if one.op in ("get_attr", "call_module")
    )
    named = called_by_name(before) | called_by_name(after)
    return [
        SubgraphDiff(path, other, _diff(graphs[path], others[other], None, bodies=path not in named))
        for path, other in paths
        if path in graphs and other in others
    ]


def count_nodes(doc: GraphDoc) -> int:
    """Nodes of a graph and of the graphs nested in it."""
    return len(doc.nodes) + sum(count_nodes(graph) for _, graph in doc.subgraphs)


def count_ops(doc: GraphDoc) -> Counter[str]:
    """Nodes of a graph and of the graphs nested in it by operator, or by `op` where nothing is called."""
    ops: Counter[str] = Counter()
    for number, count in Counter(doc.forms.numbers).items():
        node = doc.forms.distinct[number].node
        ops[node.target if node.op.startswith("call") else node.op] += count
    for _, graph in doc.subgraphs:
        ops.update(count_ops(graph))
    return ops
