"""Peers that take the graph as JAX and as StableHLO: deadkv's own lowering, which removes nothing."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

import jax
import torch
from jax.interpreters import partial_eval
from torch._ops import OpOverload

from tests.bench.capability.gathers import in_hlo, in_jaxpr, in_linalg
from tests.bench.capability.outcome import Outcome, same_values
from tests.bench.capability.subjects import Subject
from tests.cases import ops
from tracing.backends.hlo.arrays import struct
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.conversion import to_numpy, to_tensor
from tracing.backends.hlo.dtypes import to_torch
from tracing.backends.hlo.program import load_program
from tracing.backends.hlo.proto import NEURON_KERNEL
from tracing.backends.kernels import Kernel
from tracing.backends.targets import get_target

TARGET = get_target("trn2")


def jax_dce(subject: Subject) -> Outcome:
    """`jax.interpreters.partial_eval.dce_jaxpr` with every result used."""
    lowered = Lowering(subject)
    closed = lowered.traced.jaxpr
    jaxpr, _ = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.jaxpr.outvars), instantiate=True)
    return Outcome(in_jaxpr(jaxpr), lowered.is_sound(partial(jax.core.eval_jaxpr, jaxpr, closed.consts)))


def xla_cpu(subject: Subject) -> Outcome:
    """The HLO that XLA:CPU has optimized."""
    lowered = Lowering(subject)
    compiled = lowered.traced.lower().compile()
    return Outcome(in_hlo(compiled.as_text()), lowered.is_sound(compiled))


def iree(subject: Subject) -> Outcome:
    """IREE's program after global optimization, for its CPU backend."""
    from iree.compiler import CompilerToolError, compile_str

    text = Lowering(subject).traced.lower().as_text()
    try:
        found = compile_str(
            text, input_type="stablehlo", target_backends=["llvm-cpu"], extra_args=["--compile-to=global-optimization"]
        )
    except CompilerToolError as error:
        raise RuntimeError(next((line for line in str(error).splitlines() if "error:" in line), str(error))) from None
    return Outcome(in_linalg(found.decode()))


@dataclass(frozen=True)
class Lowering:
    """A case as a JAX function of its inputs. Kernels and unregistered ops are custom calls, which do not run."""

    subject: Subject

    @cached_property
    def traced(self) -> Any:
        """`jax.stages.Traced` of the function."""
        _register_kernel()
        module = self.subject.graph()
        names = [str(node.target) for node in module.graph.find_nodes(op="placeholder")]
        context = LoweringContext(TARGET, kernels())
        program = load_program(module, dict(zip(names, self.subject.inputs, strict=True)), context)
        tensors = {**program.inputs, **program.entries}

        def run(*values: Any) -> Any:
            return program.run(dict(zip(tensors, values, strict=True)), context)

        return jax.jit(run, keep_unused=True).trace(*(struct(t.shape, t.dtype) for t in tensors.values()))

    def is_sound(self, changed: Callable[..., Any]) -> bool | None:
        """Whether `changed` returns what the function does; None if it holds a kernel."""
        if "ffi_call" in str(self.traced.jaxpr):
            return None
        values = [to_numpy(tensor, "input") for tensor in self.subject.inputs]
        jaxpr = self.traced.jaxpr
        before, after = (
            jax.device_get(jax.tree.leaves(run(*values)))
            for run in (partial(jax.core.eval_jaxpr, jaxpr.jaxpr, jaxpr.consts), changed)
        )
        return same_values(map(_tensor, before), map(_tensor, after))


def _tensor(array: Any) -> torch.Tensor:
    return to_tensor(array, to_torch(array.dtype))


@cache
def kernels() -> Mapping[str, Kernel]:
    """The operators of the cases that write nothing, as kernels of the target."""
    found = [op for op in vars(ops).values() if isinstance(op, OpOverload) and not op._schema.is_mutable]
    named = {op._schema.name: op for op in found if all(str(a.type) != "List[Tensor]" for a in op._schema.arguments)}
    return {name: Kernel(name, None, len(op._schema.returns), neuron_core=0) for name, op in named.items()}


@cache
def _register_kernel() -> None:
    """XLA:CPU compiles a custom call only if it has an address for it; this one is never called."""
    make = ctypes.pythonapi.PyCapsule_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    address = ctypes.cast(ctypes.pythonapi.Py_IsInitialized, ctypes.c_void_p).value
    capsule = make(address, b"xla._CUSTOM_CALL_TARGET", None)
    jax.ffi.register_ffi_target(NEURON_KERNEL, capsule, platform="cpu", api_version=0)
