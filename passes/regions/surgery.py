"""Changes a call of nested graphs together with its signature: arguments, results, recorded values, names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.fx import Graph, Node

from passes.eager_inputs import eager_inputs_follow
from passes.plan import CallEdit
from passes.regions.calls import RegionCall
from passes.regions.structure import Path, leaves, renumbered, without

Rename = Callable[[Node], Node]
_RECORDED = ("val", "example_value")


def edit_call(edit: CallEdit, rename: Rename) -> None:
    """Takes the dropped operands and results out of the call, renumbers what is taken out of its results."""
    node = rename(edit.call.node)
    with eager_inputs_follow(node):
        node.args, node.kwargs = _fixed_arguments(edit, node) if edit.call.fixed else _arguments(edit, node)
    if edit.call.fixed:
        return
    template = _template(edit.call)
    for taken, path in edit.elements:
        if (key := renumbered(path, template, edit.dropped_paths)[-1]) != path[-1]:
            rename(taken).update_arg(1, key)
    for key in _RECORDED:
        if key in node.meta:
            node.meta[key] = without(node.meta[key], edit.dropped_paths)


def _arguments(edit: CallEdit, node: Node) -> tuple[Any, Any]:
    places = frozenset(place for index in edit.operands if (place := edit.call.operands[index].place) is not None)
    left = without({"args": node.args, "kwargs": dict(node.kwargs)}, places)
    return left["args"], left["kwargs"]


def _fixed_arguments(edit: CallEdit, node: Node) -> tuple[Any, Any]:
    """A call of fixed arity is given, for a lane that goes, one that stays: it costs nothing more."""
    kept = next(operand for index, operand in enumerate(edit.call.operands) if index not in edit.operands)
    arguments = {"args": list(node.args), "kwargs": dict(node.kwargs)}
    value = _at(arguments, kept.place)
    for index in edit.operands:
        place = edit.call.operands[index].place
        assert place is not None
        _at(arguments, place[:-1])[place[-1]] = value
    return tuple(arguments["args"]), arguments["kwargs"]


def _at(value: Any, path: Path | None) -> Any:
    for key in path or ():
        value = value[key]
    return value


def _template(call: RegionCall) -> Any:
    """The structure of a call's value: a list or tuple is renumbered, a dict is not."""
    if not call.bodies:
        return tuple(call.results)
    return call.bodies[call.yielding[0]].module.graph.output_node().args[0]


def drop_results(graph: Graph, dropped: tuple[Path, ...]) -> None:
    """Takes leaves out of the output of a nested graph; an output that is itself the leaf becomes None."""
    output = graph.output_node()
    value = output.args[0]
    output.args = (None if () in dropped else without(value, frozenset(dropped)),)
    assert len(list(leaves(output.args[0]))) + len(dropped) - (() in dropped) == len(list(leaves(value)))


def retarget(edit: CallEdit, names: Mapping[str, str], identifier: str | None, rename: Rename) -> None:
    """Makes a call use the graphs at other attribute paths, and be known under another identifier."""
    node = rename(edit.call.node)
    if identifier is not None:
        node.update_arg(1, identifier)
    if edit.call.kind == "call_module":
        node.target = names.get(str(node.target), node.target)
        return
    for position, argument in enumerate(node.args):
        if isinstance(argument, Node) and argument.op == "get_attr" and (name := names.get(str(argument.target))):
            node.update_arg(position, _read_of(name, argument, node))


def _read_of(name: str, read: Node, user: Node) -> Node:
    """`read` itself, now of another attribute, if nobody else uses it; else a new one before `user`."""
    if len(read.users) == 1:
        read.target = name
        return read
    with user.graph.inserting_before(user):
        made = user.graph.create_node("get_attr", name)
    made.meta = dict(read.meta)
    return made
