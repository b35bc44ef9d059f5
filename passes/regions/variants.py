"""Names for the changed copies of nested graphs: the old name if all callers agree, else a new one for each."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch.fx import GraphModule

from passes.plan import CallEdit, Plan

_SUFFIX = "_pruned"


@dataclass(frozen=True)
class Variants:
    """Where the changed copies of the graphs that one module calls are put.

    Attributes:
        names: attribute path and key of the plan to the path at which the copy stands.
    """

    names: Mapping[tuple[str, Hashable], str]

    def of(self, edit: CallEdit) -> Iterator[tuple[str, Plan, GraphModule, str]]:
        """For each graph that `edit` changes: old path, plan, the graph, new path."""
        for body, plan in zip(edit.call.bodies, edit.bodies, strict=True):
            if plan:
                yield body.path, plan, body.module, self.names[body.path, plan.key()]


def variants_of(plan: Plan, module: GraphModule) -> Variants:
    """Names every changed copy of the graphs that `module`, for which `plan` was made, calls; in the order of calls."""
    if not plan.calls:
        return Variants({})
    pairs = [pair for edit in plan.calls for pair in zip(edit.call.bodies, edit.bodies, strict=True)]
    changed = [(body.path, change.key()) for body, change in pairs if change]
    kept = {body.path for body, change in pairs if not change} | _paths_of_others(plan, module)
    used = {str(node.target) for node in module.graph.nodes if node.op in ("get_attr", "call_module")}
    taken = {name for name, _ in module.named_modules()}
    return Variants(distinct_names(changed, lambda path: path in kept or _is_inside(path, used), taken))


def _paths_of_others(plan: Plan, module: GraphModule) -> set[str]:
    """Attribute paths that something besides the edited and erased calls uses, whether or not it is understood."""
    changed = {*plan.erased, *(edit.call.node for edit in plan.calls)}
    nodes = [node for node in module.graph.nodes if node.op in ("get_attr", "call_module") and node not in changed]
    return {str(n.target) for n in nodes if n.op == "call_module" or any(user not in changed for user in n.users)}


def _is_inside(path: str, used: set[str]) -> bool:
    """Whether `path` leads through a submodule that the graph itself uses: that one must find its own as it was."""
    parts = path.split(".")
    return any(".".join(parts[:depth]) in used for depth in range(1, len(parts)))


def distinct_names(
    wanted: Iterable[tuple[str, Hashable]], is_kept: Callable[[str], bool], taken: set[str]
) -> dict[tuple[str, Hashable], str]:
    """A name for each pair of an old name and a key: the old one if it has one key and is not kept, else a new one."""
    keys: dict[str, list[Hashable]] = {}
    for name, key in dict.fromkeys(wanted):
        keys.setdefault(name, []).append(key)
    found: dict[tuple[str, Hashable], str] = {}
    for name, variants in keys.items():
        agreed = len(variants) == 1 and not is_kept(name)
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
