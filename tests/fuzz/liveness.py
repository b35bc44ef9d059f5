"""Brute-force liveness: each node alone is poisoned, or a write skipped, and the graph is run again.

A node of a site is missed if the pass kept it although nothing that was tried could be seen: that bounds from above
what a pass could still remove. Why is said by the call that took a poisoned operand and yielded the same all the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node

from passes import PruneReport
from tests.fuzz.interpreter import Place, PoisonInterpreter
from tests.fuzz.states import copied, same_bits, same_state, state_after


@dataclass(frozen=True)
class Missed:
    """The gather of a live site whose elements made no difference, and what absorbed the poison."""

    place: Place
    absorbed_by: str

    @property
    def is_provable(self) -> bool:
        """Whether an analysis of the graph and the contracts could have known."""
        return self.reason not in _UNPROVABLE

    @property
    def reason(self) -> str:
        """Why nobody saw it."""
        names = ((reason, words.split()) for reason, words in _REASONS.items())
        return next((reason for reason, known in names if self.absorbed_by in known), "absorbed by another call")


_REASONS: Mapping[str, str] = {
    "a call without a contract, which happens not to read it": "unknown unknown_store attend_unknown hidden "
    "unregistered_mark unregistered_pair",
    "a contract that declares more than is read, or gives no stand-in": "blend strict twins store "
    "store_some peek attend",
    "overwritten before it is read": "copy_ fill_ zero_ setitem masked_fill_ index_fill_ index_put_ getitem slice",
    "its shape, which was not recorded or is shared with what is read": "size sym_size sym_numel numel nelement "
    "getattr dim ndimension element_size sym_stride stride zeros_like ones_like full_like empty_like rand_like "
    "new_zeros new_ones new_full expand_as view_as reshape_as type_as _assert_tensor_metadata",
    "compared, masked or rounded away": "eq lt ge gt ne where logical_not isnan sign max amax maximum relu "
    "_to_copy to bool int long cos div dropout sum cat arange mul mul_ add sub",
    "a branch not taken, or a loop's carry": "cond scan while_loop",
    "nothing reads what is written with it": "nothing",
}
_UNPROVABLE = tuple(_REASONS)[:2]


def dead_places(report: PruneReport) -> set[Place]:
    """Every value that a report calls dead: the removed nodes, also those of nested graphs."""
    found = {("", name) for name in report.removed}
    for region in report.regions:
        found |= {(path, name) for path in (region.call, f"{region.call}.{region.body}") for name in region.removed}
    return found


def missed(module: GraphModule, report: PruneReport, runs: Sequence[Sequence[Tensor]]) -> tuple[int, list[Missed]]:
    """How many live sites there are, and those of them whose poisoned gather nothing shows."""
    gathers = [_place(site.gather) for site in report.sites if site.status == "live"]
    found = [place for place in gathers if not any(_is_seen(module, place, inputs) for inputs in runs)]
    return len(gathers), [Missed(place, _absorber(module, place, runs[0])) for place in found]


def _place(name: str) -> Place:
    path, _, node = name.rpartition("/")
    return path, node


def _is_seen(module: GraphModule, place: Place, inputs: Sequence[Tensor]) -> bool:
    try:
        poisoned = state_after(module, inputs, PoisonInterpreter(module, {place}).run)
    except (RuntimeError, IndexError, ValueError):
        return True
    return not same_state(state_after(module, inputs, PoisonInterpreter(module).run), poisoned)


def _absorber(module: GraphModule, place: Place, inputs: Sequence[Tensor]) -> str:
    """The last call that was given poison and yielded what it yields without."""
    clean, poisoned = (_values(module, dead, inputs) for dead in ((), (place,)))
    differs = {at for at in clean if at in poisoned and not _are_same(clean[at], poisoned[at])}
    same = [(path, node) for path, node in _nodes(module) if (path, node.name) in clean.keys() - differs]
    absorbers = [node for path, node in same if any((path, found.name) in differs for found in node.all_input_nodes)]
    return _name(absorbers[-1]) if absorbers else "nothing"


def _name(node: Node) -> str:
    """Name of what a node calls, without namespace and overload."""
    return str(getattr(node.target, "__name__", node.target)).split(".")[0]


def _values(module: GraphModule, dead: Sequence[Place], inputs: Sequence[Tensor]) -> dict[Place, Any]:
    found: dict[Place, Any] = {}

    def seen(place: Place, value: Any) -> None:
        found[place] = [copied(leaf) for leaf in (value if isinstance(value, (tuple, list)) else [value])]

    state_after(module, inputs, PoisonInterpreter(module, dead, seen=seen).run)
    return found


def _are_same(one: Any, other: Any) -> bool:
    return len(one) == len(other) and all(map(same_bits, one, other))


def _nodes(module: GraphModule, path: str = "") -> Iterator[tuple[str, Node]]:
    """Every node of a graph and of those nested in it, with the path that the interpreter gives it."""
    for node in module.graph.nodes:
        yield path, node
        reads = [argument for argument in node.args if isinstance(argument, Node) and argument.op == "get_attr"]
        names = [str(node.target)] if node.op == "call_module" else [str(read.target) for read in reads]
        bodies = [(name, reduce(getattr, name.split("."), module)) for name in names]
        nested = [(name, body) for name, body in bodies if isinstance(body, GraphModule)]
        for name, body in nested:
            step = node.name if len(nested) == 1 else f"{node.name}.{name}"
            yield from _nodes(body, f"{path}/{step}" if path else step)
