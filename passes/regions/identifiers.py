"""Identifiers of `invoke_subgraph`: torch caches by them, so one must stand for one graph in the whole module tree.

torch/_higher_order_ops/invoke_subgraph.py looks a traced body up by its identifier. make_fx without a tracing context
records a body of its own for each call, all alike and all under one identifier.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from torch.fx import GraphModule

from passes.plan import CallEdit, Plan
from passes.regions.calls import RegionCall, bind_region
from passes.regions.variants import distinct_names

Identifiers = Mapping[tuple[str, Hashable], str]
"""Old identifier and change of a call's graph to the new identifier."""

_UNCHANGED = Plan()


def name_identifiers(plan: Plan, module: GraphModule) -> Identifiers:
    """Names the changed graphs of every `invoke_subgraph`: as before if all calls of one identifier changed alike."""
    if not plan.calls:
        return {}
    calls = list(_calls(plan, module))
    kept = {identifier for identifier, change in calls if change is None}
    wanted = [(identifier, change) for identifier, change in calls if change is not None]
    return distinct_names(wanted, kept.__contains__, {identifier for identifier, _ in calls})


def new_identifier(edit: CallEdit, identifiers: Identifiers) -> str | None:
    """The identifier of an edited `invoke_subgraph`; None for any other call."""
    found = _identifier(edit.call)
    return None if found is None else identifiers[found, edit.change()]


def _calls(plan: Plan, module: GraphModule) -> Iterator[tuple[str, Hashable | None]]:
    """The identifier of every call at any depth, with its change or None, each once for each way that leads to it."""
    edits, erased = {edit.call.node: edit for edit in plan.calls}, set(plan.erased)
    for node in module.graph.nodes:
        call = bind_region(node, module) if node not in erased else None
        if call is None:
            continue
        edit = edits.get(node)
        if (identifier := _identifier(call)) is not None:
            yield identifier, None if edit is None else edit.change()
        for index, body in enumerate(call.bodies):
            yield from _calls(_UNCHANGED if edit is None else edit.bodies[index], body.module)


def _identifier(call: RegionCall) -> str | None:
    identifier: Any = call.node.args[1] if call.kind == "invoke_subgraph" else None
    return identifier if isinstance(identifier, str) else None
