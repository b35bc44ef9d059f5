"""Counts what the operators of a torch program read and write, and how much memory it holds at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.fx import GraphModule
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten

_READS_BY_INDEX = frozenset((aten.index_select.default, aten.index.Tensor, aten.gather.default, aten.embedding.default))
"""These read as many elements of their source as they return."""


class ByteCounter(TorchDispatchMode):
    """While it is active, sizes of the operands and results of every operator that makes or writes a tensor.

    This is what operators are given, not what reaches memory: a view counts nothing, an expanded operand counts what
    is stored of it, a read by index as much as it returns. Operators in `opaque` count nothing, as in XLA's cost
    analysis. The bodies of higher-order operators count each time they run.

    Attributes:
        bytes: read and written so far.
        peak_bytes: most bytes held at once by tensors made while it was active.
    """

    supports_higher_order_operators = True

    def __init__(self, opaque: Iterable[OpOverload] = ()) -> None:
        super().__init__()
        self.bytes = self.peak_bytes = 0
        self._opaque = frozenset(opaque)
        self._held: dict[StorageWeakRef, int] = {}

    def __torch_dispatch__(
        self, func: Any, types: Sequence[Any], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not isinstance(func, OpOverload):
            with self._counting_bodies(args):
                return func(*args, **kwargs)
        results = func(*args, **kwargs)
        operands = _tensors((args, kwargs))
        made = _made(func, operands, _tensors(results))
        self._hold(made)
        if made and func not in self._opaque:
            self.bytes += _read(func, operands, made) + sum(map(_size, made))
        return results

    @contextmanager
    def _counting_bodies(self, args: Sequence[Any]) -> Iterator[None]:
        """Makes the graphs among a higher-order operator's arguments run under this mode again."""
        bodies = [leaf for leaf in pytree.tree_leaves(args) if isinstance(leaf, GraphModule)]
        with ExitStack() as hooks:
            for body in bodies:
                hooks.callback(body.register_forward_pre_hook(self._enter).remove)
                hooks.callback(body.register_forward_hook(self._leave).remove)
            yield

    def _enter(self, body: GraphModule, args: Any) -> None:
        self.__enter__()

    def _leave(self, body: GraphModule, args: Any, results: Any) -> None:
        self.__exit__(None, None, None)

    def _hold(self, made: Sequence[Tensor]) -> None:
        self._held = {held: size for held, size in self._held.items() if not held.expired()}
        for tensor in made:
            storage = tensor.untyped_storage()
            self._held.setdefault(StorageWeakRef(storage), storage.nbytes())
        self.peak_bytes = max(self.peak_bytes, sum(self._held.values()))


def _tensors(values: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(values) if isinstance(leaf, Tensor)]


def _made(func: OpOverload, operands: Sequence[Tensor], results: Sequence[Tensor]) -> list[Tensor]:
    """The results that are no views of an operand; all of them where the operator writes in place."""
    if func._schema.is_mutable:
        return list(results)
    given = {operand.untyped_storage()._cdata for operand in operands}
    return [result for result in results if result.untyped_storage()._cdata not in given]


def _read(func: OpOverload, operands: Sequence[Tensor], made: Sequence[Tensor]) -> int:
    if func in _READS_BY_INDEX:
        return sum(map(_size, made)) + sum(map(_size, operands[1:]))
    return sum(map(_size, operands))


def _size(tensor: Tensor) -> int:
    """Bytes of the elements that are stored, each once."""
    sizes = (size for size, stride in zip(tensor.shape, tensor.stride(), strict=True) if stride)
    return torch.Size(sizes).numel() * tensor.element_size()
