"""Puts the passes in front of any torch.compile backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.fx import GraphModule
from torch.fx.passes.infra.pass_base import PassBase

from passes import DeadkvError, PassPipeline

Compiled = Callable[..., Any]
Backend = Callable[..., Compiled]


def with_passes(inner: str | Backend, passes: Sequence[str | PassBase]) -> Backend:
    """A torch.compile backend that runs `passes` on Dynamo's graph, verifies them, and calls `inner`.

    torch.compile(model, backend=with_passes("neuron", ["prune-prefix-cache{policy=liveness}"]))

    Inputs that a pass drops (`shrink_inputs`) are given to neither `inner` nor what it compiles.

    Args:
        inner: the backend that compiles, by name or as a callable. Options of torch.compile are passed on to it.
        passes: passes to run, as objects or text.

    Raises:
        DeadkvError: unknown pass or option, or no backend of that name.
    """
    pipeline = PassPipeline(passes)
    compiler = _backend(inner)

    def compile_pruned(graph_module: GraphModule, example_inputs: list[Tensor], **options: Any) -> Compiled:
        result = pipeline(graph_module)
        inputs = result.input_map
        compiled = compiler(result.graph_module, list(inputs.select(example_inputs)), **options)
        return compiled if inputs.is_identity else lambda *args: compiled(*inputs.select(args))

    return compile_pruned


def _backend(inner: str | Backend) -> Backend:
    if callable(inner):
        return inner
    from torch._dynamo.backends.registry import lookup_backend  # Dynamo takes two seconds to import
    from torch._dynamo.exc import InvalidBackend

    try:
        found: Backend = lookup_backend(inner)
    except InvalidBackend as error:
        raise DeadkvError(f"no torch.compile backend {inner!r}: install the package that brings it") from error
    return found
