"""Compiles a graph's HLO for the CPU with XLA and runs it on torch tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax
import numpy as np
import torch
from torch import Tensor
from torch.fx import GraphModule

from passes.errors import DeadkvError
from tracing.backends.hlo.arrays import Array
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.conversion import to_numpy, to_tensor
from tracing.backends.hlo.dtypes import to_torch
from tracing.backends.hlo.program import Program, load_program
from tracing.backends.hlo.shared_memory import refuse_shared_writes
from tracing.backends.targets import get_target


def run_graph(
    gm: GraphModule, inputs: Sequence[Tensor], parameters: Mapping[str, Tensor], target: str
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """The flat outputs and the written tensors by name: see `tracing.backends.hlo.execute.execute`."""
    context = LoweringContext(get_target(target))
    _refuse_custom_calls(gm, context)
    names = [str(node.target) for node in gm.graph.find_nodes(op="placeholder")]
    if len(names) != len(inputs):
        raise DeadkvError(f"the graph takes {len(names)} inputs, but {len(inputs)} were given")
    program = load_program(gm, dict(zip(names, inputs, strict=True)), context)
    values = _values(program, {**program.entries, **parameters})
    with jax.enable_x64(False), jax.default_device(jax.devices("cpu")[0]):
        outputs, written = _compiled(program, list(values), context)(*values.values())
    refuse_shared_writes({**program.inputs, **program.entries}, written)
    return _outputs(outputs, program), _written(written, program)


def _refuse_custom_calls(gm: GraphModule, context: LoweringContext) -> None:
    for module in gm.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            for op in (node.target, *node.args[:1]):
                kernel = context.kernel(op)
                if kernel is not None and kernel.runs_on(context.target):
                    raise DeadkvError(
                        f"{kernel.name} (node {node.name}) is a Neuron kernel on {context.target.name} and cannot run "
                        "on the CPU: choose target inf2, where it is plain HLO"
                    )


def _values(program: Program, parameters: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    missing = [name for name in program.entries if name not in parameters]
    if missing:
        raise DeadkvError(f"no value was given for the parameter {missing[0]!r}")
    tensors = {**program.inputs, **{name: parameters[name] for name in program.entries}}
    return {name: to_numpy(tensor, name) for name, tensor in tensors.items()}


def _compiled(program: Program, names: Sequence[str], context: LoweringContext) -> jax.stages.Wrapped:
    def run(*values: Array) -> tuple[list[Array], dict[str, Array]]:
        return program.run(dict(zip(names, values, strict=True)), context)

    return jax.jit(run, keep_unused=True)


def _outputs(arrays: Sequence[Array], program: Program) -> tuple[Tensor, ...]:
    dtypes = program.output_dtypes
    return tuple(_tensor(array, dtype) for array, dtype in zip(arrays, dtypes, strict=True))


def _written(arrays: Mapping[str, Array], program: Program) -> dict[str, Tensor]:
    tensors = {**program.inputs, **program.entries}
    return {name: _tensor(array, tensors[name].dtype) for name, array in sorted(arrays.items())}


def _tensor(array: Array, dtype: torch.dtype | None) -> Tensor:
    return to_tensor(np.asarray(array), to_torch(array.dtype) if dtype is None else dtype)
