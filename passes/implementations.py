"""Traces the implementation of an operator, on fake tensors, into a graph of the operators that it calls."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._decomp import decomposition_table
from torch._functorch import config as functorch_config
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.node import map_arg

from passes import metadata
from passes.contracts import EmptyTensor
from passes.ops.schema import Call
from passes.ops.signature import signature

Implementation = Callable[..., Any]


def implementations(overload: OpOverload) -> tuple[Implementation, ...]:
    """The registered decomposition and the CPU implementation of an operator, as far as they can be traced."""
    found = [decomposition_table[overload]] if overload in decomposition_table else []
    if _runs_through_dispatcher(overload):
        found.append(partial(overload.redispatch, torch._C.DispatchKeySet(torch._C.DispatchKey.CPU)))
    return tuple(found)


def _runs_through_dispatcher(overload: OpOverload) -> bool:
    """Whether the CPU implementation calls torch operators only: it is Python, or composite.

    A kernel in C++ may read elements without a trace. `torch.library._impls` names what was registered from Python.
    """
    name = overload.name()  # type: ignore[no-untyped-call]
    registered = name.removesuffix(".default").replace("::", "/")
    has_kernel = partial(torch._C._dispatch_has_kernel_for_dispatch_key, name)
    if has_kernel("CPU"):
        return f"{registered}/CPU" in torch.library._impls
    if has_kernel("CompositeImplicitAutograd"):
        return True
    return f"{registered}/CompositeExplicitAutograd" in torch.library._impls


@dataclass(frozen=True)
class Traced:
    """A traced implementation.

    Attributes:
        module: the graph.
        operands: its inputs, and the operand of the call that each belongs to.
    """

    module: GraphModule
    operands: Mapping[Node, str]

    def signature(self) -> list[Any]:
        """What the graph computes, in a form that compares equal for equal graphs whatever inputs they ignore."""
        names: dict[Node, Any] = {node: ("operand", name) for node, name in self.operands.items()}
        lines: list[Any] = []
        for node in self.module.graph.nodes:
            if node not in names:
                names[node] = ("value", len(lines))
                named: Any = lambda used: _Named(names[used])  # noqa: E731
                lines.append((node.op, self._target(node), repr(map_arg((node.args, node.kwargs), named))))
        return lines

    def _target(self, node: Node) -> Any:
        if node.op != "get_attr":
            return node.target
        held = getattr(self.module, str(node.target))
        value = held.constant if isinstance(held, FakeTensor) else held
        return repr(value.tolist()) if isinstance(value, Tensor) else repr(value)


@dataclass(frozen=True)
class _Named:
    name: Any


def trace(
    implementation: Implementation, call: Call, stand_ins: Mapping[str, EmptyTensor | None] | None = None
) -> Traced | None:
    """Traces `implementation` as `call` calls it, with some operands replaced; None if it cannot be traced.

    It cannot if it branches on elements, reads one out, or needs memory that fake tensors do not have.
    """
    with functorch_config.patch(fake_tensor_allow_unsafe_data_ptr_access=False):
        mode = FakeTensorMode()
    with mode:
        arguments = {name: _replaced(name, value, stand_ins or {}) for name, value in call.bound.items()}
    names, tensors = _flat(arguments)

    def run(*given: Tensor) -> Any:
        rest = iter(given)
        return _called(implementation, call, {n: _unflat(value, rest) for n, value in arguments.items()})

    try:
        with mode, torch.no_grad(), _quiet():
            module = make_fx(run)(*tensors)
    except Exception:
        return None
    return Traced(module, dict(zip(module.graph.find_nodes(op="placeholder"), names, strict=True)))


def _replaced(name: str, value: Any, stand_ins: Mapping[str, EmptyTensor | None]) -> Any:
    if name not in stand_ins:
        return _fake(value)
    made = stand_ins[name]
    tensor = metadata.fake(value)
    return None if made is None or tensor is None else torch.empty(made.shape, dtype=tensor.dtype)


def _fake(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_fake(item) for item in value]
    if not isinstance(value, Node):
        return value
    tensor = metadata.fake(value)
    assert tensor is not None
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype)


def _flat(arguments: Mapping[str, Any]) -> tuple[list[str], list[Tensor]]:
    found = [(name, tensor) for name, value in arguments.items() for tensor in _tensors(value)]
    return [name for name, _ in found], [tensor for _, tensor in found]


def _tensors(value: Any) -> Iterator[Tensor]:
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, Tensor):
            yield item


def _unflat(value: Any, rest: Iterator[Tensor]) -> Any:
    if isinstance(value, list):
        return [_unflat(item, rest) for item in value]
    return next(rest) if isinstance(value, Tensor) else value


def _called(implementation: Implementation, call: Call, arguments: Mapping[str, Any]) -> Any:
    assert call.overload is not None
    positional = signature(call.overload).positional
    named = {name: value for name, value in arguments.items() if name not in positional}
    return implementation(*(arguments[name] for name in positional), **named)


@contextmanager
def _quiet() -> Iterator[None]:
    """Fake tensors log what they cannot run; here that is an answer, not an error."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    was, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = was
