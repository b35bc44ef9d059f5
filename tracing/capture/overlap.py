"""In-place writes into expanded tensors: eager torch refuses them, but tracing on fake tensors may not notice."""

from __future__ import annotations

from collections.abc import Iterator
from operator import setitem
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import Graph, Node
from torch.utils._python_dispatch import TorchDispatchMode

from tracing.capture.traced import Subject


def refuse_overlapping_writes(graph: Graph, subject: Subject) -> None:
    """Raise what eager torch would raise, on the line of the model that writes.

    The graph only says that there may be such a write (`x[:, 0] = y` on an expanded `x` can be sound), so the
    model then runs once more, on its stand-ins, with every write watched.

    Raises:
        RuntimeError: an element of the written tensor shares its memory with another one.
    """
    if any(_overlaps(value) for node in graph.nodes for value in _written_values(node)):
        with _WatchWrites():  # type: ignore[no-untyped-call]
            subject.run()


class _WatchWrites(TorchDispatchMode):  # type: ignore[no-untyped-call]
    supports_higher_order_operators = True

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if isinstance(func, OpOverload) and any(_overlaps(value) for value in _written(func, args)):
            raise RuntimeError("more than one element of the written-to tensor refers to a single memory location")
        return func(*args, **(kwargs or {}))


def _overlaps(value: object) -> bool:
    """Whether a dimension is expanded, so that several elements are one."""
    if not isinstance(value, Tensor):
        return False
    return any(step == 0 and size > 1 for size, step in zip(value.shape, value.stride(), strict=True))


def _written_values(node: Node) -> Iterator[object]:
    if isinstance(node.target, OpOverload):
        written = _written(node.target, node.args)
    else:
        in_place = node.target is setitem or (node.op == "call_method" and _is_in_place(str(node.target)))
        written = iter(node.args[:1] if in_place else ())
    for operand in written:
        if isinstance(operand, Node):
            yield operand.meta.get("val", operand.meta.get("example_value"))


def _is_in_place(method: str) -> bool:
    return method.endswith("_") and not method.endswith("__")


def _written(op: OpOverload, args: tuple[Any, ...]) -> Iterator[Any]:
    """The positional operands whose data an aten op overwrites; a custom op says itself what it can write to."""
    if op.namespace == "aten" and op._schema.is_mutable and torch.Tag.inplace_view not in op.tags:
        for argument, operand in zip(op._schema.arguments, args, strict=False):
            if argument.is_write:
                yield operand
