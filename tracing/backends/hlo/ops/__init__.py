"""How each operation is written in HLO: one table a kind, keyed by the aten overload."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from tracing.backends.hlo.ops import attention, checks, elementwise, factories, indexing, matmul, reductions, views

LOWERINGS: Mapping[Any, Callable[..., Any]] = MappingProxyType(
    {
        **elementwise.LOWERINGS,
        **views.LOWERINGS,
        **reductions.LOWERINGS,
        **indexing.LOWERINGS,
        **matmul.LOWERINGS,
        **attention.LOWERINGS,
        **factories.LOWERINGS,
        **checks.LOWERINGS,
    }
)
