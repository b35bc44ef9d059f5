"""Walks a functional FX graph and writes each node with jax, under a `jax.jit` trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from torch import Tensor
from torch.fx import GraphModule, Node
from torch.fx.node import map_arg

from passes.errors import DeadkvError
from passes.regions.calls import bind_region
from tracing.backends.hlo.arrays import Array, UnsupportedUseError
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.conversion import literal
from tracing.backends.hlo.kernels import KernelCall, custom_call
from tracing.backends.hlo.markers import barrier
from tracing.backends.hlo.ops import LOWERINGS
from tracing.backends.hlo.regions import RULES
from tracing.backends.hlo.support import refusal
from tracing.backends.kernels import Kernel, bind_operands, held_by, is_marker


class GraphLowering:
    """One run over a graph.

    `state` holds the current value of each parameter, buffer and outer input by name, and `names` the name of each
    tensor object. A kernel that writes such a tensor replaces its value there, so that later readers see it, as they
    do in torch.
    """

    def __init__(
        self, gm: GraphModule, state: dict[str, Array], names: Mapping[int, str], context: LoweringContext
    ) -> None:
        self._gm, self._state, self._names, self.context = gm, state, names, context
        self._values: dict[Node, Any] = {}

    def run(self, inputs: Sequence[Any]) -> Any:
        """The value of the output node, structured as in the graph. `inputs` are the placeholders' values in order."""
        placeholders = self._gm.graph.find_nodes(op="placeholder")
        self._values = dict(zip(placeholders, inputs, strict=True))
        for node in self._gm.graph.nodes:
            if node.op in ("call_function", "call_module"):
                self._values[node] = self._call(node)
        return self._value(self._gm.graph.output_node().args[0])

    def call_graph(self, gm: GraphModule, inputs: Sequence[Any]) -> Any:
        """A nested graph, written in place."""
        return GraphLowering(gm, self._state, self._names, self.context).run(inputs)

    def call_kernel(self, kernel: Kernel, op: Any, operands: Mapping[str, Any]) -> Sequence[Any]:
        """The op's own results, then the new value of each operand it writes. `operands` are values by name."""
        call = KernelCall.of(kernel, op, operands)
        if kernel.runs_on(self.context.target):
            return custom_call(call)
        results = self.call_graph(self.context.references.graph(call), list(call.tensors.values()))
        return tuple(results)

    def _call(self, node: Node) -> Any:
        try:
            if node.op == "call_module":
                return self._call_module(node)
            if (kernel := self.context.kernel(node.target)) is not None:
                return self._kernel_node(node, kernel)
            args, kwargs = self._value(node.args), self._value(node.kwargs)
            if is_marker(node.target):
                return barrier(node.target, args, kwargs)
            if node.target in RULES:
                return RULES[node.target](self, *args, **kwargs)
            if node.target not in LOWERINGS:
                raise refusal(node)
            return LOWERINGS[node.target](*args, **kwargs)
        except UnsupportedUseError as error:
            raise DeadkvError(f"{node.target} (node {node.name}) cannot be written as HLO: {error}") from error

    def _call_module(self, node: Node) -> Any:
        """A nested graph, given its inputs by position, by name or by default."""
        called = bind_region(node, self._gm)
        if called is None and node.kwargs:
            raise refusal(node)
        operands = node.args if called is None else [operand.value for operand in called.operands]
        return self.call_graph(attrgetter(str(node.target))(self._gm), self._value(operands))

    def _kernel_node(self, node: Node, kernel: Kernel) -> Any:
        bound = bind_operands(node.target, node.args, node.kwargs)
        values = self.call_kernel(kernel, node.target, self._value(bound))
        for name, value in zip(kernel.writes, values[kernel.results :], strict=True):
            self._state[self._names[id(held_by(self._gm, bound[name]))]] = value
        return values[0] if kernel.results == 1 else values[: kernel.results]

    def _value(self, argument: Any) -> Any:
        return map_arg(argument, self._read)

    def _read(self, node: Node) -> Any:
        if node.op == "get_attr":
            held = held_by(self._gm, node)
            if not isinstance(held, Tensor):
                return held
            name = self._names.get(id(held))
            return literal(held, str(node.target)) if name is None else self._state[name]
        return self._values[node]
