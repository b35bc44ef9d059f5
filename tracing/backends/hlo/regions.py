"""Nodes that are no aten op: picking a result, higher-order ops, and the functional form of ops that write operands."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch
from jax import lax
from torch.fx import GraphModule

from passes.errors import DeadkvError
from tracing.backends.hlo.arrays import Array, UnsupportedUseError
from tracing.backends.hlo.ops import LOWERINGS
from tracing.backends.kernels import Kernel

if TYPE_CHECKING:
    from tracing.backends.hlo.interpreter import GraphLowering

aten, higher_order = torch.ops.aten, torch.ops.higher_order


def _getitem(lowering: GraphLowering, sequence: Sequence[Any], index: int) -> Any:
    del lowering
    return sequence[index]


def _invoke_subgraph(lowering: GraphLowering, subgraph: GraphModule, _: str, *operands: Any) -> Any:
    return lowering.call_graph(subgraph, operands)


def _cond(
    lowering: GraphLowering, predicate: Any, then: GraphModule, otherwise: GraphModule, operands: Sequence[Any] = ()
) -> Any:
    if isinstance(predicate, bool):
        return lowering.call_graph(then if predicate else otherwise, operands)
    branches = [lambda *xs, graph=graph: tuple(lowering.call_graph(graph, xs)) for graph in (then, otherwise)]
    return lax.cond(predicate, *branches, *operands)


def _while_loop(
    lowering: GraphLowering,
    condition: GraphModule,
    body: GraphModule,
    carried: Sequence[Any],
    additional: Sequence[Any] = (),
) -> Any:
    return lax.while_loop(
        lambda state: lowering.call_graph(condition, (*state, *additional)),
        lambda state: tuple(lowering.call_graph(body, (*state, *additional))),
        tuple(carried),
    )


def _scan(
    lowering: GraphLowering,
    combine: GraphModule,
    init: Sequence[Any],
    xs: Sequence[Any],
    additional: Sequence[Any] = (),
) -> tuple[Any, ...]:
    """Steps along dimension 0 of `xs`; the results are the last carry and the stacked outputs."""

    def step(carry: tuple[Any, ...], slices: tuple[Any, ...]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        results = tuple(lowering.call_graph(combine, (*carry, *slices, *additional)))
        return results[: len(carry)], results[len(carry) :]

    carry, outputs = lax.scan(step, tuple(init), tuple(xs))
    return (*carry, *outputs)


@dataclass(frozen=True)
class _BaseView:
    """A written operand as a view of one of the call's base tensors."""

    base: int
    read: Callable[[Array], Array]
    write: Callable[[Array, Array], Array]


def _whole(base: int) -> _BaseView:
    return _BaseView(base, lambda x: x, lambda _, new: new)


def _slice_view(base: int, dim: int, start: int, end: int) -> _BaseView:
    read, write = LOWERINGS[aten.slice.Tensor], LOWERINGS[aten.slice_scatter.default]
    return _BaseView(base, lambda x: read(x, dim, start, end), lambda x, new: write(x, new, dim, start, end))


def _reshaped_view(base: int, size: Sequence[int], stride: Sequence[int], offset: int) -> _BaseView:
    contiguous = tuple(math.prod(size[i + 1 :]) for i in range(len(size)))

    def read(x: Array) -> Array:
        if tuple(stride) != contiguous or offset or math.prod(size) != x.size:
            raise UnsupportedUseError(f"it writes a view of size {size}, stride {stride}, offset {offset}")
        return lax.reshape(x, tuple(size))

    return _BaseView(base, read, lambda x, new: lax.reshape(new, x.shape))


def _base_view(kwargs: Mapping[str, Any], name: str) -> _BaseView:
    """Reads the view arguments that torch's auto_functionalized_v2 keeps for one operand."""
    base = kwargs[f"_{name}_base_index"]
    if f"_{name}_slice_dim" in kwargs:
        return _slice_view(base, *(kwargs[f"_{name}_slice_{key}"] for key in ("dim", "start", "end")))
    if f"_{name}_storage_offset" in kwargs:
        return _reshaped_view(base, *(kwargs[f"_{name}_{key}"] for key in ("size", "stride", "storage_offset")))
    return _whole(base)


def _auto_functionalized(lowering: GraphLowering, op: Any, **operands: Any) -> tuple[Any, ...]:
    return tuple(lowering.call_kernel(_kernel(lowering, op), op, operands))


def _auto_functionalized_v2(lowering: GraphLowering, op: Any, **kwargs: Any) -> tuple[Any, ...]:
    kernel, bases = _kernel(lowering, op), list(kwargs["_all_bases"])
    views = {name: _base_view(kwargs, name) for name in kernel.writes}
    names = [argument.name for argument in op._schema.arguments]
    operands = {name: views[name].read(bases[views[name].base]) if name in views else kwargs[name] for name in names}
    values = lowering.call_kernel(kernel, op, operands)
    for view, value in zip(views.values(), values[kernel.results :], strict=True):
        bases[view.base] = view.write(bases[view.base], value)
    return (*values[: kernel.results], *bases)


def _kernel(lowering: GraphLowering, op: Any) -> Kernel:
    kernel = lowering.context.kernel(op)
    if kernel is None:
        raise DeadkvError(f"{op} has no HLO lowering: it writes an operand and no reference of it is registered")
    return kernel


# Each rule takes the running lowering, then the node's arguments.
RULES: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        operator.getitem: _getitem,
        higher_order.invoke_subgraph: _invoke_subgraph,
        higher_order.cond: _cond,
        higher_order.while_loop: _while_loop,
        higher_order.scan: _scan,
        higher_order.auto_functionalized: _auto_functionalized,
        higher_order.auto_functionalized_v2: _auto_functionalized_v2,
    }
)
