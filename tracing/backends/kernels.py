"""Custom ops that stand for a Neuron kernel: which targets run it, and what computes the same in plain torch."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from tracing.backends.targets import Target


@dataclass(frozen=True)
class Kernel:
    """A custom op with a kernel behind it.

    `reference` names a plain torch function, "package.module:function", that takes the op's operands by name and
    returns the op's own results followed by the new value of each operand in `writes`. `results` counts the op's own.
    `neuron_core` is the first NeuronCore generation that runs the kernel.
    """

    name: str
    reference: str
    results: int
    neuron_core: int
    writes: tuple[str, ...] = ()

    def runs_on(self, target: Target) -> bool:
        return target.neuron_core >= self.neuron_core

    def load_reference(self) -> Callable[..., Sequence[Any]]:
        reference: Callable[..., Sequence[Any]] = pkgutil.resolve_name(self.reference)
        return reference


_REFERENCES = "tracing.decoder.attention_reference"

# By the op's qualified name. nki-library's attention_block_tkg asserts NeuronCore-v3 (gen3).
KERNELS: Mapping[str, Kernel] = MappingProxyType(
    {
        "deadkv::attention_block_tkg": Kernel(
            "attention_block_tkg",
            f"{_REFERENCES}:attention_block_tkg_reference",
            results=3,
            neuron_core=3,
        ),
        "deadkv::attention_block_tkg.cache_update": Kernel(
            "attention_block_tkg",
            f"{_REFERENCES}:attention_block_tkg_cache_update_reference",
            results=1,
            neuron_core=3,
            writes=("K_cache", "V_cache"),
        ),
    }
)


def kernel_of(op: Any, kernels: Mapping[str, Kernel] = KERNELS) -> Kernel | None:
    """The kernel that a call target stands for, if any."""
    return kernels.get(qualified_name(op)) if isinstance(op, OpOverload) else None


def qualified_name(op: OpOverload) -> str:
    """`namespace::op`, or `namespace::op.overload` for one that is not the default."""
    schema = op._schema
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name


def bind_operands(op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument of a call by its schema name, defaults filled in."""
    arguments = op._schema.arguments
    given = dict(zip((argument.name for argument in arguments), args, strict=False)) | dict(kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in arguments}


def writes_plain_attributes(gm: GraphModule, node: Node, kernel: Kernel) -> bool:
    """Whether a kernel call writes only tensors that the graph reads as attributes, and none of them through a view.

    Then the write is a new value for whoever reads the attribute afterwards; a view would need functionalization.
    """
    operands = bind_operands(node.target, node.args, node.kwargs)
    written = [operands[name] for name in kernel.writes]
    if not all(isinstance(operand, Node) and operand.op == "get_attr" for operand in written):
        return False
    tensors = {id(held_by(gm, operand)) for operand in written}
    readers = (user for n in gm.graph.find_nodes(op="get_attr") if id(held_by(gm, n)) in tensors for user in n.users)
    return not any(_may_be_view(reader) for reader in readers)


def held_by(gm: GraphModule, node: Node) -> Any:
    """The attribute that a `get_attr` node reads."""
    return attrgetter(str(node.target))(gm)


def _may_be_view(node: Node) -> bool:
    if node.op == "output":
        return False
    if not isinstance(node.target, OpOverload):
        return True
    return any(value.alias_info is not None for value in node.target._schema.returns)
