"""What `capture` says about a graph beside the graph: inputs, outputs and which output is whose new value."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import nn
from torch.fx import GraphModule, Node

from passes.errors import DeadkvError
from tracing.capture.fake import FakeState
from tracing.capture.memory import is_plain, memory_of
from tracing.capture.outputs import returned


@dataclass(frozen=True)
class CaptureInfo:
    """Facts about a captured graph, kept in `graph_module.meta["capture"]`.

    Attributes:
        frontend: what recorded the graph.
        inputs: the name of each placeholder, in order.
        num_outputs: the number of flat outputs.
        aliases: (name of a parameter, buffer or input, index of the output that is its new value or is that very
            tensor), sorted by output index.
    """

    frontend: str
    inputs: tuple[str, ...]
    num_outputs: int
    aliases: tuple[tuple[str, int], ...]


def declared_aliases(aliases: Mapping[nn.Parameter, int] | None, state: FakeState) -> dict[int, str]:
    """The names behind `{parameter: output index}`, by output index.

    Raises:
        DeadkvError: a key is no parameter or buffer of the model, or two keys claim one output.
    """
    declared: dict[int, str] = {}
    for tensor, index in (aliases or {}).items():
        name = state.name_of(tensor)
        if name is None:
            raise DeadkvError(f"aliases: the key for output {index} is not a parameter of the model; give the object")
        if index in declared:
            raise DeadkvError(f"aliases: output {index} is given to {declared[index]!r} and {name!r}; give one")
        declared[index] = name
    return declared


def find_aliases(module: GraphModule, state: FakeState, declared: Mapping[int, str]) -> tuple[tuple[str, int], ...]:
    """Declared aliases and those in the graph: outputs that are the very memory of an input, parameter or buffer.

    A view of part of a tensor, or one with another shape, is no alias: a compiler could not write it in place.

    Raises:
        DeadkvError: a declared index is no output, or the output is another tensor's memory.
    """
    outputs = returned(module.graph)
    found = dict(_same_memory(module, state, outputs))
    for index, name in declared.items():
        if not 0 <= index < len(outputs):
            raise DeadkvError(f"aliases: {name!r} is given output {index}, but the model has {len(outputs)} outputs")
        if found.get(index, name) != name:
            raise DeadkvError(f"aliases: output {index} is given to {name!r}, but it is {found[index]!r} itself")
    return tuple((name, index) for index, name in sorted({**found, **declared}.items()))


def _same_memory(module: GraphModule, state: FakeState, outputs: Sequence[object]) -> Iterator[tuple[int, str]]:
    owners: dict[Hashable, str] = {}
    for node in module.graph.nodes:
        if node.op == "placeholder" or (node.op == "get_attr" and node.target in state.fakes):
            owners.setdefault(_memory(node), str(node.target))
    for index, output in enumerate(outputs):
        if isinstance(output, Node) and (name := owners.get(_memory(output))):
            yield index, name


def _memory(node: Node) -> Hashable:
    """The memory of a node's value; for anything but a plain tensor the node itself."""
    value = node.meta.get("val")
    return memory_of(value) if is_plain(value) else node
