"""Boundary markers: result i is lane i, so a lane may go if no result of it is taken."""

from __future__ import annotations

from typing import Any

from torch.fx import Node

from passes.contracts import Contracts
from passes.ops.schema import Call, resolve
from passes.ops.signature import signature
from passes.verify.arguments import compare
from passes.verify.correspondence import Correspondence
from passes.verify.folds import same_value
from passes.verify.results import Leaf, Results, check_takers
from passes.verify.trail import reject


def check_marker(pair: Correspondence, old: Node, contracts: Contracts) -> set[Node]:
    """Rejects a kept marker that is not the marker before with lanes left out. Returns the nodes that were judged."""
    was, now = resolve(old), resolve(pair.kept[old])
    if was is None or now is None or not contracts.is_marker(was) or was.overload is not now.overload:
        return set()
    names = _lane_operands(was)
    if names is None:
        return set()
    results = Results(
        _lanes(was, names), _lanes(now, names), lambda one, other: same_value(pair, one.values, other.values)
    )
    if results.are_unchanged() or not _others_agree(was, now, names):
        return set()
    is_list = names[0] in was.bound and isinstance(was.bound[names[0]], (list, tuple))
    if not (_is_shorter(results) if is_list else _is_refilled(results)):
        reject(old, "its lanes are not those before less some", pair.within)
    return {old, *check_takers(pair, old, results)}


def _lane_operands(call: Call) -> list[str] | None:
    """Names of the operands that are lanes: one list of tensors, or every tensor; None if results do not match them."""
    if call.overload is None:
        return None
    kinds = {name: parameter.kind for name, parameter in signature(call.overload).parameters.items()}
    lists = [name for name, kind in kinds.items() if kind == "List[Tensor]"]
    tensors = [name for name, kind in kinds.items() if kind == "Tensor"]
    returned = [str(result.type) for result in call.overload._schema.returns]
    if len(lists) == 1 and not tensors and returned == ["List[Tensor]"]:
        return lists
    return tensors if not lists and len(tensors) > 1 and returned == ["Tensor"] * len(tensors) else None


def _lanes(call: Call, names: list[str]) -> list[Leaf]:
    values: list[Any] = [call.bound[name] for name in names]
    items = values[0] if isinstance(values[0], (list, tuple)) else values
    return [Leaf((item,)) for item in items]


def _others_agree(was: Call, now: Call, lanes: list[str]) -> bool:
    others = [{name: value for name, value in call.bound.items() if name not in lanes} for call in (was, now)]
    return not any(compare("", *others))


def _is_shorter(results: Results) -> bool:
    return len(results.now) > 0 and results.are_pruned()


def _is_refilled(results: Results) -> bool:
    """Whether each lane that changed is given the operand of one that stays."""
    pairs = list(zip(results.was, results.now, strict=True))
    staying = [was for was, now in pairs if results.same(was, now)]
    return all(any(results.same(stay, now) for stay in staying) for _, now in pairs)
