"""One row: the graph, the times and the memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch.fx import GraphModule

from tests.bench.benchmark import Data
from tests.bench.cost.clock import Work, best, peak_mb
from tests.bench.cost.graphs import chain, chain_inputs, decoder_of
from tests.bench.cost.phases import MEMORY, OF_CHAINS, OF_LARGE_CHAINS, PHASES, Subject
from tests.bench.cost.rows import CAPTURED, LARGE, repeats
from tracing import capture


def measure_decoder(layers: int) -> dict[str, Data]:
    """A decoder of so many layers, as `deadkv compile` captures it."""
    model = decoder_of(layers)
    inputs, aliases = model.example_inputs(), model.aliases()

    def captured() -> GraphModule:
        return capture(model, inputs, aliases=aliases)

    module = captured()
    return {**_measured(module, tuple(PHASES)), "capture": _capture_time(captured, module)}


def measure_chain(nodes: int) -> dict[str, Data]:
    """A chain of so many nodes."""
    module = chain(nodes, lazy_above=LARGE)
    found = _measured(module, OF_CHAINS if nodes <= LARGE else OF_LARGE_CHAINS)
    if nodes > CAPTURED:
        return {**found, "capture": None}
    return {**found, "capture": _capture_time(partial(capture, module, chain_inputs()), module)}


def _capture_time(captured: Work, module: GraphModule) -> Data:
    return best(lambda: captured, max(1, repeats(len(module.graph.nodes)) // 3))


def _measured(module: GraphModule, phases: Sequence[str]) -> dict[str, Data]:
    subject, nodes = Subject(module), len(module.graph.nodes)
    runs = repeats(nodes)
    times: dict[str, Any] = {name: best(partial(PHASES[name], subject), runs) for name in phases}
    memory = {name: peak_mb(prepare(subject)) for name, prepare in MEMORY.items()} if nodes <= LARGE else None
    summary = subject.pruned[1].summary
    assert summary["gathers_before"] and not summary["gathers_after"], "every site of these graphs is dead"
    return {
        "nodes": nodes,
        "removed": nodes - (summary["nodes_after"] or 0),
        "sites": summary["gathers_before"],
        "runs": runs,
        "times": times,
        "peak_mb": memory,
    }
