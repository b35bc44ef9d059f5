"""Benchmarks that measure nothing, to test what runs them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path

from tests.bench.benchmark import Benchmark, Data, Plot, Row, Section, Series, Skipped, Table

CALLS = "DEADKV_SAMPLE_CALLS"
"""Environment variable: a file to which each measurement adds a line, its key and the number of its process."""


class Sample(Benchmark):
    """Two rows and one that is skipped."""

    name = "sample"
    title = "A sample"
    grouped = True

    def keys(self) -> tuple[str, ...]:
        return ("size/1", "size/2", "absent")

    def measure(self, key: str) -> Mapping[str, Data]:
        with Path(os.environ[CALLS]).open("a") as calls:
            calls.write(f"{key} {os.getpid()}\n")
        print("what a tool prints")
        if key == "absent":
            raise Skipped("needs\n a package")
        return {"value": int(key.removeprefix("size/"))}

    def section(self, rows: Mapping[str, Row]) -> Section:
        found = [(key, row.values["value"]) for key, row in rows.items() if row.skipped is None]
        lines = Series("value", tuple((float(value), float(value)) for _, value in found))
        plot = Plot("sample", "A sample", "size", "value", (lines,))
        return Section("Sample", "Text.", (Table("All.", ("row", "a|b"), (("size/1", "1"),)),), (plot,))


class Failing(Sample):
    """One row that raises."""

    def measure(self, key: str) -> Mapping[str, Data]:
        if key == "size/1":
            raise ValueError("no such size")
        return super().measure(key)


class Stuck(Sample):
    """One row that takes an hour."""

    def measure(self, key: str) -> Mapping[str, Data]:
        values = super().measure(key)
        if key == "size/2":
            time.sleep(3600)
        return values
