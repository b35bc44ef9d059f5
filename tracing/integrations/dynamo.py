"""The passes in front of any torch.compile backend, and the backend `deadkv` that needs no import."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase

from passes import DeadkvError, PassPipeline
from tracing.dump import graph_dump

Compiled = Callable[..., Any]
Backend = Callable[..., Compiled]
INNER, PASSES = "inner", "passes"


def with_passes(inner: str | Backend, passes: Sequence[str | PassBase], *, dump: str | Path | None = None) -> Backend:
    """A torch.compile backend that runs `passes` on Dynamo's graph, verifies them, and calls `inner`.

    torch.compile(model, backend=with_passes("neuron", ["prune-prefix-cache{policy=liveness}"]))

    Inputs that a pass drops (`shrink_inputs`) are given to neither `inner` nor what it compiles. `mode` and `options`
    of torch.compile are passed on to `inner`, in the form in which torch.compile would give them to it.

    Args:
        inner: the backend that compiles, by name or as a callable.
        passes: passes to run, as objects or text.
        dump: folder for the graphs before and after each pass that changed something, by default the one that the
            environment variable DEADKV_DUMP names (`tracing.dump`).

    Raises:
        DeadkvError: unknown pass or option, or no backend of that name.
    """
    pipeline = PassPipeline(passes)
    compiler = _backend(inner)

    def compile_pruned(graph_module: GraphModule, example_inputs: Sequence[Tensor], **options: Any) -> Compiled:
        result = pipeline(graph_module, graph_dump(dump, "graph"))
        inputs = result.input_map
        compiled = compiler(result.graph_module, list(inputs.select(example_inputs)), **options)
        return compiled if inputs.is_identity else lambda *args: compiled(*inputs.select(args))

    return compile_pruned


def deadkv(
    graph_module: GraphModule,
    example_inputs: Sequence[Tensor],
    *,
    options: Mapping[str, Any] | None = None,
    **others: Any,
) -> Compiled:
    """The backend registered as "deadkv" (entry point group `torch_dynamo_backends`).

    torch.compile(model, backend="deadkv", options={"inner": "neuron", "passes": ["prune-prefix-cache"]})

    Args:
        options: `inner` ("inductor" if not given) and `passes` (`["prune-prefix-cache"]`, or one spec as text) as in
            `with_passes`; all other options, and `mode`, go to the inner backend.
    """
    given = dict(options or {})
    inner, passes = given.pop(INNER, "inductor"), given.pop(PASSES, "prune-prefix-cache")
    if inner == "deadkv":
        raise DeadkvError("backend deadkv cannot be its own inner backend: name the one that compiles")
    backend = with_passes(inner, [passes] if isinstance(passes, str | PassBase) else passes)
    return backend(graph_module, example_inputs, **others, **({"options": given} if given else {}))


def _backend(inner: str | Backend) -> Backend:
    if callable(inner):
        return inner
    if inner == "inductor":
        return _inductor
    from torch._dynamo.backends.registry import lookup_backend  # Dynamo takes two seconds to import
    from torch._dynamo.exc import InvalidBackend

    try:
        found: Backend = lookup_backend(inner)
    except InvalidBackend as error:
        raise DeadkvError(f"no torch.compile backend {inner!r}: install the package that brings it") from error
    return found


def _inductor(
    graph_module: GraphModule,
    example_inputs: Sequence[Tensor],
    *,
    mode: str | None = None,
    options: Mapping[str, Any] | None = None,
) -> Compiled:
    """Inductor takes its options as configuration, which torch.compile makes of them with this same class."""
    compiler: Any = torch._TorchCompileInductorWrapper
    compiled: Compiled = compiler(mode, options, None)(graph_module, example_inputs)
    return compiled
