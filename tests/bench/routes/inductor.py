"""The FX graph compiled by Inductor for the CPU: AOTAutograd, then C++."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import TracingContext, tracing
from torch._inductor import metrics
from torch._inductor.utils import fresh_cache
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, symbolic_trace
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from tests.bench.routes.subject import Subject
from tests.bench.routes.timing import timed
from tests.bench.routes.torch_kernel import call_kernel


def measure(subject: Subject) -> dict[str, dict[str, Any]]:
    """For each graph: time, number of generated kernels, and time to compile.

    Inductor's caches are empty before the graphs before and after; the edited one finds what the pruned one left there.
    """
    for graph in subject.graphs.values():
        call_kernel(graph)
    with torch.no_grad():
        _warm_up()
        with fresh_cache():
            compiled = {"before": compile_graph(subject.graphs["before"], subject.inputs)}
        with fresh_cache():
            compiled |= {name: compile_graph(subject.graphs[name], subject.inputs) for name in ("after", "edited")}
        times = timed({name: step for name, (step, _) in compiled.items()})
    return {name: {**said, **times[name]} for name, (_, said) in compiled.items()}


def compile_graph(gm: GraphModule, inputs: Sequence[Tensor]) -> tuple[Callable[[], Any], dict[str, Any]]:
    """A step of the compiled graph, and what its compilation took."""
    torch._dynamo.reset()
    metrics.reset()
    mode = FakeTensorMode(shape_env=ShapeEnv(assume_static_by_default=True))  # a loop's counter is symbolic
    started = perf_counter()
    with tracing(TracingContext(mode)):
        compiled = torch._inductor.compile(gm, list(inputs))
    elapsed = 1e3 * (perf_counter() - started)
    said = {"compile_ms": round(elapsed, 1), "kernels": metrics.generated_kernel_count}
    return partial(compiled, *inputs), said


class _Sum(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (x + 1,)


def _warm_up() -> None:
    """A first compilation also imports the compiler and starts its workers."""
    with fresh_cache():
        torch._inductor.compile(symbolic_trace(_Sum()), [torch.zeros(8)])
