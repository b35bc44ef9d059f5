"""The two forms in HLO of an op that stands for a Neuron kernel.

On a target whose cores run the kernel the op is one custom call; elsewhere it is the plain HLO of its torch reference.
The custom call shows the graph: every tensor operand is an operand of the call. It holds no compiled kernel, so
neuronx-cc cannot compile it, and its backend_config says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import jax
import torch
from torch._ops import OpOverload
from torch.fx import GraphModule

from tracing.backends.hlo.arrays import Array, struct
from tracing.backends.hlo.dtypes import to_torch
from tracing.backends.hlo.proto import NEURON_KERNEL
from tracing.backends.hlo.retrace import fake_tensors, trace_functional
from tracing.backends.kernels import STAND_IN_API_VERSION, Kernel

TensorSpec: TypeAlias = tuple[tuple[int, ...], torch.dtype]


@dataclass(frozen=True)
class KernelCall:
    """One call: the tensor operands that are there, by name, and the other arguments."""

    kernel: Kernel
    op: OpOverload
    tensors: Mapping[str, Array]
    constants: Mapping[str, Any]

    @classmethod
    def of(cls, kernel: Kernel, op: OpOverload, operands: Mapping[str, Any]) -> KernelCall:
        tensors = {name: value for name, value in operands.items() if isinstance(value, Array)}
        constants = {name: value for name, value in operands.items() if name not in tensors}
        return cls(kernel, op, tensors, constants)

    @property
    def specs(self) -> dict[str, TensorSpec]:
        return {name: (value.shape, to_torch(value.dtype)) for name, value in self.tensors.items()}


class KernelReferences:
    """The aten graphs of references, traced once for each set of operand shapes, dtypes and constants."""

    def __init__(self) -> None:
        self._graphs: dict[tuple[Any, ...], GraphModule] = {}

    def graph(self, call: KernelCall) -> GraphModule:
        """The reference's functional aten graph. Its placeholders are the call's tensors in order."""
        key = (call.kernel.reference, tuple(call.specs.items()), repr(sorted(call.constants.items())))
        if key not in self._graphs:
            self._graphs[key] = _traced_reference(call)
        return self._graphs[key]


def _traced_reference(call: KernelCall) -> GraphModule:
    reference = call.kernel.load_reference()

    def by_position(*tensors: torch.Tensor) -> Any:
        return reference(**dict(zip(call.specs, tensors, strict=True)), **call.constants)

    return trace_functional(by_position, fake_tensors(call.specs.values()))


def custom_call(call: KernelCall) -> tuple[Array, ...]:
    """The kernel as a stand-in custom call: the op's own results, then the written operands, aliased to them."""
    names = list(call.tensors)
    own = _result_specs(call)
    written = [call.specs[name] for name in call.kernel.writes]
    aliases = {names.index(name): len(own) + i for i, name in enumerate(call.kernel.writes)}
    invoke = jax.ffi.ffi_call(
        NEURON_KERNEL,
        [struct(shape, dtype) for shape, dtype in (*own, *written)],
        input_output_aliases=aliases,
        custom_call_api_version=STAND_IN_API_VERSION,
        legacy_backend_config=call.kernel.stand_in_config(names, call.constants),
    )
    return tuple(invoke(*call.tensors.values()))


def _result_specs(call: KernelCall) -> list[TensorSpec]:
    """Shapes and dtypes of the op's own results, from its fake implementation."""
    fakes = dict(zip(call.specs, fake_tensors(call.specs.values()), strict=True))
    results = call.op(**fakes, **call.constants)
    listed = [results] if isinstance(results, torch.Tensor) else results
    return [(tuple(result.shape), result.dtype) for result in listed]
