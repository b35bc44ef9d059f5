"""Custom ops that stand for a Neuron kernel: which targets run it, and what computes the same in plain torch."""

from __future__ import annotations

import base64
import json
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from types import MappingProxyType
from typing import Any

from torch._ops import OpOverload
from torch.fx import GraphModule, Node

from passes.errors import DeadkvError
from passes.ops.nki import WRAPPER
from passes.registration import DEFAULT_CONTRACTS
from tracing.backends.targets import TARGETS, Target

_STAND_IN = "written by deadkv to show the graph; holds no compiled kernel, so neuronx-cc cannot compile it"


@dataclass(frozen=True)
class Kernel:
    """A custom op with a kernel behind it.

    `reference` names a plain torch function, "package.module:function", that takes the op's operands by name and
    returns the op's own results followed by the new value of each operand in `writes`; None where there is no such
    function. `results` counts the op's own.
    `neuron_core` is the first NeuronCore generation that runs the kernel.
    """

    name: str
    reference: str | None
    results: int
    neuron_core: int
    writes: tuple[str, ...] = ()

    def runs_on(self, target: Target) -> bool:
        return target.neuron_core >= self.neuron_core

    def stand_in_config(self, operands: Sequence[str], constants: Mapping[str, Any]) -> str:
        """The backend_config of a custom call that stands for the kernel in HLO, in base64 as that of a real one."""
        config = {
            "kernel": self.name,
            "operands": list(operands),
            "written_operands": list(self.writes),
            "constants": dict(constants),
            "stand_in": _STAND_IN,
        }
        return base64.b64encode(json.dumps(config, sort_keys=True).encode()).decode()

    def load_reference(self) -> Callable[..., Sequence[Any]]:
        """The function that `reference` names, which must not be None."""
        assert self.reference is not None
        reference: Callable[..., Sequence[Any]] = pkgutil.resolve_name(self.reference)
        return reference


_REFERENCES = "tracing.decoder.attention_reference"

STAND_IN_API_VERSION = 2
"""XLA's CustomCallApiVersion API_VERSION_STATUS_RETURNING, which stand-ins state."""

_NKI_CORE = 3
"""TorchNeuron and vLLM Neuron, whose graphs hold NKI calls, compile them for Trn2 and later."""

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


def is_marker(op: Any) -> bool:
    """Whether a call target is an operator registered with `passes.register_marker`."""
    return isinstance(op, OpOverload) and op._schema.name in DEFAULT_CONTRACTS.markers


def qualified_name(op: OpOverload) -> str:
    """`namespace::op`, or `namespace::op.overload` for one that is not the default."""
    schema = op._schema
    return f"{schema.name}.{schema.overload_name}" if schema.overload_name else schema.name


def bind_operands(op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Every argument of a call by its schema name, defaults filled in."""
    arguments = op._schema.arguments
    given = dict(zip((argument.name for argument in arguments), args, strict=False)) | dict(kwargs)
    return {argument.name: given.get(argument.name, argument.default_value) for argument in arguments}


def refuse_newer_kernels(gm: GraphModule, target: Target) -> None:
    """Raises DeadkvError for a call, in `gm` or a graph nested in it, of a kernel that cannot become the target's code.

    Those are kernels for newer cores that have no torch reference, and NKI calls of TorchNeuron and vLLM Neuron.
    """
    graphs = (module.graph for module in gm.modules() if isinstance(module, GraphModule))
    for node in (node for graph in graphs for node in graph.nodes):
        needs = _core_needed(node)
        if needs > target.neuron_core:
            raise DeadkvError(
                f"{node.target} (node {node.name}) is a kernel for NeuronCore-v{needs} and later, and "
                f"{target.name} has NeuronCore-v{target.neuron_core}: compile for "
                f"{_targets_with(needs)}, or trace the model with the kernel's torch reference in its place"
            )


def _core_needed(node: Node) -> int:
    """The first NeuronCore generation that runs a node which only a kernel can run; 0 for any other node."""
    if str(getattr(node.target, "__name__", "")).endswith(WRAPPER):
        return _NKI_CORE
    kernel = kernel_of(node.target)
    return kernel.neuron_core if kernel is not None and kernel.reference is None else 0


def _targets_with(core: int) -> str:
    return " or ".join(target.name for target in TARGETS.values() if target.neuron_core >= core)


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
