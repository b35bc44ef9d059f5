"""From a matching to the differences: removed, added, rewired, changed, reordered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tracing.graph.anchors import Anchors
from tracing.graph.changes import ADDED, Change, NodeChange
from tracing.graph.compare import SlotName, argument_changes, reads_nodes
from tracing.graph.document import Const, GraphDoc, Node, ScalarType, TensorType, Type
from tracing.graph.matching import Matching
from tracing.graph.symbols import rename, symbols_of
from tracing.graph.targets import parse_schema
from tracing.graph.text import type_text


def _attribute_names(doc: GraphDoc, parameters: Mapping[str, str]) -> dict[str, str]:
    """What each parameter and object is called. Nested graphs have no name: they are compared by what they hold."""
    named = {p.fqn: parameters.get(p.fqn, p.fqn) for p in doc.parameters}
    return {**named, **{path: f"{path} [{class_name}]" for path, class_name in doc.objects}}


class Classifier:
    """Compares the matched nodes of two graphs. Symbols of the after graph are renamed to the before graph's."""

    def __init__(self, matching: Matching, anchors: Anchors) -> None:
        self.matching = matching
        self.before = matching.before.doc
        self.after = matching.after.doc
        self.attributes = _attribute_names(self.before, {}), _attribute_names(self.after, anchors.parameters)
        self.schemas = dict(self.before.schemas)
        self.symbols: dict[str, str] = {}
        self.names = {  # the before graph's, of each node of the after graph
            node.name: self.before.nodes[one].name if one >= 0 else ADDED + node.name
            for node, one in zip(self.after.nodes, matching.pairs.backward, strict=True)
        }

    def removed(self) -> tuple[str, ...]:
        """Names of the before nodes that match none."""
        matched = self.matching.pairs.forward
        return tuple(node.name for node, other in zip(self.before.nodes, matched, strict=True) if other < 0)

    def added(self) -> tuple[str, ...]:
        """Names of the after nodes that match none."""
        matched = self.matching.pairs.backward
        return tuple(node.name for node, one in zip(self.after.nodes, matched, strict=True) if one < 0)

    def node_changes(self) -> tuple[tuple[NodeChange, ...], tuple[NodeChange, ...], tuple[NodeChange, ...]]:
        """Matched nodes with rewired operands, with changed attributes, and with another order of effects."""
        found: tuple[list[NodeChange], list[NodeChange], list[NodeChange]] = [], [], []
        for one, other in enumerate(self.matching.pairs.forward):
            if other >= 0:
                for group, changes in zip(found, self._compare(one, other), strict=True):
                    if changes:
                        names = self.before.nodes[one].name, self.after.nodes[other].name
                        group.append(NodeChange(*names, tuple(changes)))
        return tuple(found[0]), tuple(found[1]), tuple(found[2])

    def _compare(self, one: int, other: int) -> tuple[Sequence[Change], Sequence[Change], Sequence[Change]]:
        before, after = self.before.nodes[one], self.after.nodes[other]
        order = list(self._order(one, other))
        if self._same(one, other):
            return (), list(self._target(before, after)), order
        self._bind(before.type, after.type)
        arguments = list(argument_changes(before, after, self.names.__getitem__, self._slot_name(before)))
        rewired = [change for change in arguments if reads_nodes(change)]
        changed = [change for change in arguments if not reads_nodes(change) and not self._same_symbols(change)]
        return rewired, [*self._target(before, after), *self._type_change(before, after), *changed], order

    def _same(self, one: int, other: int) -> bool:
        """Whether two nodes are of one form without symbols and read the same nodes."""
        mine, theirs = self.matching.before, self.matching.after
        if mine.forms[one] != theirs.forms[other] or mine.expressions[one]:
            return False
        forward = self.matching.pairs.forward
        return tuple([forward[operand] for operand in mine.operands[one]]) == theirs.operands[other]

    def _target(self, before: Node, after: Node) -> Iterator[Change]:
        if before.op in ("get_attr", "call_module"):
            one, other = (
                names.get(node.target.removeprefix("module:"))
                for names, node in zip(self.attributes, (before, after), strict=True)
            )
            if one != other:
                yield Change("target", one, other)

    def _type_change(self, before: Node, after: Node) -> Iterator[Change]:
        if before.type != self._type(after.type):
            yield Change("type", type_text(before.type), type_text(after.type))

    def _order(self, one: int, other: int) -> Iterator[Change]:
        """The effect that a node follows, where both graphs have both effects but in another order."""
        if self.matching.before.after[one] == self.matching.after.after[other] == ():
            return
        pairs = self.matching.pairs
        mine = {effect for effect in self.matching.before.after[one] if pairs.forward[effect] >= 0}
        theirs = {pairs.backward[effect] for effect in self.matching.after.after[other]} - {-1}
        for effect in sorted(mine - theirs):
            if pairs.forward[effect] > other:
                yield Change("order", f"after {self.before.nodes[effect].name}", "before it")
        for effect in sorted(theirs - mine):
            if effect > one:
                yield Change("order", f"before {self.before.nodes[effect].name}", "after it")

    def _bind(self, before: Type | None, after: Type | None) -> None:
        """Learn from two types which symbol of the after graph is which of the before graph."""
        match before, after:
            case TensorType(), TensorType():
                for mine, theirs in zip(before.shape, after.shape, strict=False):
                    self._bind_symbol(str(mine), str(theirs))
            case ScalarType(), ScalarType():
                self._bind_symbol(before.text, after.text)
            case tuple(), tuple():
                for one, other in zip(before, after, strict=False):
                    self._bind(one, other)

    def _bind_symbol(self, before: str, after: str) -> None:
        if symbols_of(before) == (before,) and symbols_of(after) == (after,):
            self.symbols.setdefault(after, before)

    def _type(self, found: Type | None) -> Type | None:
        match found:
            case TensorType(dtype, shape, stride):
                strides = None if stride is None else tuple(map(self._dim, stride))
                return TensorType(dtype, tuple(map(self._dim, shape)), strides)
            case ScalarType(kind, text):
                return ScalarType(kind, str(self._dim(text)) if symbols_of(text) else text)
            case tuple():
                return tuple(self._type(item) for item in found)
        return None

    def _dim(self, dim: int | str) -> int | str:
        return rename(dim, self.symbols) if isinstance(dim, str) else dim

    def _same_symbols(self, change: Change) -> bool:
        match change.before, change.after:
            case Const("sym", before), Const("sym", after):
                return before == rename(after, self.symbols)
        return False

    def _slot_name(self, node: Node) -> SlotName:
        """Arguments by the names of a recorded schema, else by position."""
        schema = parse_schema(self.schemas.get(node.target))
        names = [] if schema is None else [argument.name for argument in schema.arguments]
        return lambda index: names[index] if index < len(names) else f"[{index}]"
