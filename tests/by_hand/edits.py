"""Edits of a graph, to be combined."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.fx import GraphModule

from tests.support.regions import erase, node, set_args, set_results

aten = torch.ops.aten
Edit = Callable[[GraphModule], None]


def put(name: str, *args: object) -> Edit:
    """Gives a node of the outermost graph other arguments."""
    return lambda module: set_args(module, name, *args)


def inside(path: str, edit: Edit) -> Edit:
    """An edit of a nested graph."""
    return lambda module: edit(module.get_submodule(path))


def all_of(*edits: Edit) -> Edit:
    """Edits one after the other."""

    def edit(module: GraphModule) -> None:
        for step in edits:
            step(module)

    return edit


def without(*names: str) -> Edit:
    """Erases nodes."""
    return lambda module: erase(module, *names)


def results(*values: str) -> Edit:
    """Gives a graph another output."""
    return lambda module: set_results(module, values)


def aim(name: str, target: str) -> Edit:
    """Makes a call_module or get_attr name another module."""
    return lambda module: setattr(node(module, name), "target", target)


def an_insertion(module: GraphModule) -> None:
    with module.graph.inserting_before(node(module, "output")):
        module.graph.call_function(aten.zero_.default, (node(module, "add"),))


def swap(first: str, second: str) -> Edit:
    """Moves the first node behind the second."""

    def edit(module: GraphModule) -> None:
        node(module, second).append(node(module, first))

    return edit


def changed(before: Callable[[], GraphModule], edit: Edit) -> Callable[[], GraphModule]:
    """A case's graph before, changed."""

    def build() -> GraphModule:
        module = before()
        edit(module)
        return module

    return build


def add_call(target: object, *args: str, name: str) -> Edit:
    """Adds a call before the output of a graph, whose arguments are nodes."""

    def edit(module: GraphModule) -> None:
        operands = tuple(node(module, arg) if isinstance(arg, str) else arg for arg in args)
        with module.graph.inserting_before(node(module, "output")):
            made = module.graph.create_node("call_function", target, operands, name=name)  # type: ignore[arg-type]
        made.meta = dict(operands[0].meta)
        module.recompile()

    return edit
