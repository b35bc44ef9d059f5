"""The FX graph, run by torch operator by operator."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from tests.bench.routes.byte_counter import ByteCounter
from tests.bench.routes.subject import Subject
from tests.bench.routes.timing import timed
from tests.bench.routes.torch_kernel import KERNEL, call_kernel


def measure(subject: Subject) -> dict[str, dict[str, Any]]:
    """For each graph: time, bytes of operands and results, most bytes held at once."""
    for graph in subject.graphs.values():
        call_kernel(graph)
    steps = {name: partial(graph, *subject.inputs) for name, graph in subject.graphs.items()}
    found: dict[str, dict[str, Any]] = {}
    with torch.no_grad():
        for name, step in steps.items():
            with ByteCounter([KERNEL]) as counter:
                step()
            found[name] = {"bytes": counter.bytes, "temp_bytes": counter.peak_bytes}
        times = timed(steps)
    return {name: {**values, **times[name]} for name, values in found.items()}
