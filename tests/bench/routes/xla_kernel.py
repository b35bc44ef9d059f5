"""A graph in JAX, with the C++ kernel in place of the attention op: a custom call by way of XLA FFI."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from torch._ops import OpOverload
from torch.fx import GraphModule

from tests.bench.routes.native import READ, ffi_target
from tracing.backends.hlo.arrays import Array
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.entries import entry_names
from tracing.backends.hlo.interpreter import GraphLowering
from tracing.backends.kernels import Kernel
from tracing.backends.targets import get_target


class OpaqueLowering(GraphLowering):
    """The project's lowering for a target that has the kernel, which here is one that XLA:CPU can run."""

    def call_graph(self, gm: GraphModule, inputs: Sequence[Any]) -> Any:
        return OpaqueLowering(gm, self._state, self._names, self.context).run(inputs)

    def call_kernel(self, kernel: Kernel, op: OpOverload, operands: Mapping[str, Any]) -> Sequence[Any]:
        return kernel_call(operands)


def kernel_call(operands: Mapping[str, Any]) -> Sequence[Array]:
    """X_out, K_tkg and V_tkg. What the kernel does not read stands behind what it reads, for XLA to compute."""
    read = [operands[name] for name in READ]
    unread = [value for name, value in operands.items() if name not in READ and isinstance(value, Array)]
    x = operands["X"]
    batch, tokens, hidden = x.shape
    kv_heads, head_dim = operands["K_cache"].shape[2:]
    shapes = (batch * tokens, hidden), (head_dim, batch, kv_heads, tokens), (batch, kv_heads, tokens, head_dim)
    call = jax.ffi.ffi_call(ffi_target(), [jax.ShapeDtypeStruct(shape, x.dtype) for shape in shapes])
    return call(*read, *unread, epsilon=np.float32(operands["rmsnorm_X_eps"]))


def run_in_jax(gm: GraphModule, state: Mapping[str, Array], inputs: Sequence[Array]) -> list[Array]:
    """The flat outputs of a functional aten graph, under a `jax.jit` trace.

    `state` holds the parameters and buffers that it reads, by name; `inputs` are its placeholders in order.
    """
    context = LoweringContext(get_target("trn2"))
    return list(OpaqueLowering(gm, dict(state), entry_names(gm), context).run(inputs))
