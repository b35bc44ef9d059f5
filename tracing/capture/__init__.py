"""Capture: a model and example inputs in, a `torch.fx.GraphModule` in one normal form out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn
from torch.fx import GraphModule

from passes.errors import DeadkvError
from tracing.capture import dynamo, export, make_fx
from tracing.capture.errors import one_line
from tracing.capture.fake import fake_state, new_fake_mode, swapped
from tracing.capture.info import CaptureInfo, declared_aliases, find_aliases
from tracing.capture.inputs import bind_inputs
from tracing.capture.normalize import normal_form
from tracing.capture.overlap import refuse_overlapping_writes
from tracing.capture.progress import spinner
from tracing.capture.traced import Frontend, Subject
from tracing.collection import collection_paused

__all__ = ["FRONTENDS", "CaptureInfo", "capture", "spinner"]

FRONTENDS: Mapping[str, Frontend] = {"make_fx": make_fx.trace, "export": export.trace, "dynamo": dynamo.trace}


@collection_paused()
def capture(
    model: Callable[..., Any],
    example_inputs: Sequence[Any],
    *,
    frontend: str = "make_fx",
    aliases: Mapping[nn.Parameter, int] | None = None,
    progress: Callable[[str], None] | None = None,
    stack_traces: bool = False,
) -> GraphModule:
    """Record one call of `model` as a graph, on fake tensors: no weights are needed, none are changed.

    The graph has one normal form, whichever frontend recorded it. Placeholders are the inputs, in order and named
    after the parameters of `forward`, used or not (an input in a container is a placeholder for each leaf, such as
    `past_0`; one that is no tensor is a constant of the graph and an unused placeholder). Parameters and buffers
    are get_attr nodes under their own names, one for each consumer; the module holds the very same objects, used
    or not. Outputs are one flat list. `node.meta["val"]` is a fake tensor for each tensor. Dead code is kept.

    Args:
        model: a module, or a function of tensors. Left as it was. Parameters may be on "meta", as may inputs.
        example_inputs: the positional inputs; shapes and dtypes count, values do not.
        frontend: "make_fx" (aten), "export" (the training IR of torch.export, aten) or "dynamo" (what a backend
            of torch.compile is given: torch functions and tensor methods).
        aliases: for a parameter, the index of the flat output that is its new value, as
            `torch_neuronx` and NxD take them (`input_output_aliases`).
        progress: called with the name of each stage.
        stack_traces: with "make_fx", record the source lines of each node, which takes about a quarter longer; the
            other frontends always do.

    Returns:
        A GraphModule that takes the flat inputs; `meta["capture"]` is its `CaptureInfo`.

    Raises:
        DeadkvError: the inputs do not fit, an alias is wrong, or the model cannot be traced.
    """
    if frontend not in FRONTENDS:
        raise DeadkvError(f"unknown frontend {frontend!r}; give one of {', '.join(FRONTENDS)}")
    report = progress or (lambda stage: None)
    report("stand-ins")
    mode = new_fake_mode()
    state = fake_state(model, mode)
    declared = declared_aliases(aliases, state)
    subject = Subject(model, state, bind_inputs(model, example_inputs, mode), stack_traces)
    report(f"tracing with {frontend}")
    with swapped(model, state), one_line(frontend, subject.run):
        traced = FRONTENDS[frontend](subject)
        refuse_overlapping_writes(traced.module.graph, subject)
    report("normal form")
    module = normal_form(traced, subject, model)
    module.meta["capture"] = CaptureInfo(
        frontend=frontend,
        inputs=subject.inputs.names,
        num_outputs=len(traced.outputs),
        aliases=find_aliases(module, state, declared),
    )
    module.graph.lint()
    return module
