"""Empties what torch and JAX keep for the whole process, entry by entry for each new shape or graph.

A process that captures and lowers one graph never notices them. One that does a thousand would grow with each, so a
worker, which is a process of its own, empties them after each bucket.
"""

from __future__ import annotations

import gc
import linecache
import sys
from collections.abc import Callable

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import graph_module


def _forget_sources() -> None:
    """The source text of each GraphModule that was ever compiled (torch.fx keeps it for tracebacks)."""
    graph_module._loader.eval_cache.clear()
    linecache.clearcache()


def _forget_dynamo() -> None:
    """Compiled frames, and shapes that it would trace as dynamic the next time."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def _forget_jax() -> None:
    """Traced and lowered JAX functions, by shape."""
    jax = sys.modules.get("jax")
    if jax is not None:
        jax.clear_caches()


_CACHES: tuple[Callable[[], object], ...] = (
    _forget_dynamo,
    FakeTensorMode.cache_clear,  # results of operators by shape
    _forget_sources,
    _forget_jax,
    gc.collect,
)


def empty_caches() -> None:
    """Leave nothing of earlier graphs behind, in memory or in how later ones are traced."""
    for empty in _CACHES:
        empty()
