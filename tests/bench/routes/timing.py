"""Wall time of steps that are compared: run by turns, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import ctypes
import statistics
from collections.abc import Callable, Mapping
from time import perf_counter

WARM_UP, FEWEST, MOST = 2, 5, 30
SECONDS = 3.0

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # malloc.h


def keep_freed_memory() -> None:
    """Makes glibc keep what a step frees for the next one, as an accelerator's allocator does.

    By default every large buffer is mapped anew, and zeroing its pages takes longer than filling it.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)


def timed(steps: Mapping[str, Callable[[], object]]) -> dict[str, dict[str, float | int]]:
    """Median and minimum in milliseconds, and the number of runs, for each step by name.

    After WARM_UP runs each, they take turns until SECONDS have passed, but FEWEST to MOST times.
    """
    for _ in range(WARM_UP):
        for step in steps.values():
            step()
    runs: dict[str, list[float]] = {name: [] for name in steps}
    started = perf_counter()
    for turn in range(MOST):
        if turn >= FEWEST and perf_counter() - started > SECONDS:
            break
        for name, step in steps.items():
            before = perf_counter()
            step()
            runs[name].append(1e3 * (perf_counter() - before))
    return {name: _summary(times) for name, times in runs.items()}


def _summary(times: list[float]) -> dict[str, float | int]:
    return {"median_ms": round(statistics.median(times), 3), "min_ms": round(min(times), 3), "runs": len(times)}
