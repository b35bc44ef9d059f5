"""The torch-level graph a Dynamo backend is given: torch functions, tensor methods, operators."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor
from torch._C._dynamo.eval_frame import reset_code
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Graph, GraphModule, Node

from passes.errors import DeadkvError
from tracing.capture.outputs import flat_outputs, returned
from tracing.capture.traced import Constant, Input, Registered, Source, Subject, Traced

# What later releases do by default: `.item()` and `nonzero` are nodes, as they are with the other frontends.
_VALUES_IN_GRAPH = {"capture_scalar_outputs": True, "capture_dynamic_output_shape_ops": True}


def trace(subject: Subject) -> Traced:
    """Compile with a recording backend, call once, and read off what each argument and each output was."""
    recorder = _Recorder()
    try:
        outputs = flat_outputs(_call_compiled(subject, recorder))
        return _traced(recorder, outputs, subject)
    finally:
        recorder.forget()


def _traced(recorder: _Recorder, outputs: Sequence[object], subject: Subject) -> Traced:
    inputs = {id(tensor): Input(index) for index, tensor in subject.inputs.tensors()}
    module = recorder.module or _no_calls()
    placeholders = module.graph.find_nodes(op="placeholder")
    sources = {
        node: _source(value, subject, inputs) for node, value in zip(placeholders, recorder.arguments, strict=True)
    }
    results = {id(value): node for value, node in recorder.results}
    return Traced(
        module=module,
        sources=sources,
        outputs=tuple(results.get(id(value)) or _output(value, subject, inputs) for value in outputs),
    )


def _no_calls() -> GraphModule:
    graph = Graph()
    graph.output(())
    return GraphModule({}, graph)


@dataclass
class _Recorder:
    """A Dynamo backend that keeps the graph, its arguments, and for each result the node behind it.

    A model without a tensor operation never reaches a backend: there is no module. Dynamo holds every backend that it
    was ever given, so this one must not hold the graph for longer than it is read.
    """

    module: GraphModule | None = None
    arguments: tuple[object, ...] = ()
    results: tuple[tuple[object, Node], ...] = ()

    def forget(self) -> None:
        """Let go of everything."""
        self.module, self.arguments, self.results = None, (), ()

    def __call__(self, module: GraphModule, _: Sequence[Tensor]) -> Callable[..., tuple[object, ...]]:
        self.module = module
        return partial(self._run, module)

    def _run(self, module: GraphModule, *arguments: object) -> tuple[object, ...]:
        self.arguments = arguments
        self.results = tuple((_token(node), node) for node in returned(module.graph))
        return tuple(value for value, _ in self.results)


def _token(node: Node) -> object:
    """A tensor that can only be this result: two nodes may return one and the same value."""
    value = node.meta["example_value"]
    return value.detach() if isinstance(value, Tensor) else value


def _frame(model: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    return model(*args)


def _call_compiled(subject: Subject, recorder: _Recorder) -> object:
    import torch._dynamo.config

    compiled = torch.compile(
        _frame, backend=recorder, fullgraph=True, dynamic=False, options={"guard_filter_fn": _no_guards}
    )
    try:
        with torch.no_grad(), torch._dynamo.config.patch(_VALUES_IN_GRAPH):
            return compiled(subject.model, subject.inputs.args)
    finally:
        reset_code(_frame.__code__)  # else a ninth capture would hit Dynamo's recompile limit


def _no_guards(guards: Sequence[object]) -> list[bool]:
    """The frame runs once, so none is needed; those on built-in functions would never be freed."""
    return [False] * len(guards)


def _output(value: object, subject: Subject, inputs: Mapping[int, Input]) -> object:
    return _source(value, subject, inputs) if isinstance(value, Tensor) else value


def _source(value: object, subject: Subject, inputs: Mapping[int, Input]) -> Source:
    if id(value) in inputs:
        return inputs[id(value)]
    if isinstance(value, Tensor) and not isinstance(value, FakeTensor):
        return Constant(value)
    name = subject.state.name_of(value)
    if name is not None:
        return Registered(name)
    raise DeadkvError(
        f"Dynamo ran the model without recording a {type(value).__name__}; unset TORCHDYNAMO_DISABLE, or use the "
        "frontend make_fx"
    )
