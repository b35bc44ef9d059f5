"""What passes between `capture`, its frontends and the normal form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from tracing.capture.fake import FakeState
from tracing.capture.inputs import Inputs


@dataclass(frozen=True)
class Input:
    """The model's input leaf with this position."""

    index: int


@dataclass(frozen=True)
class Registered:
    """A parameter or buffer, by the first name it is registered under."""

    name: str


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor the model holds or makes without registering it."""

    value: Tensor


@dataclass(frozen=True, eq=False)
class Held:
    """Anything else that the recorded module holds under this name: the body of a higher-order op, mostly."""

    target: str
    value: object


Source = Input | Registered | Constant | Held


@dataclass(frozen=True)
class Subject:
    """A callable whose parameters and buffers are stand-ins, and the stand-ins of its inputs."""

    model: Callable[..., Any]
    state: FakeState
    inputs: Inputs
    stack_traces: bool

    def run(self) -> object:
        """Call the model on the stand-ins, without recording."""
        with self.state.mode, torch.no_grad():
            return self.model(*self.inputs.args)


@dataclass(frozen=True)
class Traced:
    """A graph as its frontend recorded it.

    `sources` says what each placeholder stands for. `outputs` are the flat outputs: a node of the graph, a
    source, or a constant that is no tensor.
    """

    module: GraphModule
    sources: Mapping[Node, Source]
    outputs: tuple[object, ...]


Frontend = Callable[[Subject], Traced]
