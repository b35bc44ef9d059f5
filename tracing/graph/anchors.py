"""What two graphs have in common by name: their inputs, their parameters, and with them what each node is."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tracing.graph.document import GraphDoc, Node, Type
from tracing.graph.natural import natural
from tracing.graph.text import body_text, called_by_name, text

_Named = tuple[str, Type | None]


@dataclass(frozen=True)
class Anchors:
    """Which inputs (by target) and parameters (by FQN) of the after graph are which of the before graph's.

    positional: inputs are paired by place, so that their names do not count.
    """

    inputs: dict[str, str]
    parameters: dict[str, str]
    positional: bool = False


def anchors(before: GraphDoc, after: GraphDoc, *, bodies: bool = False) -> Anchors:
    """Pair inputs and parameters: by name, and what is left in order where types and their counts agree.

    Bodies of higher-order ops are given operands by position. Where they have inputs of the same types, place pairs
    them; where one lost some, the names that a pass keeps say which.
    """
    mine, theirs = _inputs(before), _inputs(after)
    positional = bodies and [found for _, found in mine] == [found for _, found in theirs]
    names = zip((name for name, _ in theirs), (name for name, _ in mine), strict=False)
    return Anchors(
        inputs=dict(names) if positional else _pair(mine, theirs),
        parameters=_pair(_parameters(before), _parameters(after), in_order=_by_fqn),
        positional=positional,
    )


def _inputs(doc: GraphDoc) -> list[_Named]:
    return [(node.target, node.type) for node in doc.inputs]


def _parameters(doc: GraphDoc) -> list[_Named]:
    return [(parameter.fqn, parameter.type) for parameter in doc.parameters]


def _by_fqn(named: Iterable[_Named]) -> list[_Named]:
    return sorted(named, key=lambda pair: natural(pair[0]))


def _pair(
    before: Sequence[_Named], after: Sequence[_Named], in_order: Callable[[Iterable[_Named]], list[_Named]] = list
) -> dict[str, str]:
    names = {name for name, _ in before}
    pairs = {name: name for name, _ in after if name in names}
    left_before = _by_type(in_order((name, found) for name, found in before if name not in pairs))
    left_after = _by_type(in_order((name, found) for name, found in after if name not in pairs))
    for found, others in left_after.items():
        if len(left_before.get(found, ())) == len(others):
            pairs.update(zip(others, left_before[found], strict=True))
    return pairs


def _by_type(named: Iterable[_Named]) -> dict[Type | None, list[str]]:
    groups: dict[Type | None, list[str]] = {}
    for name, found in named:
        groups.setdefault(found, []).append(name)
    return groups


Label = tuple[str, Hashable]


def labels(doc: GraphDoc, inputs: Mapping[str, str], parameters: Mapping[str, str]) -> Callable[[Node], Label]:
    """What a node of `doc` is, apart from its arguments. The mappings give inputs and parameters their common names."""
    by_name = called_by_name(doc)
    contents: dict[str, Hashable] = {
        path: ("graph", text(graph) if path in by_name else body_text(graph)) for path, graph in doc.subgraphs
    }
    contents.update((path, ("object", path, name)) for path, name in doc.objects)

    def label(node: Node) -> Label:
        match node.op:
            case "placeholder":
                return node.op, inputs.get(node.target, ("own", node.target))
            case "get_attr" if node.target not in contents:
                return node.op, parameters.get(node.target, ("own", node.target))
            case "get_attr" | "call_module":
                return node.op, contents[node.target.removeprefix("module:")]
        return node.op, node.target

    return label


def kind(label: Label) -> Label:
    """A label without what may change: which nested graph, object or parameter of its own a node names."""
    op, named = label
    return (op, named[0]) if isinstance(named, tuple) and op != "placeholder" else label
