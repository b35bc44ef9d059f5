"""What is run on which route."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from tests.bench.benchmark import Benchmark, Data, Row, Section
from tests.bench.routes.points import POINTS


class Routes(Benchmark):
    """Time, bytes and sizes of a decoder's step before pruning, after it, and with the source-level edit."""

    name = "routes"
    title = "What pruning buys, by route"

    def keys(self) -> tuple[str, ...]:
        """`ROUTE/CASE/N-layers/BUCKET/batch-N/fill-PERCENT`."""
        return tuple(POINTS)

    def measure(self, key: str) -> Mapping[str, Data]:
        """What the route says of each of the three graphs, and what the report predicts. Raises Skipped."""
        from tests.bench.routes import cuda, native
        from tests.bench.routes.subject import build
        from tests.bench.routes.timing import keep_freed_memory

        point = POINTS[key]
        device, require = ("cuda", cuda.require) if point.route == "cuda" else ("cpu", native.library)
        require()
        keep_freed_memory()
        subject = build(point, device)
        route: Any = import_module(f"tests.bench.routes.{point.route}")
        found = {"predicted_bytes": subject.predicted_bytes, "same_as_edited": subject.same_as_edited}
        return {**found, **route.measure(subject)}

    def section(self, rows: Mapping[str, Row]) -> Section:
        """Tables and plots, and where pruning bought nothing."""
        from tests.bench.routes.section import section

        return section({POINTS[key]: row.values for key, row in rows.items() if row.skipped is None})
