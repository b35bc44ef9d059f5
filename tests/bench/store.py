"""Measured rows: one JSON file each below the output folder, and all of those that the page shows in one file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from passes.errors import DeadkvError
from tests.bench.benchmark import Benchmark, Row
from tests.bench.environment import Environment, environment
from tracing.output import write_whole

SCHEMA = 1


@dataclass(frozen=True)
class Measured:
    """The rows of one benchmark by key, all measured in one environment."""

    environment: Environment
    rows: Mapping[str, Row]


class RowFolder:
    """The rows of one benchmark in files `OUT/NAME/KEY.json`. Those of another environment count as absent."""

    def __init__(self, out: Path, benchmark: Benchmark) -> None:
        self.folder = out / benchmark.name
        self.environment = environment(benchmark)

    def write(self, row: Row) -> None:
        """Replaces the row of this key. Raises DeadkvError if the file cannot be written."""
        path = self._path(row.key)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = {"environment": self.environment.to_dict(), "row": asdict(row)}
        write_whole(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def read(self, keys: Iterable[str]) -> dict[str, Row]:
        """The rows that are present, in the order of the keys."""
        return {key: row for key in keys if (row := self._read(key)) is not None}

    def clear(self, keys: Iterable[str]) -> None:
        """Forgets the rows of these keys."""
        for key in keys:
            self._path(key).unlink(missing_ok=True)

    def _read(self, key: str) -> Row | None:
        try:
            found = json.loads(self._path(key).read_text(encoding="utf-8"))
            return Row(**found["row"]) if found["environment"] == self.environment.to_dict() else None
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.json"


def read_results(path: Path) -> dict[str, Measured]:
    """The results in a file, by name of the benchmark; none if there is no file.

    Raises:
        DeadkvError: the file is none that `dumps` wrote.
    """
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: _measured(item) for name, item in {SCHEMA: found["benchmarks"]}[found["schema"]].items()}
    except (ValueError, KeyError, TypeError) as error:
        raise DeadkvError(f"{path} holds no results of schema {SCHEMA}: remove it and measure again") from error


def dumps(results: Mapping[str, Measured]) -> str:
    """The content of a results file: JSON with a line for each row."""
    benchmarks = ",\n".join(f"{json.dumps(name)}: {_benchmark(found)}" for name, found in results.items())
    return f'{{"schema": {SCHEMA}, "benchmarks": {{\n{benchmarks}\n}}}}\n'


def _benchmark(found: Measured) -> str:
    rows = ",\n".join(json.dumps(asdict(row), allow_nan=False) for row in found.rows.values())
    return f'{{"environment": {json.dumps(found.environment.to_dict())}, "rows": [\n{rows}\n]}}'


def _measured(item: Mapping[str, Any]) -> Measured:
    rows = (Row(**row) for row in item["rows"])
    return Measured(Environment(**item["environment"]), {row.key: row for row in rows})
