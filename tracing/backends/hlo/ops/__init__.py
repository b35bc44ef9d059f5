"""How each operation is written in HLO: one table a kind, keyed by the aten overload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from tracing.backends.hlo.ops import (
    assembly,
    attention,
    binary,
    checks,
    factories,
    indexing,
    matmul,
    normalization,
    reductions,
    sorting,
    unary,
    views,
)

_KINDS = (
    unary,
    binary,
    views,
    assembly,
    reductions,
    normalization,
    sorting,
    indexing,
    matmul,
    attention,
    factories,
    checks,
)

LOWERINGS: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {op: lowering for kind in _KINDS for op, lowering in kind.LOWERINGS.items()}
)
