"""The graph `torch.export` records, before any decomposition: in-place writes are still in-place writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, InputSpec, OutputKind

from passes.errors import DeadkvError
from tracing.capture.outputs import returned
from tracing.capture.traced import Constant, Input, Registered, Source, Subject, Traced


class _Module(nn.Module):
    """A plain callable as the module `torch.export` asks for."""

    def __init__(self, call: Callable[..., Any]) -> None:
        super().__init__()
        self.call = call

    def forward(self, *args: Any) -> Any:
        return self.call(*args)


def trace(subject: Subject) -> Traced:
    """Export non-strictly: a strict export runs Dynamo first, which is a frontend of its own here."""
    model = subject.model if isinstance(subject.model, nn.Module) else _Module(subject.model)
    with torch.no_grad():
        program = torch.export.export(model, subject.inputs.args, strict=False)
    placeholders = program.graph.find_nodes(op="placeholder")
    sources = dict(zip(placeholders, _sources(program, subject), strict=True))
    return Traced(program.graph_module, sources, tuple(_outputs(program)))


def _sources(program: ExportedProgram, subject: Subject) -> Iterator[Source]:
    position = 0
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            yield Input(position)
            position += 1
        else:
            yield _state_source(program, subject, spec)


def _state_source(program: ExportedProgram, subject: Subject, spec: InputSpec) -> Source:
    name = spec.target or ""
    if spec.kind in (InputKind.PARAMETER, InputKind.BUFFER):
        registered = subject.state.name_of(program.state_dict.get(name, program.constants.get(name)))
        return Registered(registered or name)
    if spec.kind is InputKind.CONSTANT_TENSOR:
        return Constant(program.constants[name])
    raise DeadkvError(f"the model uses {name!r}, an {spec.kind.name.lower()}; pass it as a tensor or use make_fx")


def _outputs(program: ExportedProgram) -> Iterator[object]:
    for spec, value in zip(program.graph_signature.output_specs, returned(program.graph), strict=True):
        if spec.kind is OutputKind.USER_OUTPUT:
            yield value
