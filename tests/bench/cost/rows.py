"""What is timed on which graph."""

from __future__ import annotations

from collections.abc import Mapping

from tests.bench.benchmark import Benchmark, Data, Row, Section

DECODERS = (16, 80, 126, 560)
"""Layers. The model has 126; 560 make 35,000 nodes."""
CHAINS = (1_000, 9_000, 10_000, 35_000, 100_000, 1_000_000)
LARGE = 200_000
"""Graphs of more nodes are run through once, by the steps of the pass and by what it is compared with only."""
CAPTURED = 10_000
"""Chains of at most so many nodes are captured too: capture takes a millisecond a node."""
RUNS, NODES_OF_ALL_RUNS = 5, 100_000


class Cost(Benchmark):
    """Times of the pass's steps beside capture and torch.fx's own passes on the same graph, and peak memory."""

    name = "cost"
    title = "What the pass costs beside capture and torch.fx's own passes"

    def keys(self) -> tuple[str, ...]:
        """`decoder/LAYERS` and `chain/NODES`."""
        return (*(f"decoder/{layers}" for layers in DECODERS), *(f"chain/{nodes}" for nodes in CHAINS))

    def measure(self, key: str) -> Mapping[str, Data]:
        """Nodes, removed nodes, times by phase and memory of one graph."""
        from tests.bench.cost.clock import uncollected
        from tests.bench.cost.measure import measure_chain, measure_decoder

        kind, size = key.split("/")
        with uncollected():
            return {"decoder": measure_decoder, "chain": measure_chain}[kind](int(size))

    def section(self, rows: Mapping[str, Row]) -> Section:
        """Tables of times, ratios and memory, and the goals."""
        from tests.bench.cost.section import section

        return section({key: row.values for key, row in rows.items() if row.skipped is None})


def repeats(nodes: int) -> int:
    """How often each phase is run on a graph of so many nodes."""
    return max(1, min(RUNS, NODES_OF_ALL_RUNS // nodes))
