"""Nested graphs as each tracer writes them: a function called as a submodule, as a region, in a loop, in a branch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._higher_order_ops.cond import cond_op
from torch._higher_order_ops.invoke_subgraph import invoke_subgraph
from torch._higher_order_ops.scan import scan as torch_scan
from torch._higher_order_ops.scan import scan_op
from torch._higher_order_ops.while_loop import while_loop as torch_while_loop
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx import Proxy
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.utils import _pytree as pytree

Function = Callable[..., Any]


def region(function: Function) -> Function:
    """`function` as a graph of its own: a submodule under symbolic_trace, else `invoke_subgraph`."""
    marked = torch.compiler.nested_compile_region(function)

    def call(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_dynamo_compiling():
            return marked(*args, **kwargs)
        proxies = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Proxy)]
        if proxies:
            return _call_module(function, proxies[0], args, kwargs)
        if get_proxy_mode() is None:
            return function(*args, **kwargs)
        return invoke_subgraph(function, function.__name__, *args)

    return call


def _call_module(function: Function, proxy: Proxy, args: Any, kwargs: Any) -> Proxy:
    tracer, name = proxy.tracer, function.__name__
    if name not in dict(tracer.root.named_children()):
        tracer.root.add_module(name, torch.fx.symbolic_trace(function))
    return tracer.create_proxy("call_module", name, args, kwargs)


def cond(predicate: Tensor, true: Function, false: Function, operands: Sequence[Tensor]) -> Any:
    """`torch.cond`, without its run of Dynamo under another tracer."""
    if torch.compiler.is_dynamo_compiling():
        return torch.cond(predicate, true, false, tuple(operands))
    return cond_op(predicate, true, false, tuple(operands))


def while_loop(condition: Function, body: Function, carried: Sequence[Tensor], others: Sequence[Tensor] = ()) -> Any:
    """The same for `while_loop`. Both functions take the carries and `others`."""
    if torch.compiler.is_dynamo_compiling():
        return torch_while_loop(lambda *c: condition(*c, *others), lambda *c: body(*c, *others), tuple(carried))
    return while_loop_op(condition, body, tuple(carried), tuple(others))


def scan(body: Function, init: Sequence[Tensor], xs: Sequence[Tensor], others: Sequence[Tensor] = ()) -> Any:
    """The same for `scan`. `body` takes carries, slices and `others`, and returns new carries and rows, in one tuple.

    So does this: a flat sequence of last carries and stacked rows.
    """
    if not torch.compiler.is_dynamo_compiling():
        return scan_op(body, list(init), list(xs), tuple(others))

    def step(carry: list[Tensor], slices: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        results = body(*carry, *slices, *others)
        return list(results[: len(init)]), list(results[len(init) :])

    last, rows = torch_scan(step, list(init), list(xs))
    return [*last, *rows]
