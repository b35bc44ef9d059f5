"""The normal form: one shape of graph, whichever frontend recorded it.

Inputs are placeholders in the caller's order. Each consumer of a parameter, buffer or constant has a get_attr
node of its own, directly before it, as `make_fx` writes parameters. Outputs are one flat list. The graph is
copied node by node, once; nothing is removed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import Graph, GraphModule, Node

from tracing.capture.attributes import Attributes, keep_state_dict_in_copies, mirror_state
from tracing.capture.traced import Constant, Held, Input, Source, Subject, Traced

# What a frontend leaves on a node that differs from run to run, keeps tensors alive or repeats the operands.
_PRIVATE_META = ("creation_timestamp", "tensor_dict", "grapharg", "eager_input_vals")


def normal_form(traced: Traced, subject: Subject, model: Callable[..., object]) -> GraphModule:
    """Rewrite what a frontend recorded into the normal form.

    Args:
        traced: the recorded graph and the meaning of its placeholders and outputs.
        subject: the stand-ins it was recorded with.
        model: the original model; the result holds its parameter and buffer objects.

    Raises:
        DeadkvError: the graph holds a tensor without values, or a name that `GraphModule` reserves.
    """
    name = type(model).__name__ if isinstance(model, nn.Module) else "GraphModule"
    module = GraphModule(nn.Module(), Graph(), class_name=name)
    if isinstance(model, nn.Module):
        mirror_state(model, module)
        module.training = model.training
    for recorded in traced.module.modules():
        if isinstance(recorded, GraphModule):
            _tidy_meta(recorded.graph)
    module.graph = _Normalizer(traced, subject, module).graph()
    keep_state_dict_in_copies(module)
    return module


def _tidy_meta(graph: Graph) -> None:
    """Dynamo keeps values as `example_value`; give them the name the other frontends use."""
    for node in graph.nodes:
        if "example_value" in node.meta:
            node.meta.setdefault("val", node.meta["example_value"])
        for key in _PRIVATE_META:
            node.meta.pop(key, None)


def _fake_mode(graph: Graph, default: FakeTensorMode) -> FakeTensorMode:
    """The mode of the values a frontend recorded: Dynamo and export may use one of their own."""
    values = (node.meta.get("val") for node in graph.nodes)
    return next((value.fake_mode for value in values if isinstance(value, FakeTensor)), default)


class _Normalizer:
    """One copy of a recorded graph: `copies` holds its inputs and calls, `reads` the target of each attribute."""

    def __init__(self, traced: Traced, subject: Subject, module: GraphModule) -> None:
        self.traced = traced
        self.leaves = subject.inputs.leaves
        self.attributes = Attributes(module, subject.state, _fake_mode(traced.module.graph, subject.state.mode))
        self.result = Graph()
        self.inputs = [self.result.placeholder(name) for name in subject.inputs.names]
        self.copies: dict[Node, Node] = {}
        self.reads: dict[Node, str] = {}
        self.uses: Counter[str] = Counter()

    def graph(self) -> Graph:
        for node in self.traced.module.graph.nodes:
            if node.op in ("placeholder", "get_attr"):
                self._bind(node)
            elif node.op != "output":
                stack_trace = node.meta.get("stack_trace")
                self.copies[node] = self.result.node_copy(node, self._reader(stack_trace))
        read = self._reader(None)
        outputs: list[Any] = [read(v) if isinstance(v, (Node, Source)) else v for v in self.traced.outputs]
        self.result.output(outputs)
        for node, leaf in zip(self.inputs, self.leaves, strict=True):
            node.meta.setdefault("val", self.attributes.fake(leaf) if isinstance(leaf, Tensor) else leaf)
        return self.result

    def _bind(self, node: Node) -> None:
        """Settle what a recorded placeholder or get_attr stands for."""
        source = self.traced.sources.get(node) or self._held(str(node.target))
        if isinstance(source, Input):
            self.copies[node] = self.inputs[source.index]
            self.inputs[source.index].meta.update(node.meta)
        else:
            self.reads[node] = self.attributes.target(source, node.meta.get("val"))

    def _held(self, target: str) -> Source:
        value = attrgetter(target)(self.traced.module)
        return Constant(value) if isinstance(value, Tensor) else Held(target, value)

    def _reader(self, stack_trace: str | None) -> Callable[[Node | Source], Node]:
        """How one consumer reads an operand: with at most one get_attr node for each target."""
        own: dict[str, Node] = {}

        def read(operand: Node | Source) -> Node:
            if isinstance(operand, Input):
                return self.inputs[operand.index]
            if isinstance(operand, Node) and operand in self.copies:
                return self.copies[operand]
            target = self.reads[operand] if isinstance(operand, Node) else self.attributes.target(operand)
            if target not in own:
                own[target] = self._get_attr(target, stack_trace)
            return own[target]

        return read

    def _get_attr(self, target: str, stack_trace: str | None) -> Node:
        self.uses[target] += 1
        use = self.uses[target]
        # A further use is not "_2", which would read as another entry of a ParameterList.
        name = target.replace(".", "_") + (f"_use{use}" if use > 1 else "")
        node = self.result.create_node("get_attr", target, name=name)
        if stack_trace is not None:
            node.meta["stack_trace"] = stack_trace
        value = self.attributes.values[target]
        if value is not None:
            node.meta["val"] = value
        return node
