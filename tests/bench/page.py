"""docs/benchmarks.md and its figures, from docs/benchmarks.json alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment as Templates
from jinja2 import FileSystemLoader, StrictUndefined

from tests.bench.benchmark import Plot, Row, Section, Table
from tests.bench.environment import ROOT, Environment
from tests.bench.figures import can_draw, svg
from tests.bench.registry import PLACES, load
from tests.bench.store import Measured, dumps, read_results
from tracing.output import write_whole

DOCS = ROOT / "docs"
DIGITS = "0123456789-"
ESCAPED_BAR = "\\|"
RESULTS, PAGE, FIGURES = DOCS / "benchmarks.json", DOCS / "benchmarks.md", DOCS / "benchmarks"


@dataclass(frozen=True)
class Part:
    """One benchmark on the page."""

    name: str
    section: Section
    environment: Environment
    skipped: tuple[Row, ...]


def update(results: Mapping[str, Measured]) -> list[Path]:
    """Replaces these benchmarks in the results file and draws everything again; returns the files that were written.

    Without matplotlib the figures stay as they are.

    Raises:
        DeadkvError: the results file is damaged, or a file cannot be written.
    """
    merged = {**read_results(RESULTS), **results}
    content = {RESULTS: dumps({name: merged[name] for name in PLACES if name in merged}), **files(merged, can_draw())}
    FIGURES.mkdir(exist_ok=True)
    for path, text in content.items():
        write_whole(path, text)
    return list(content)


def files(results: Mapping[str, Measured], with_figures: bool = True) -> dict[Path, str]:
    """The page and its figures."""
    parts = parts_of(results)
    plots = [plot for part in parts for plot in part.section.plots if with_figures]
    return {PAGE: markdown(parts), **{FIGURES / f"{plot.name}.svg": svg(plot) for plot in plots}}


def parts_of(results: Mapping[str, Measured]) -> list[Part]:
    """The sections of the benchmarks that have results, in the order of the page."""
    return [_part(name, results[name]) for name in PLACES if name in results]


def _part(name: str, measured: Measured) -> Part:
    benchmark = load(PLACES[name])
    keys = benchmark.keys()
    rows = {key: measured.rows[key] for key in keys if key in measured.rows}
    skipped = tuple(row for row in rows.values() if row.skipped is not None)
    return Part(name, benchmark.section(rows), measured.environment, skipped)


def markdown(parts: Iterable[Part]) -> str:
    """The page."""
    templates = Templates(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters |= {"table": table, "figure": _figure, "versions": _versions}
    return templates.get_template("benchmarks.md.j2").render(parts=list(parts))


def table(found: Table) -> str:
    """A markdown table. Columns of numbers are aligned to the right."""
    rule = ["---", *["---:" if _is_numeric(found, at) else "---" for at in range(1, len(found.columns))]]
    return "\n".join(map(_line, (found.columns, rule, *found.rows)))


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cell.replace('|', ESCAPED_BAR) for cell in cells)} |"


def _is_numeric(found: Table, column: int) -> bool:
    return all(row[column][:1] in DIGITS for row in found.rows)


def _versions(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{package} {version}" for package, version in versions.items())


def _figure(plot: Plot) -> str:
    return f"![{plot.title}]({FIGURES.name}/{plot.name}.svg)"
