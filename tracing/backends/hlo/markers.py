"""Boundary markers in HLO: an optimization barrier, which hands its operands through and keeps their order."""

from __future__ import annotations

from typing import Any

from jax import lax
from torch.utils import _pytree as pytree

from tracing.backends.hlo.arrays import Array


def barrier(op: Any, args: Any, kwargs: Any) -> Any:
    """The results of a marker, which are its lanes: the array operands in order."""
    lanes = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Array)]
    results = list(lax.optimization_barrier(tuple(lanes)))  # type: ignore[no-untyped-call]
    is_single = [str(returned.type) for returned in op._schema.returns] == ["Tensor"]
    return results[0] if is_single else results
