"""What a benchmark is: rows that are measured one by one, and the section of the page that is made of them.

Nothing here imports torch: the runner asks a benchmark for its keys and its section, and measures in other processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Value: TypeAlias = int | float | str | bool | None
Data: TypeAlias = "Value | Mapping[str, Data] | Sequence[Data]"
"""What JSON can hold. NaN and infinity are not among it."""


class Skipped(Exception):  # noqa: N818 - no error
    """Raised by `measure`: this row cannot be measured here. The text is one line that says why."""


@dataclass(frozen=True)
class Row:
    """One row that was measured, or skipped.

    Attributes:
        key: its name within the benchmark, such as "decoder/126".
        values: what was measured; empty if it was skipped.
        skipped: why it was not measured, or None.
        seconds: wall time that `measure` took.
    """

    key: str
    values: Mapping[str, Data]
    skipped: str | None
    seconds: float


@dataclass(frozen=True)
class Table:
    """A table of formatted cells: each row has as many as there are columns."""

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Series:
    """One line of a plot, or one bar of each group. A bar's x is the name of its group."""

    label: str
    points: tuple[tuple[float | str, float], ...]


@dataclass(frozen=True)
class Plot:
    """A figure, drawn to `docs/benchmarks/NAME.svg`.

    Attributes:
        name: of the file, without suffix: lower case letters, digits and hyphens; unique among all benchmarks.
        title: above the axes, and the alternative text of the page.
        x_label: with the unit.
        y_label: with the unit.
        series: at most six, the colours that are told apart on a light and on a dark page.
        kind: "lines" (x are numbers) or "bars" (x are the names of groups).
        log_x: logarithmic x axis; only of lines.
        log_y: logarithmic y axis.
    """

    name: str
    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    kind: str = "lines"
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True)
class Section:
    """One benchmark on the page: `text` is markdown that stands before the tables and plots."""

    title: str
    text: str
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()


class Benchmark(Protocol):
    """A benchmark. Derive from it to get the defaults; it is made without arguments.

    Attributes:
        name: on the command line, and of its folder of rows.
        title: one line for `--list`.
        grouped: measure all rows in one process; otherwise each has a process of its own.
        limit_s: seconds after which a process that measures no further row is ended.
    """

    name: str
    title: str
    grouped: bool = False
    limit_s: float = 900

    def keys(self) -> tuple[str, ...]:
        """One for each row, in the order of the tables: letters, digits, `.`, `_`, `-`, parts separated by `/`."""

    def measure(self, key: str) -> Mapping[str, Data]:
        """Measures one row. Raises Skipped if it cannot be measured here."""

    def section(self, rows: Mapping[str, Row]) -> Section:
        """Tables and plots of the rows by key, in the order of `keys`. Some may be absent or skipped."""
