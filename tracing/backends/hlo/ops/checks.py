"""Asserts on metadata. What they check of dtype, shape and device held when the graph was traced with these shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


def _proven(*_: Any, **__: Any) -> None:
    return None


LOWERINGS: dict[Any, Callable[..., Any]] = {torch.ops.aten._assert_tensor_metadata.default: _proven}
