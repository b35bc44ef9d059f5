"""A graph made ready to run on XLA tensors: factories make XLA tensors, kernels are custom calls, markers barriers.

torch_xla runs the Python implementation of a custom operator below its functionalization, where views are lost: under
torch_xla 2.9, `x.permute(1, 0).reshape(-1)` inside one gives the elements of `x` in their old order. So no such
implementation may run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule, Node
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree
from torch_xla import _XLAC

from passes.errors import DeadkvError
from tracing.backends.hlo.proto import NEURON_KERNEL
from tracing.backends.kernels import STAND_IN_API_VERSION, Kernel, bind_operands, is_marker, kernel_of, qualified_name
from tracing.graph.targets import OpaqueTarget

_XLA = torch.device("xla")
_PLAIN = ("aten", "prims", "prim")
_has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key


def on_xla(gm: GraphModule) -> GraphModule:
    """Edits `gm` and the graphs nested in it; returns `gm`. The kernels that are left in it must be the target's own.

    Raises DeadkvError for a custom operator without an XLA lowering.
    """
    for module in gm.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.nodes:
                _edit(node)
            module.recompile()
    return gm


def _edit(node: Node) -> None:
    node.args = map_aggregate(node.args, _device)
    node.kwargs = map_aggregate(node.kwargs, _device)
    kernel = kernel_of(node.target)
    if kernel is not None and isinstance(node.target, OpOverload):
        node.target = _custom_call(kernel, node.target)
    elif isinstance(node.target, OpOverload) and is_marker(node.target):
        node.target = _barrier(node.target)
    elif not _lowers(node.target):
        raise DeadkvError(
            f"torch_xla has no lowering for {getattr(node.target, 'name', node.target)} (node {node.name}): trace the "
            "model with plain torch in its place"
        )


def _lowers(op: Any) -> bool:
    """Whether torch_xla lowers an operator itself or meets it as the operators that it is composed of."""
    if not isinstance(op, OpOverload):
        return not isinstance(op, OpaqueTarget)
    name = qualified_name(op)
    return op.namespace in _PLAIN or _has_kernel(name, "XLA") or _has_kernel(name, "CompositeImplicitAutograd")


def _device(value: Any) -> Any:
    return _XLA if isinstance(value, torch.device) else value


def _barrier(op: OpOverload) -> Callable[..., Any]:
    """A function with the operands of a marker that hands its lanes on, all of them bound to one barrier."""
    single = [str(returned.type) for returned in op._schema.returns] == ["Tensor"]

    def barrier(*args: Any, **kwargs: Any) -> Any:
        lanes = [leaf.clone() for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        _XLAC._xla_optimization_barrier_(lanes)
        return lanes[0] if single else lanes

    return barrier


def _custom_call(kernel: Kernel, op: OpOverload) -> Callable[..., Any]:
    """A function with the operands of `op` that records one custom call and copies what the kernel writes."""

    def custom_call(*args: Any, **kwargs: Any) -> Any:
        operands = bind_operands(op, args, kwargs)
        tensors = {name: value for name, value in operands.items() if isinstance(value, Tensor)}
        constants = {name: value for name, value in operands.items() if name not in tensors}
        shaped = {name: torch.empty(t.shape, dtype=t.dtype, device="meta") for name, t in tensors.items()}
        results = op(**shaped, **constants)
        own = [results] if isinstance(results, Tensor) else list(results)
        every = [*own, *(tensors[name] for name in kernel.writes)]
        made = _XLAC._xla_custom_call(
            list(tensors.values()),
            NEURON_KERNEL,
            [list(result.shape) for result in every],
            [result.dtype for result in every],
            False,  # no side effect: what it writes are results
            kernel.stand_in_config(list(tensors), constants),
            STAND_IN_API_VERSION,
            {},
        )
        for name, value in zip(kernel.writes, made[len(own) :], strict=True):
            tensors[name].copy_(value)
        return made[0] if isinstance(results, Tensor) else tuple(made[: len(own)])

    return custom_call
