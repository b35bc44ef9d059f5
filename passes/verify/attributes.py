"""What a graph reads of its module: the same parameters, buffers, constants and modules, or pruned graphs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch.fx import GraphModule, Node
from torch.nn import Module

from passes.ops.schema import operand_nodes
from passes.regions.calls import RegionCall
from passes.verify.correspondence import Correspondence
from passes.verify.regions import RegionPair
from passes.verify.trail import reject

State = Mapping[str, dict[str, Any]]
"""The parameters and the buffers of a module and of all modules in it, by qualified name."""


def check_state(pair: Correspondence, graphs: Collection[str]) -> None:
    """Rejects a parameter or buffer that is lost, new or another object.

    A copy of a nested graph, at one of the paths `graphs`, has the names of the original once more; whether they are
    the original's objects is checked with that graph.
    """
    was, now = _state(pair.before), _state(pair.after)
    for what, old in was.items():
        new = now[what]
        for name in (*old, *new):
            is_copied = name not in old and _is_under(name, graphs)
            if not is_copied and old.get(name) is not new.get(name):
                change = "is new" if name not in old else "is gone" if name not in new else "is another object"
                reject(None, f"the {what} changed: {name} {change}", pair.within)


def _state(module: GraphModule) -> State:
    """As `named_parameters` and `named_buffers` give them, which take a walk each; this takes one for both."""
    parameters: dict[str, Any] = {}
    buffers: dict[str, Any] = {}
    pending: list[tuple[str, Module]] = [("", module)]
    for path, found in pending:
        for table, own in ((parameters, found._parameters), (buffers, found._buffers)):
            for name, value in own.items():
                table[path + name] = value
        pending += [(f"{path}{name}.", child) for name, child in found._modules.items() if child is not None]
    return {"parameters": parameters, "buffers": buffers}


def _is_under(name: str, graphs: Collection[str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:depth]) in graphs for depth in range(1, len(parts)))


def check_attributes(pair: Correspondence, regions: Mapping[Node, RegionPair]) -> set[Node]:
    """Rejects a kept read that reads another object, unless only calls of nested graphs use it, which are judged.

    Returns the nodes, kept or new, that need no further judgement.
    """
    before = {old: region.was for old, region in regions.items()}
    after = {region.now.node: region.now for region in regions.values()}
    judged = {node for node in pair.inserted if _names_graphs_only(node, after)}
    read_before, read_after = _Attributes(pair.before), _Attributes(pair.after)
    for old in [node for op in ("get_attr", "call_module") for node in pair.before.graph.find_nodes(op=op)]:
        new = pair.kept.get(old)
        if new is None or new.op != old.op or old in regions:
            continue
        same = read_before[str(old.target)] is read_after[str(new.target)]
        if not same and not _names_graphs_only(old, before, pair.kept):
            reject(old, f"it reads another object than {old.target} before", pair.within)
        if old.op == "get_attr":
            judged.add(old)
    return judged


def _names_graphs_only(node: Node, calls: Mapping[Node, RegionCall], users: Collection[Node] | None = None) -> bool:
    """Whether `node` reads a graph that only those of `calls` among its users call, and do not pass on."""
    if node.op != "get_attr":
        return False
    judged = [user for user in node.users if users is None or user in users]
    return all(user in calls and node not in _passed_on(calls[user]) for user in judged)


def _passed_on(call: RegionCall) -> list[Node]:
    return list(operand_nodes([*call.controls, *(operand.value for operand in call.operands)]))


class _Attributes(dict[str, Any]):
    """What a module has at each path, None where nothing is; each owner of attributes is looked up once."""

    def __init__(self, module: GraphModule) -> None:
        super().__init__({"": module})

    def __missing__(self, path: str) -> Any:
        names: list[str] = []
        while path not in self:
            path, _, name = path.rpartition(".")
            names.append(name)
        found = self[path]
        for name in reversed(names):
            path = f"{path}.{name}" if path else name
            found = self[path] = getattr(found, name, None)
        return found
