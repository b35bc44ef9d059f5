"""A graph made ready for lowering: functional aten whose inputs and parameters are known by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from passes.errors import DeadkvError
from tracing.backends.hlo.arrays import Array
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.entries import entry_names, used_entries
from tracing.backends.hlo.interpreter import GraphLowering
from tracing.backends.hlo.retrace import retrace
from tracing.backends.hlo.support import refusal, unsupported_node


@dataclass(frozen=True)
class Program:
    """`inputs` are the graph's own inputs, `entries` its parameters and buffers, both by name.

    `placeholders` lists all inputs of the captured graph in order; one that is no tensor is unused and not in `inputs`.
    `retraced` says that `graph` takes entries, then inputs as placeholders, and also returns their values at the end.
    `output_dtypes` are the torch dtypes of the flat outputs where the graph records them.
    """

    graph: GraphModule
    placeholders: tuple[str, ...]
    inputs: dict[str, Tensor]
    entries: dict[str, Tensor]
    retraced: bool
    output_dtypes: tuple[torch.dtype | None, ...]

    def run(self, values: Mapping[str, Array], context: LoweringContext) -> tuple[list[Array], dict[str, Array]]:
        """The flat outputs, and the new value of each input or entry that the graph writes, by name."""
        if self.retraced:
            names = [*self.entries, *self.inputs]
            lowering = GraphLowering(self.graph, {}, {}, context)
            outputs, ends = lowering.run([values[name] for name in names])
            finals = dict(zip(names, ends, strict=True))
        else:
            finals = {name: values[name] for name in self.entries}
            lowering = GraphLowering(self.graph, finals, entry_names(self.graph), context)
            outputs = lowering.run([values.get(name) for name in self.placeholders])
        written = {name: value for name, value in finals.items() if value is not values[name]}
        return [_array(value, i) for i, value in enumerate(pytree.tree_leaves(outputs))], written


def load_program(gm: GraphModule, inputs: Mapping[str, Any], context: LoweringContext) -> Program:
    """The graph as it is where every node has a lowering, else traced again to functional aten.

    `inputs` gives an example of the right shape and dtype for each placeholder name. Raises DeadkvError, naming op and
    node, for an op without a lowering.
    """
    placeholders = tuple(str(node.target) for node in gm.graph.find_nodes(op="placeholder"))
    own = {name: inputs[name] for name in placeholders if _is_tensor(gm, inputs, name)}
    entries = used_entries(gm)
    _check_names(own, entries)
    if unsupported_node(gm, context) is None:
        return Program(gm, placeholders, own, entries, False, _output_dtypes(gm.graph.output_node().args[0]))
    graph = retrace(gm, entries, [own.get(name) for name in placeholders])
    rest = unsupported_node(graph, context)
    if rest is not None:
        alike = (node for node in gm.graph.nodes if node.target is rest.target)
        raise refusal(next(alike, rest))
    result: Any = graph.graph.output_node().args[0]
    return Program(graph, placeholders, own, entries, True, _output_dtypes(result[0]))


def _is_tensor(gm: GraphModule, inputs: Mapping[str, Any], name: str) -> bool:
    """Whether an input is an HLO parameter. One that is no tensor is not, and may have no use."""
    if name not in inputs:
        raise DeadkvError(f"the graph has an input {name!r} for which no example was given")
    if isinstance(inputs[name], Tensor):
        _check_shape(inputs[name], name)
        return True
    if any(node.users for node in gm.graph.find_nodes(op="placeholder") if node.target == name):
        raise DeadkvError(f"input {name!r} is {inputs[name]!r}, not a tensor, and the graph uses it: HLO takes tensors")
    return False


def _check_shape(tensor: Tensor, name: str) -> None:
    if any(isinstance(size, torch.SymInt) for size in tensor.shape):
        raise DeadkvError(f"input {name!r} has the symbolic shape {tuple(tensor.shape)}: HLO needs a fixed one")


def _check_names(inputs: Mapping[str, Tensor], entries: Mapping[str, Tensor]) -> None:
    for name in inputs:
        if name in entries:
            raise DeadkvError(f"{name!r} names both an input and a parameter of the graph: rename the input")


def _output_dtypes(outputs: object) -> tuple[torch.dtype | None, ...]:
    values = [getattr(node, "meta", {}).get("val") for node in pytree.tree_leaves(outputs)]
    return tuple(value.dtype if isinstance(value, Tensor) else None for value in values)


def _array(value: object, index: int) -> Array:
    if not isinstance(value, Array):
        raise DeadkvError(f"output {index} of the graph is {value!r}, not a tensor: HLO returns tensors only")
    return value
