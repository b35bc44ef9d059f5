"""A graph as plain, immutable data: everything torch.fx holds that a reader needs, and nothing of torch.fx itself."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from tracing.graph.forms import Forms, forms
from tracing.graph.nodes import (
    OPS,
    Const,
    Dim,
    Group,
    Node,
    Ref,
    ScalarType,
    Source,
    TensorType,
    Type,
    Value,
    leaves,
    references,
    values,
)

__all__ = [
    "OPS",
    "Const",
    "Dim",
    "GraphDoc",
    "Group",
    "Node",
    "Parameter",
    "Ref",
    "ScalarType",
    "Source",
    "TensorType",
    "Type",
    "Value",
    "leaves",
    "references",
    "values",
]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, buffer or tensor constant.

    `tied_to` is the FQN, from the outermost graph, of the parameter that owns the storage, if another one does.
    """

    fqn: str
    type: TensorType
    tied_to: str | None = None


@dataclass(frozen=True)
class GraphDoc:
    """A graph document.

    Attributes:
        nodes: in graph order; the last one is the output.
        parameters: tensors that the graph reads or an alias names, by FQN in natural order.
        aliases: (input name or parameter FQN, output index) pairs: that output is the updated input.
        objects: (path, class) of submodules and other attributes the graph uses that are neither tensor nor graph.
        schemas: (target, schema) of the operators used that torch itself does not define.
        subgraphs: (path, document) of nested graph modules.
    """

    name: str
    nodes: tuple[Node, ...]
    parameters: tuple[Parameter, ...] = ()
    aliases: tuple[tuple[str, int], ...] = ()
    objects: tuple[tuple[str, str], ...] = ()
    schemas: tuple[tuple[str, str], ...] = ()
    subgraphs: tuple[tuple[str, GraphDoc], ...] = ()

    @property
    def inputs(self) -> tuple[Node, ...]:
        """The placeholders, in order."""
        return tuple(node for node in self.nodes if node.op == "placeholder")

    @property
    def outputs(self) -> tuple[Value, ...]:
        """The output values; a graph that returns one bare value has one output."""
        returned = self.nodes[-1].args[0]
        if isinstance(returned, Group) and returned.kind in ("tuple", "list"):
            return returned.items
        return (returned,)

    @cached_property
    def by_name(self) -> dict[str, Node]:
        """The nodes by name."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def types(self) -> tuple[Type | None, ...]:
        """The types of parameters and nodes, each once."""
        nodes = (form.node.type for form in self.forms.distinct)
        return tuple(dict.fromkeys([*(parameter.type for parameter in self.parameters), *nodes]))

    @cached_property
    def forms(self) -> Forms:
        """The nodes by what they have in common."""
        return forms(self.nodes)
