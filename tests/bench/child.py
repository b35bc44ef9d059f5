"""The process that measures rows of one benchmark: `python -m tests.bench.child OUT MODULE:CLASS KEY ...`.

Writes each row as soon as it is measured and then its key on stdout. What the measured tools print goes to stderr.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter

from tests.bench.benchmark import Benchmark, Row, Skipped
from tests.bench.registry import load
from tests.bench.store import RowFolder


def main(arguments: Sequence[str]) -> int:
    """Exits with 1 if a row could not be measured; the others are."""
    out, place, *keys = arguments
    done = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    benchmark, failed = load(place), False
    folder = RowFolder(Path(out), benchmark)
    for key in keys:
        try:
            folder.write(measured(benchmark, key))
        except Exception:
            traceback.print_exc()
            failed = True
            continue
        print(key, file=done, flush=True)
    return int(failed)


def measured(benchmark: Benchmark, key: str) -> Row:
    """The row of a key, with the time that it took."""
    started = perf_counter()
    try:
        values, skipped = benchmark.measure(key), None
    except Skipped as reason:
        values, skipped = {}, " ".join(str(reason).split())
    return Row(key, values, skipped, round(perf_counter() - started, 3))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
