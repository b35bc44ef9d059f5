"""Tensors that share memory: HLO parameters do not, so a write to one of them would not be seen through the other."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import groupby
from typing import Any

import numpy as np
from torch import Tensor

from passes.errors import DeadkvError

_EFFORT = 10_000
"""Bound on the search for a common element; where it does not suffice, one is assumed."""


def refuse_shared_writes(tensors: Mapping[str, Tensor], written: Collection[str]) -> None:
    """Raises DeadkvError, naming both, if one of `written` has an element in common with another of `tensors`.

    Parts of one storage that have no element in common, such as K and V of one stacked cache, are memory apart.
    """
    names = sorted(tensors, key=lambda name: (_storage(tensors[name]), name))
    for _, found in groupby(names, key=lambda name: _storage(tensors[name])):
        same = list(found)
        for name in same:
            if name in written and (others := [o for o in same if o != name and _overlap(tensors[o], tensors[name])]):
                raise DeadkvError(
                    f"{others[0]!r} shares memory with {name!r}, which the graph writes: HLO takes two tensors, "
                    "and one would miss the other's new value. Keep one, and take views of it in forward"
                )


def _storage(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _overlap(one: Tensor, other: Tensor) -> bool:
    try:
        effort: Any = _EFFORT  # numpy's stub knows only the two special values
        return bool(np.shares_memory(_Addresses(one).array, _Addresses(other).array, max_work=effort))
    except np.exceptions.TooHardError:
        return True


class _Addresses:
    """The addresses of a tensor's elements as numpy compares them. Nothing is read: a fake tensor has no memory."""

    def __init__(self, tensor: Tensor) -> None:
        size = tensor.element_size()
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "typestr": f"|V{size}",
            "shape": tuple(tensor.shape),
            "strides": tuple(size * stride for stride in tensor.stride()),
            "data": (size + tensor.storage_offset() * size, True),
        }

    @property
    def array(self) -> Any:
        return np.asarray(self)
