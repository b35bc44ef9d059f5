"""A model as a pruned GraphModule with its parameters and inputs, whose outputs come in the model's containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.fx import GraphModule

from passes import DeadkvError, PassPipeline, PipelineResult
from tracing.capture import capture
from tracing.capture.structure import output_structure, restore_structure
from tracing.dump import graph_dump


def prune_model(
    model: Callable[..., Any],
    example_inputs: Sequence[Any],
    pipeline: PassPipeline,
    *,
    frontend: str = "make_fx",
    aliases: Mapping[nn.Parameter, int] | None = None,
) -> GraphModule:
    """Capture one call of `model` and run the passes, each verified.

    The result takes the flat inputs under the names of `forward`'s parameters, holds the same Parameter objects under
    the same names, and returns what `model` does; `meta["capture"].aliases` has the aliases by name.

    Raises:
        DeadkvError: the model cannot be captured, an alias is no parameter of it, a pass drops an input, or outputs
            come in a container other than tuples, lists and dicts.
        PruneVerificationError: a pruned graph is not provably equivalent.
    """
    structure = output_structure(model, example_inputs)
    captured = capture(model, example_inputs, frontend=frontend, aliases=aliases)
    result = keeping_inputs(
        pipeline, captured, "graph",
        "a pass drops inputs, which the caller binds by position: leave out its option shrink_inputs",
    )  # fmt: skip
    restore_structure(result.graph_module, structure)
    return result.graph_module


def keeping_inputs(pipeline: PassPipeline, module: GraphModule, name: str, refusal: str) -> PipelineResult:
    """Run the passes on a graph that is dumped as `name`. Raises DeadkvError(refusal) if one of them drops an input."""
    result = pipeline(module, graph_dump(None, name))
    if not result.input_map.is_identity:
        raise DeadkvError(refusal)
    return result
