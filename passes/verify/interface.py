"""What a caller can see of a module besides its results: inputs, parameters, buffers, recorded aliases, node order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch.fx import GraphModule, Node

from passes.verify.correspondence import Correspondence
from passes.verify.trail import reject


def check_interface(pair: Correspondence) -> None:
    """Rejects changed inputs, outputs, parameters or buffers, and kept nodes in another order."""
    for what, describe in _INTERFACE.items():
        old, new = describe(pair.before), describe(pair.after)
        if old != new:
            reject(None, f"the {what} changed: {_first_difference(old, new)}")
    _check_order(pair)
    for node in pair.removed:
        if node.op in ("placeholder", "output"):
            reject(node, f"an {'input' if node.op == 'placeholder' else 'output'} was removed")


def _inputs(module: GraphModule) -> list[tuple[str, str]]:
    return [(node.name, str(node.target)) for node in module.graph.find_nodes(op="placeholder")]


def _parameters(module: GraphModule) -> list[tuple[str, int]]:
    return sorted((name, id(value)) for name, value in module.named_parameters(remove_duplicate=False))


def _buffers(module: GraphModule) -> list[tuple[str, int]]:
    return sorted((name, id(value)) for name, value in module.named_buffers(remove_duplicate=False))


def _aliases(module: GraphModule) -> list[Any]:
    return [getattr(module.meta.get("capture"), "aliases", None)]


def _outputs(module: GraphModule) -> list[Any]:
    output = next(iter(module.graph.find_nodes(op="output")))
    return [type(output.args[0]), _length(output.args[0])]


def _length(value: Any) -> int:
    return len(value) if isinstance(value, (list, tuple, dict)) else 1


_INTERFACE: Mapping[str, Callable[[GraphModule], list[Any]]] = {
    "inputs": _inputs,
    "number of outputs": _outputs,
    "parameters": _parameters,
    "buffers": _buffers,
    "recorded aliases": _aliases,
}


def _first_difference(old: list[Any], new: list[Any]) -> str:
    for one, other in zip(old, new, strict=False):
        if one != other:
            return f"{one} became {other}"
    return f"there were {len(old)}, now there are {len(new)}"


def _check_order(pair: Correspondence) -> None:
    position = {node: index for index, node in enumerate(pair.after.graph.nodes)}
    previous: Node | None = None
    for old, new in pair.kept.items():
        if previous is not None and position[new] < position[previous]:
            reject(old, f"it now runs before %{previous.name}")
        previous = new
