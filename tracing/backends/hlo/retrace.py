"""Tracing to functional aten on fake tensors: no mutation, no composite op, and no dead code removed.

`torch.func.functionalize` refuses custom ops that write an operand. The functionalization that torch.export uses turns
them into the higher-order op `auto_functionalized_v2`; it lives in a private module of torch, imported here only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._decomp import core_aten_decompositions
from torch._subclasses.fake_tensor import FakeTensorMode
from torch._subclasses.functional_tensor import FunctionalTensorMode, dispatch_functionalize
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils import _pytree as pytree

from passes.errors import DeadkvError
from tracing.backends.hlo.ops import LOWERINGS

_Spec: TypeAlias = tuple[Sequence[int], torch.dtype]


def fake_tensors(specs: Iterable[_Spec]) -> list[Tensor]:
    """One contiguous fake CPU tensor for each (shape, dtype), all of one mode."""
    with FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv()):
        return [torch.empty(tuple(shape), dtype=dtype) for shape, dtype in specs]


def trace_functional(function: Callable[..., Any], inputs: Sequence[Tensor]) -> GraphModule:
    """The aten graph of `function` on fake `inputs`, functional, with composite ops that lack a lowering decomposed."""
    functional = dispatch_functionalize(function, FunctionalTensorMode())
    with torch.no_grad():
        graph: GraphModule = make_fx(functional, decomposition_table=_decompositions())(*inputs)
    return graph


def retrace(gm: GraphModule, entries: Mapping[str, Tensor], inputs: Sequence[Tensor | None]) -> GraphModule:
    """`gm` as functional aten over placeholders: its parameters and buffers `entries`, by name, then its inputs.

    An input that is None stays out of the placeholders; `gm` must not use it.

    The output is (flat outputs of gm, every placeholder's value at the end): one that was written differs from its
    placeholder. Raises DeadkvError where torch cannot trace the graph.
    """
    names = list(entries)
    runner = _Runner(gm)

    def functional(*values: Tensor) -> tuple[list[Any], tuple[Tensor, ...]]:
        swapped = {f"gm.{name}": value for name, value in zip(names, values, strict=False)}
        given = iter(values[len(names) :])
        arguments = tuple(None if example is None else next(given) for example in inputs)
        outputs = torch.func.functional_call(runner, swapped, arguments)
        return pytree.tree_leaves(outputs), values

    specs = [(tuple(t.shape), t.dtype) for t in (*entries.values(), *inputs) if t is not None]
    try:
        return trace_functional(functional, fake_tensors(specs))
    except Exception as error:  # whatever the ops of someone else's graph raise
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DeadkvError(f"{runner.place} cannot be traced to functional aten for HLO: {reason}") from error


class _Runner(nn.Module):
    """Runs a graph node by node, so that an error can say where it happened."""

    def __init__(self, gm: GraphModule) -> None:
        super().__init__()
        self.gm = gm
        self.place = "the graph"

    def forward(self, *inputs: Any) -> Any:
        return _Placed(self).run(*inputs)


class _Placed(Interpreter):
    def __init__(self, runner: _Runner) -> None:
        super().__init__(runner.gm)
        self._runner = runner

    def run_node(self, n: Node) -> Any:
        self._runner.place = f"{n.target} (node {n.name})"
        return super().run_node(n)


@cache
def _decompositions() -> dict[Any, Callable[..., Any]]:
    return {op: rule for op, rule in dict(core_aten_decompositions()).items() if op not in LOWERINGS}
