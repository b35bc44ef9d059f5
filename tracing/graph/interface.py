"""What a caller sees of a graph, before and after: inputs, outputs, parameters and which outputs update which input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from tracing.graph.anchors import Anchors
from tracing.graph.changes import Change, InterfaceChange
from tracing.graph.document import GraphDoc, Value
from tracing.graph.text import type_text, updates, value_text


def interface_changes(before: GraphDoc, after: GraphDoc, anchors: Anchors) -> Iterator[InterfaceChange]:
    """Changes to names and order of inputs, and to parameters and aliases."""
    inputs = [node.target for node in before.inputs], [node.target for node in after.inputs]
    if not anchors.positional:
        yield from _names("input", *inputs, anchors.inputs)
        yield from _order(*inputs, anchors.inputs)
    parameters = [p.fqn for p in before.parameters], [p.fqn for p in after.parameters]
    yield from _names("parameter", *parameters, anchors.parameters)
    yield from _parameter_types(before, after, anchors.parameters)
    yield from _aliases(before, after, anchors)


def output_changes(changes: Sequence[Change]) -> Iterator[InterfaceChange]:
    """The changed arguments of the output node as changes of the interface."""
    for change in changes:
        yield InterfaceChange(f"output {change.slot}", side_text(change.before), side_text(change.after))


def side_text(side: Value | str | None) -> str | None:
    """One side of a change as text, nodes by name."""
    return side if side is None or isinstance(side, str) else value_text(side, str)


def _names(
    part: str, before: Sequence[str], after: Sequence[str], pairs: Mapping[str, str]
) -> Iterator[InterfaceChange]:
    kept = set(pairs.values())
    yield from (InterfaceChange(part, name, None) for name in before if name not in kept)
    yield from (InterfaceChange(part, None, name) for name in after if name not in pairs)
    yield from (InterfaceChange(part, pairs[n], n) for n in after if n in pairs and pairs[n] != n)


def _order(before: Sequence[str], after: Sequence[str], pairs: Mapping[str, str]) -> Iterator[InterfaceChange]:
    kept = set(pairs.values())
    mine = [name for name in before if name in kept]
    theirs = [pairs[name] for name in after if name in pairs]
    if mine != theirs:
        yield InterfaceChange("input order", ", ".join(mine), ", ".join(theirs))


def _parameter_types(before: GraphDoc, after: GraphDoc, pairs: Mapping[str, str]) -> Iterator[InterfaceChange]:
    known = {p.fqn: p for p in before.parameters}
    for parameter in after.parameters:
        one = known.get(pairs.get(parameter.fqn, ""))
        if one is not None and one.type != parameter.type:
            found = f"{one.fqn}: {type_text(one.type)}", f"{one.fqn}: {type_text(parameter.type)}"
            yield InterfaceChange("parameter", *found)
        if one is not None and one.tied_to != _known(parameter.tied_to, pairs):
            ties = (f"{one.fqn} tied to {owner or 'nothing'}" for owner in (one.tied_to, parameter.tied_to))
            yield InterfaceChange("parameter", *ties)


def _known(name: str | None, pairs: Mapping[str, str]) -> str | None:
    return None if name is None else pairs.get(name, name)


def _aliases(before: GraphDoc, after: GraphDoc, anchors: Anchors) -> Iterator[InterfaceChange]:
    renames = {**anchors.parameters, **anchors.inputs}
    mine = set(updates(before))
    theirs = {(renames.get(name, name), index) for name, index in updates(after)}
    for name, index in sorted(mine - theirs):
        yield InterfaceChange("alias", f"output {index} updates {name}", None)
    for name, index in sorted(theirs - mine):
        yield InterfaceChange("alias", None, f"output {index} updates {name}")
