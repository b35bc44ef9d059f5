"""The aten graph that functorch's `make_fx` records. It keeps dead code and in-place writes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch._guards import TracingContext, tracing
from torch.fx.experimental import proxy_tensor

from tracing.capture.outputs import flat_outputs, returned
from tracing.capture.traced import Input, Registered, Source, Subject, Traced


def trace(subject: Subject) -> Traced:
    """Record every aten call of one run on the stand-ins, which become placeholders.

    The context is where torch remembers the bodies of regions: calls of one region share one, as with `torch.export`.
    """
    inputs, state = subject.inputs, subject.state
    sources: list[Source] = [Registered(name) for name in state.fakes]
    sources += [Input(index) for index, _ in inputs.tensors()]
    tensors = [*state.fakes.values(), *(tensor for _, tensor in inputs.tensors())]

    def call(*_: Tensor) -> list[object]:
        return flat_outputs(subject.model(*inputs.args))

    with state.mode, torch.no_grad(), tracing(TracingContext(state.mode)):
        module = proxy_tensor.make_fx(call, record_stack_traces=subject.stack_traces)(*tensors)
    placeholders = module.graph.find_nodes(op="placeholder")
    return Traced(module, dict(zip(placeholders, sources, strict=True)), returned(module.graph))
