"""The project's HLO of a graph, compiled by XLA for the CPU."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from time import perf_counter
from typing import Any

import jax
from torch import Tensor
from torch.fx import GraphModule

from tests.bench.routes.subject import Subject
from tests.bench.routes.timing import timed
from tests.bench.routes.xla_kernel import run_in_jax
from tracing.backends.hlo.arrays import Array, struct
from tracing.backends.hlo.entries import used_entries

_INSTRUCTION = re.compile(r"^ +(?:ROOT )?%?[\w.-]+ = ", re.MULTILINE)

Named = Mapping[str, Any]


def compile_graph(gm: GraphModule, inputs: Sequence[Tensor]) -> tuple[jax.stages.Compiled, dict[str, Any]]:
    """The graph as a function of (weights, pools, inputs), and what XLA says of it.

    Pools are given by name, in the order in which the graph returns them, and donated: an updated pool takes the place
    of the old one.
    """
    weights, pools = entries(gm)

    def step(weights: Named, pools: Named, inputs: Sequence[Array]) -> list[Array]:
        return run_in_jax(gm, {**weights, **pools}, inputs)

    shapes = (_structs(weights), _structs(pools), [_struct(tensor) for tensor in inputs])
    started = perf_counter()
    with jax.enable_x64(False):
        lowered = jax.jit(step, donate_argnums=1, keep_unused=True).lower(*shapes)
    between = perf_counter()
    compiled = lowered.compile()
    return compiled, {
        "lower_ms": round(1e3 * (between - started), 1),
        "compile_ms": round(1e3 * (perf_counter() - between), 1),
        "bytes": int(compiled.cost_analysis()["bytes accessed"]),
        "temp_bytes": int(compiled.memory_analysis().temp_size_in_bytes),
        "hlo_bytes": len(lowered.compiler_ir("hlo").as_serialized_hlo_module_proto()),
        "instructions": len(_INSTRUCTION.findall(compiled.as_text())),
    }


def entries(gm: GraphModule) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the graph reads beside its inputs, by name: weights, and pools in the order of the outputs."""
    used = used_entries(gm)
    pools = {name: used.pop(name) for name, _ in sorted(gm.meta["capture"].aliases, key=itemgetter(1))}
    return used, pools


def _structs(tensors: Mapping[str, Tensor]) -> dict[str, jax.ShapeDtypeStruct]:
    return {name: _struct(tensor) for name, tensor in tensors.items()}


def _struct(tensor: Tensor) -> jax.ShapeDtypeStruct:
    return struct(tensor.shape, tensor.dtype)


class Steps:
    """Steps of several graphs over one set of pools, each of which takes the pools that the step before it left."""

    def __init__(self, subject: Subject) -> None:
        weights, pools = entries(subject.graphs["before"])
        self._weights = {name: jax.dlpack.from_dlpack(tensor.detach()) for name, tensor in weights.items()}
        self._pools = {name: jax.numpy.array(tensor.detach().numpy()) for name, tensor in pools.items()}
        self._inputs = [jax.numpy.array(tensor.numpy()) for tensor in subject.inputs]

    def of(self, gm: GraphModule, compiled: jax.stages.Compiled) -> Callable[[], Array]:
        """A step of one graph; it returns the logits when they are there."""
        weights = {name: self._weights[name] for name in entries(gm)[0]}

        def step() -> Array:
            logits, *updated = compiled(weights, self._pools, self._inputs)
            self._pools = dict(zip(self._pools, updated, strict=True))
            return logits.block_until_ready()

        return step


def measure(subject: Subject) -> dict[str, dict[str, Any]]:
    """For each graph: time, XLA's cost and memory analysis, sizes, and time to lower and to compile."""
    compiled = {name: compile_graph(gm, subject.inputs) for name, gm in subject.graphs.items()}
    steps = Steps(subject)
    times = timed({name: steps.of(subject.graphs[name], run) for name, (run, _) in compiled.items()})
    return {name: {**said, **times[name]} for name, (_, said) in compiled.items()}
