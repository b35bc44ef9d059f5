"""Drops inputs that lost their last use, and tells callers which input is which afterwards.

A pruned graph keeps its signature unless the caller asks for less: runtimes bind inputs by position, and NxD Inference
even adds `x * 0` so that a compiler does not drop one. Where the caller can follow, an input that only the removed
nodes read need not be passed at all.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from torch.fx import Graph, GraphModule
from torch.fx.graph import CodeGen

from passes.errors import DeadkvError

Item = TypeVar("Item")
CAPTURE = "capture"
"""Key of `gm.meta` under which a capture may record `inputs` (names) and `aliases` (name, output index)."""


@dataclass(frozen=True)
class InputMap:
    """Which input of the graph before is which input of the graph after.

    Attributes:
        indices: for each input of the graph before, in order, its index after, or None if it was dropped.
        aliases: (index of an input after, index of the output that is its new value), for the recorded aliases that
            name an input; by output index, as they were recorded.
    """

    indices: tuple[int | None, ...]
    aliases: tuple[tuple[int, int], ...] = ()

    @property
    def is_identity(self) -> bool:
        """Whether no input was dropped."""
        return None not in self.indices

    def select(self, inputs: Sequence[Item]) -> tuple[Item, ...]:
        """What the graph after takes, out of one value for each input of the graph before.

        Raises DeadkvError if there are more or fewer values than inputs.
        """
        if len(inputs) != len(self.indices):
            raise DeadkvError(f"the graph takes {len(self.indices)} inputs, but {len(inputs)} were given")
        return tuple(item for item, index in zip(inputs, self.indices, strict=True) if index is not None)


@dataclass(frozen=True)
class Inputs:
    """The inputs of a graph: all names in order, and those that something reads or returns."""

    names: tuple[str, ...]
    used: frozenset[str]

    @classmethod
    def of(cls, graph: Graph) -> Inputs:
        """The inputs of `graph` as it is now."""
        nodes = graph.find_nodes(op="placeholder")
        return cls(tuple(str(n.target) for n in nodes), frozenset(str(n.target) for n in nodes if n.users))

    def lost_in(self, graph: Graph) -> tuple[str, ...]:
        """The inputs that were used when this was taken and are not used in `graph`, in order."""
        now = Inputs.of(graph).used
        return tuple(name for name in self.names if name in self.used and name not in now)


def match_inputs(before: Sequence[str], after: GraphModule) -> InputMap:
    """The map from inputs named `before` to those of `after`. Passes keep the names of the inputs that they keep."""
    position = {name: index for index, name in enumerate(Inputs.of(after.graph).names)}
    aliases = ((position.get(name), output) for name, output in recorded_aliases(after))
    return InputMap(
        tuple(position.get(name) for name in before),
        tuple((index, output) for index, output in aliases if index is not None),
    )


def require_plain_signature(graph: Graph) -> None:
    """Raises DeadkvError if the graph's inputs are leaves of containers: one leaf cannot be dropped."""
    if type(graph._codegen) is not CodeGen:
        raise DeadkvError(
            "shrink_inputs: the graph takes its inputs in containers: capture it with flat inputs, or leave the option"
        )


def drop_inputs(module: GraphModule, names: Sequence[str]) -> tuple[str, ...]:
    """Removes the unused inputs `names` from the signature, except those that an alias or a `*args` speaks of.

    Returns the names of the removed nodes, in order.
    """
    keep = {name for name, _ in recorded_aliases(module)}
    wanted = {name for name in names if name not in keep and not name.startswith("*")}
    dropped = [node for node in module.graph.find_nodes(op="placeholder") if node.target in wanted]
    for node in dropped:
        module.graph.erase_node(node)
    _record_inputs(module)
    module.recompile()
    return tuple(node.name for node in dropped)


def recorded_aliases(module: GraphModule) -> tuple[tuple[str, int], ...]:
    """(name of an input or parameter, output index) as the capture recorded them; nothing without a record."""
    found: Any = getattr(module.meta.get(CAPTURE), "aliases", ())
    return tuple((str(name), int(index)) for name, index in found)


def _record_inputs(module: GraphModule) -> None:
    record: Any = module.meta.get(CAPTURE)
    if dataclasses.is_dataclass(record) and not isinstance(record, type) and hasattr(record, "inputs"):
        module.meta[CAPTURE] = dataclasses.replace(record, inputs=Inputs.of(module.graph).names)
