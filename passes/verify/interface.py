"""What a caller can see of a module besides its results and parameters: inputs, number of outputs, aliases."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.fx import GraphModule, Node

from passes.report import PruneReport
from passes.verify.correspondence import Correspondence
from passes.verify.trail import reject


def check_interface(pair: Correspondence, report: PruneReport | None = None) -> None:
    """Rejects changed inputs, outputs or recorded aliases.

    An input may be gone if it was used before, no recorded alias names it, and the report, if given, says so.
    """
    for what, describe in _INTERFACE.items():
        old, new = describe(pair.before), describe(pair.after)
        if old != new:
            reject(None, f"the {what} changed: {_first_difference(old, new)}")
    _check_inputs(pair, report)
    for node in pair.removed:
        if node.op == "output":
            reject(node, "an output was removed")


def _check_inputs(pair: Correspondence, report: PruneReport | None) -> None:
    before, after = _inputs(pair.before), _inputs(pair.after)
    dropped = [node for node in pair.removed if node.op == "placeholder"]
    gone = {(node.name, str(node.target)) for node in dropped}
    left = [found for found in before if found not in gone]
    if left != after:
        reject(None, f"the inputs changed: {_first_difference(left, after)}")
    aliased = {name for name, _ in _aliases(pair.before)[0] or ()}
    for node in dropped:
        if not node.users:
            reject(node, "an input was removed that had no use before")
        if str(node.target) in aliased:
            reject(node, "an input was removed whose new value is an output")
    if report is not None:
        position = {found: index for index, found in enumerate(after)}
        _check_input_map(dropped, [position.get(found) for found in before], report)


def _check_input_map(dropped: list[Node], expected: list[int | None], report: PruneReport) -> None:
    if report.input_map is None and dropped:
        reject(dropped[0], "an input was removed")
    if report.input_map is not None and list(report.input_map) != expected:
        reject(None, f"the input map {list(report.input_map)} does not fit the graphs, which say {expected}")


def _inputs(module: GraphModule) -> list[tuple[str, str]]:
    return [(node.name, str(node.target)) for node in module.graph.find_nodes(op="placeholder")]


def _aliases(module: GraphModule) -> list[Any]:
    return [getattr(module.meta.get("capture"), "aliases", None)]


def _outputs(module: GraphModule) -> list[Any]:
    output = next(iter(module.graph.find_nodes(op="output")))
    return [type(output.args[0]), _length(output.args[0])]


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple, dict)) else 1


_INTERFACE: Mapping[str, Callable[[GraphModule], list[Any]]] = {
    "number of outputs": _outputs,
    "recorded aliases": _aliases,
}


def _first_difference(old: list[Any], new: list[Any]) -> str:
    for one, other in zip(old, new, strict=False):
        if one != other:
            return f"{one} became {other}"
    return f"there were {len(old)}, now there are {len(new)}"
