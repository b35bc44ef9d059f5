"""Names for the changed copies of nested graphs: the old name if all callers agree, else a new one for each."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch.fx import GraphModule

from passes.plan import CallEdit, Plan
from passes.regions.calls import RegionCall, bind_region

_SUFFIX = "_pruned"


@dataclass(frozen=True)
class Variants:
    """Where the changed copies of the graphs that one module calls are put.

    Attributes:
        names: attribute path and key of the plan to the path at which the copy stands.
        identifiers: identifier of `invoke_subgraph` and change of the edit to the new identifier.
    """

    names: Mapping[tuple[str, Hashable], str]
    identifiers: Mapping[tuple[str, Hashable], str]

    def of(self, edit: CallEdit) -> Iterator[tuple[str, Plan, GraphModule, str]]:
        """For each graph that `edit` changes: old path, plan, the graph, new path."""
        for body, plan in zip(edit.call.bodies, edit.bodies, strict=True):
            if plan:
                yield body.path, plan, body.module, self.names[body.path, plan.key()]

    def identifier(self, edit: CallEdit) -> str | None:
        """The identifier of an edited `invoke_subgraph`, or None for any other call."""
        found = _identifier(edit.call)
        return None if found is None else self.identifiers[found, edit.change()]


def variants_of(plan: Plan, module: GraphModule) -> Variants:
    """Names every changed copy of the graphs that `module`, for which `plan` was made, calls; in the order of calls."""
    if not plan.calls:
        return Variants({}, {})
    pairs = [pair for edit in plan.calls for pair in zip(edit.call.bodies, edit.bodies, strict=True)]
    unchanged = list(_unchanged_calls(plan, module))
    kept_paths = [body.path for call in unchanged for body in call.bodies]
    kept_paths += [body.path for body, change in pairs if not change]
    known = [(found, edit.change()) for edit in plan.calls if (found := _identifier(edit.call)) is not None]
    kept_identifiers = [found for call in unchanged if (found := _identifier(call)) is not None]
    return Variants(
        _named([(body.path, change.key()) for body, change in pairs if change], kept_paths, _names(module)),
        _named(known, kept_identifiers, set()),
    )


def _unchanged_calls(plan: Plan, module: GraphModule) -> Iterator[RegionCall]:
    changed = {*plan.erased, *(edit.call.node for edit in plan.calls)}
    calls = (bind_region(node, module) for node in module.graph.nodes if node not in changed)
    return (call for call in calls if call is not None)


def _names(module: GraphModule) -> set[str]:
    return {name for name, _ in module.named_modules()}


def _identifier(call: RegionCall) -> str | None:
    identifier: Any = call.node.args[1] if call.kind == "invoke_subgraph" else None
    return identifier if isinstance(identifier, str) else None


def _named(wanted: list[tuple[str, Hashable]], kept: list[str], taken: set[str]) -> dict[tuple[str, Hashable], str]:
    keys: dict[str, list[Hashable]] = {}
    for name, key in dict.fromkeys(wanted):
        keys.setdefault(name, []).append(key)
    found: dict[tuple[str, Hashable], str] = {}
    for name, variants in keys.items():
        agreed = len(variants) == 1 and name not in kept
        for key in variants:
            found[name, key] = name if agreed else _fresh(name, taken)
            taken.add(found[name, key])
    return found


def _fresh(name: str, taken: set[str]) -> str:
    """`name_pruned`, or the first of `name_pruned_1`, `name_pruned_2`, ... that is free."""
    candidate, number = f"{name}{_SUFFIX}", 0
    while candidate in taken:
        number += 1
        candidate = f"{name}{_SUFFIX}_{number}"
    return candidate
