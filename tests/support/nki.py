"""A stand-in for the higher-order operator `nki_kernel_wrapper` of TorchNeuron and vLLM Neuron.

It behaves as `nki_hop.py` there does: Dynamo records every argument of a kernel that is not compiled yet; make_fx
records a compiled one, with its constants in a side table and its writes in `operand_output_aliases` only. "Compiling"
runs the kernel, a Python function over tensors, on meta tensors. Run for real it writes the aliased operands in place.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._dynamo import allow_in_graph
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import (
    ProxyTorchDispatchMode,
    disable_proxy_modes_tracing,
    track_tensor_tree,
)
from torch.utils import _pytree as pytree

from tests.support.builder import GraphBuilder


class KernelRegistry:
    """The side table, with the table names of vLLM Neuron."""

    def __init__(self) -> None:
        self.funcs: dict[int, Callable[..., Any]] = {}
        self.arg_names: dict[int, list[str]] = {}
        self.default_args: dict[int, dict[str, Any]] = {}
        self.constant_args: dict[int, dict[str, Any]] = {}

    def add(self, function: Callable[..., Any]) -> int:
        known = [index for index, found in self.funcs.items() if found is function]
        if known:
            return known[0]
        index = len(self.funcs)
        parameters = inspect.signature(function).parameters
        self.funcs[index], self.arg_names[index] = function, list(parameters)
        self.default_args[index] = {n: p.default for n, p in parameters.items() if p.default is not p.empty}
        return index


kernel_registry = KernelRegistry()


class NKIKernelWrapper(HigherOrderOperator):
    """Keyword arguments only, as the real one."""

    def __init__(self) -> None:
        super().__init__("nki_kernel_wrapper", cacheable=True)

    def __call__(
        self,
        kernel_idx: int,
        grid: Sequence[int],
        backend_config: str,
        operand_output_aliases: Mapping[int, int],
        args: Sequence[Any],
        arg_names: Sequence[str],
        constant_args_key: int,
    ) -> Any:
        return super().__call__(
            kernel_idx=kernel_idx,
            grid=grid,
            backend_config=backend_config,
            operand_output_aliases=operand_output_aliases,
            args=args,
            arg_names=arg_names,
            constant_args_key=constant_args_key,
        )


nki_kernel_wrapper = allow_in_graph(NKIKernelWrapper())
for key in ("PythonDispatcher", "PythonTLSSnapshot", "ADInplaceOrView", "BackendSelect", "AutocastCPU", "AutogradCPU"):
    nki_kernel_wrapper.fallthrough(getattr(DispatchKey, key))


def _run(kernel_idx: int, args: Sequence[Any], arg_names: Sequence[str], constant_args_key: int) -> Any:
    constants = kernel_registry.constant_args.get(constant_args_key, {})
    return kernel_registry.funcs[kernel_idx](**{**constants, **dict(zip(arg_names, args, strict=True))})


@nki_kernel_wrapper.py_impl(DispatchKey.CPU)
def _cpu(*, kernel_idx: int, args: Any, arg_names: Any, constant_args_key: int, **_: Any) -> Any:
    return _run(kernel_idx, args, arg_names, constant_args_key)


def _compiled(kernel_idx: int, args: Any, arg_names: Any, constant_args_key: int) -> tuple[Any, str, dict[int, int]]:
    """Meta results, the compiled kernel's text, and which tensor operand is which result."""
    with unset_fake_temporarily():
        metas = [torch.empty_like(a, device="meta") if isinstance(a, Tensor) else a for a in args]
        results = _run(kernel_idx, metas, arg_names, constant_args_key)
    leaves = pytree.tree_leaves(results)
    tensors = [meta for meta in metas if isinstance(meta, Tensor)]
    aliases = {at: to for at, t in enumerate(tensors) for to, leaf in enumerate(leaves) if leaf is t}
    return results, f"compiled {kernel_registry.funcs[kernel_idx].__name__}", aliases


@nki_kernel_wrapper.py_impl(FakeTensorMode)
def _fake(mode: FakeTensorMode, *, kernel_idx: int, args: Any, arg_names: Any, constant_args_key: int, **_: Any) -> Any:
    results, _config, _aliases = _compiled(kernel_idx, args, arg_names, constant_args_key)
    with mode:
        return pytree.tree_map(lambda t: torch.empty(t.shape, dtype=t.dtype), results)


@nki_kernel_wrapper.py_impl(ProxyTorchDispatchMode)
def _proxy(
    mode: ProxyTorchDispatchMode,
    *,
    kernel_idx: int,
    grid: Any,
    args: Any,
    arg_names: Any,
    constant_args_key: int,
    **_: Any,
) -> Any:
    named = dict(zip(arg_names, args, strict=True))
    constants = {name: value for name, value in named.items() if not isinstance(value, Tensor)}
    constant_args_key = 1000 + len(kernel_registry.constant_args)
    kernel_registry.constant_args[constant_args_key] = constants
    tensors = {name: value for name, value in named.items() if name not in constants}
    _results, config, aliases = _compiled(kernel_idx, [*tensors.values()], [*tensors], constant_args_key)
    given = {
        "kernel_idx": kernel_idx,
        "grid": grid,
        "backend_config": config,
        "operand_output_aliases": aliases,
        "args": tuple(tensors.values()),
        "arg_names": list(tensors),
        "constant_args_key": constant_args_key,
    }
    with disable_proxy_modes_tracing():
        out = nki_kernel_wrapper(**given)
    proxies = pytree.tree_map(mode.tracer.unwrap_proxy, given)
    name = f"nki_{kernel_registry.funcs[kernel_idx].__name__}_proxy"
    proxy = mode.tracer.create_proxy("call_function", nki_kernel_wrapper, (), proxies, name=name)
    return track_tensor_tree(out, proxy, constant=None, tracer=mode.tracer)


def nki(function: Callable[..., Any]) -> Callable[..., Any]:
    """The kernel as model code calls it: every argument in signature order, not compiled."""
    index = kernel_registry.add(function)
    names, defaults = kernel_registry.arg_names[index], kernel_registry.default_args[index]

    def call(*args: Any, **kwargs: Any) -> Any:
        given = {**defaults, **kwargs}
        for position, value in enumerate(args):
            given[names[position]] = value
        return nki_kernel_wrapper(
            kernel_idx=index,
            grid=[],
            backend_config="",
            operand_output_aliases={},
            args=tuple(given[name] for name in names),
            arg_names=names,
            constant_args_key=-1,
        )

    return call


def kernel_node(
    build: GraphBuilder,
    name: str,
    operands: Mapping[str, Any],
    *,
    results: Sequence[Node],
    kernel_idx: int = 10_000,
    aliases: Mapping[int, int] | None = None,
    config: str = "",
) -> Node:
    """A hand-built call of a kernel that this process does not know, named as tracing names it.

    Its results have the shapes of `results`.
    """
    node = build.graph.create_node(
        "call_function",
        nki_kernel_wrapper,
        (),
        {
            "kernel_idx": kernel_idx,
            "grid": [],
            "backend_config": config,
            "operand_output_aliases": dict(aliases or {}),
            "args": tuple(operands.values()),
            "arg_names": list(operands),
            "constant_args_key": -1,
        },
        name=f"{name}_proxy",
    )
    node.meta["val"] = tuple(result.meta["val"] for result in results)
    return node


def result(build: GraphBuilder, node: Node, index: int) -> Node:
    """One result of a kernel call."""
    taken = build.graph.call_function(operator.getitem, (node, index))
    taken.meta["val"] = node.meta["val"][index]
    return taken
