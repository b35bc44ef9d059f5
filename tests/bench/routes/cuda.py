"""The FX graph compiled by torch.compile for a GPU, where the attention op runs its torch reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from tests.bench.benchmark import Skipped
from tests.bench.routes.subject import Subject
from tests.bench.routes.timing import timed


def require() -> None:
    """Raises Skipped without a CUDA device."""
    if not torch.cuda.is_available():
        raise Skipped("torch.cuda is not available: no CUDA device, or a torch without CUDA")


def measure(subject: Subject) -> dict[str, dict[str, Any]]:
    """For each graph: time, time to compile, and most memory held beside weights, pools and inputs."""
    with torch.no_grad():
        compiled = {name: _compiled(gm, subject.inputs) for name, gm in subject.graphs.items()}
        times = timed({name: step for name, (step, _) in compiled.items()})
    return {name: {**said, **times[name]} for name, (_, said) in compiled.items()}


def _compiled(gm: GraphModule, inputs: Sequence[Tensor]) -> tuple[Callable[[], None], dict[str, Any]]:
    torch._dynamo.reset()
    run = torch.compile(gm, fullgraph=True)

    def step() -> None:
        run(*inputs)
        torch.cuda.synchronize()

    started = perf_counter()
    step()
    compile_ms = 1e3 * (perf_counter() - started)
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    step()
    return step, {"compile_ms": round(compile_ms, 1), "temp_bytes": torch.cuda.max_memory_allocated() - held}
