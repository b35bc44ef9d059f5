"""Time and memory of a piece of work."""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tracing.collection import collection_paused

Work = Callable[[], object]


def best(prepare: Callable[[], Work], repeats: int) -> dict[str, float]:
    """The least wall and CPU time, in milliseconds, of `repeats` runs, each on work that is prepared for it alone."""
    runs = [_once(prepare()) for _ in range(repeats)]
    return {"wall_ms": round(min(wall for wall, _ in runs), 3), "cpu_ms": round(min(cpu for _, cpu in runs), 3)}


def _once(work: Work) -> tuple[float, float]:
    with uncollected():
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        return 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)


def peak_mb(work: Work) -> float:
    """The most that Python's allocator holds for `work` at once, in 10^6 bytes, beside what it held before."""
    with uncollected():
        tracemalloc.start()
        try:
            work()
            return round(tracemalloc.get_traced_memory()[1] / 1e6, 3)
        finally:
            tracemalloc.stop()


@contextmanager
def uncollected() -> Iterator[None]:
    """Without garbage, and without the collector, which would walk over every graph that is there."""
    gc.collect()
    with collection_paused():
        yield
