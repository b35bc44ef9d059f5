"""The tables and plots of the measured rows, and where pruning bought nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from tests.bench.benchmark import Plot, Section, Series, Table
from tests.bench.routes.points import ROUTES, VARIANTS, Point

Values = Mapping[str, Any]
Rows = Mapping[Point, Values]

TEXT = """\
One token-generation step of a decoder with llama-3.2-1b's dimensions, nothing shrunk, in float32: XLA:CPU would convert
bfloat16 weights in every step. Three graphs run by turns on the same weights and pools: as captured (before), pruned
(after), and captured from the hand-edited source, which skips the materialization (edited). Times are medians after
{warm_up} warm-up runs, ratios those of medians.

- The attention op is on every CPU route the same C++ kernel: one thread, blocks read by the block table, only those
  that the mask shows. XLA:CPU calls it by XLA FFI, torch as a custom operator. What the op's contract calls unread, it
  is handed and does not read.
- `filled`: share of the bucket that is cached. The table's other entries name block 0, since torch cannot gather by the
  -1 of production. The gather reads and writes the whole bucket all the same.
- Weights are a million random numbers, repeated. XLA's pools are donated, so that it updates them in place; torch
  copies them in every step, before and after alike. The C library is told to keep freed memory; otherwise page faults
  take longer than the gathers.
- Predicted is the report's `bytes`. Counted is, for XLA, its cost analysis of the compiled module, in which the kernel
  counts nothing; for torch eager the sizes of every operator's operands and results, the kernel's left out. Inductor's
  bytes were not counted. Temporary memory is XLA's own figure, and for torch eager the most that new tensors held, the
  returned pools among them.
- In torch a marker copies its lanes: where the dead ones go, their copies go too, which the prediction leaves out.
- Measured: every case at {base};
  from there one factor at a time, for the cases and routes in the tables. Not measured: factors together, such as
  16 layers with bucket 8,192; other factors of `regional`, `scan` and `marker`.
- `torch.compile` on a GPU: {cuda}."""

CUDA_NOT_RUN = "not run, for want of a GPU"


def section(rows: Rows) -> Section:
    """Of the rows that were measured."""
    from tests.bench.routes.timing import WARM_UP

    cuda = "see the table" if any(point.route == "cuda" for point in rows) else CUDA_NOT_RUN
    base = _setting(Point("eager", "zero-user"))
    parts = [TEXT.format(warm_up=WARM_UP, base=base, cuda=cuda), _nothing(rows), _edited(rows)]
    return Section("What pruning buys, by route", "\n\n".join(filter(None, parts)), tuple(_tables(rows)), _plots(rows))


def _tables(rows: Rows) -> Iterable[Table]:
    for route, label in ROUTES.items():
        if found := {point: row for point, row in rows.items() if point.route == route}:
            yield _times(label, found)
    if counted := {point: row for point, row in rows.items() if "temp_bytes" in row["before"]}:
        yield _bytes(counted)
    if compiled := {point: row for point, row in rows.items() if "compile_ms" in row["before"] and point.is_base}:
        yield _sizes(compiled)


_POINT = ("case", "layers", "bucket", "batch", "filled")


def _times(label: str, rows: Rows) -> Table:
    columns = (*_POINT, "before, ms (least)", "after, ms (least)", "before / after", "edited / after")
    lines = [
        (*_names(point), _ms(row["before"]), _ms(row["after"]), f"{_gain(row):.2f}", f"{_edited_ratio(row):.2f}")
        for point, row in rows.items()
    ]
    return Table(f"{label}: a step.", columns, tuple(lines))


def _bytes(rows: Rows) -> Table:
    columns = ("route", *_POINT, "saved: predicted", "saved: counted", "counted", "temporary")
    lines = [
        (
            ROUTES[point.route],
            *_names(point),
            _mb(row["predicted_bytes"]),
            _mb(_saved(row, "bytes")),
            _change(row, "bytes", 1e6),
            _change(row, "temp_bytes", 1e6),
        )
        for point, row in rows.items()
    ]
    return Table("Bytes a step and temporary memory in MB, before -> after.", columns, tuple(lines))


def _sizes(rows: Rows) -> Table:
    columns = ("route", "case", "compilation, s", "HLO given, kB", "instructions compiled", "kernels generated")
    lines = [
        (
            ROUTES[point.route],
            point.case,
            _change(row, "compile_ms", 1e3),
            _change(row, "hlo_bytes", 1e3),
            _change(row, "instructions", 1),
            _change(row, "kernels", 1),
        )
        for point, row in rows.items()
    ]
    caption = f"Compilation and size, before -> after, at {_setting(next(iter(rows)))}."
    return Table(caption, columns, tuple(lines))


def _nothing(rows: Rows) -> str:
    """Where the compiler's own dead-code elimination had removed the gathers already."""
    lines = []
    for route, label in ROUTES.items():
        cases = [case for case in VARIANTS if _bought_nothing(rows.get(Point(route, case)))]
        if cases:
            lines.append(f"- {label}: {', '.join(f'`{case}`' for case in cases)}")
    if not lines:
        return ""
    return (
        "Pruning buys nothing at run time where the compiler removes the gathers by itself; XLA "
        "counts the same bytes, and Inductor generates as many kernels, from both graphs:\n\n" + "\n".join(lines)
    )


def _bought_nothing(row: Values | None) -> bool:
    """Whether XLA counts the same bytes, or Inductor generates as many kernels, before and after."""
    if row is None:
        return False
    measure = next((name for name in ("bytes", "kernels") if name in row["before"]), None)
    return measure is not None and _saved(row, measure) == 0


def _edited(rows: Rows) -> str:
    if not rows:
        return ""
    same = sum(bool(row["same_as_edited"]) for row in rows.values())
    ratios = sorted(_edited_ratio(row) for row in rows.values())
    return (
        f"The pruned graph is the hand-edited one, node for node, in {same} of {len(rows)} rows. They run "
        f"the same program there: edited / after, {ratios[0]:.2f} to {ratios[-1]:.2f}, is the noise of these ratios."
    )


def _plots(rows: Rows) -> tuple[Plot, ...]:
    return tuple(plot for plot in (_by_case(rows), _by_bucket(rows)) if plot.series)


def _by_case(rows: Rows) -> Plot:
    series = (
        Series(label, tuple((case, _gain(rows[at])) for case in VARIANTS if (at := Point(route, case)) in rows))
        for route, label in ROUTES.items()
    )
    title = f"Time before / time after, {_setting(Point('eager', 'zero-user'))}"
    drawn = tuple(found for found in series if found.points)
    return Plot("routes-by-case", title, "case", "before / after", drawn, kind="bars")


def _by_bucket(rows: Rows) -> Plot:
    curves: dict[str, list[tuple[float, float]]] = {}
    for point, row in rows.items():
        if replace(point, bucket=Point.bucket).is_base:
            curves.setdefault(f"{ROUTES[point.route]}, {point.case}", []).append((point.bucket, _gain(row)))
    series = tuple(Series(label, tuple(sorted(curve))) for label, curve in curves.items() if len(curve) > 2)
    return Plot("routes-by-bucket", "Time before / time after, by bucket", "bucket, tokens", "before / after", series,
                log_x=True)  # fmt: skip


def _gain(row: Values) -> float:
    return float(row["before"]["median_ms"] / row["after"]["median_ms"])


def _edited_ratio(row: Values) -> float:
    return float(row["edited"]["median_ms"] / row["after"]["median_ms"])


def _saved(row: Values, name: str) -> int | None:
    before, after = (row[graph].get(name) for graph in ("before", "after"))
    return None if before is None or after is None else before - after


def _names(point: Point) -> Sequence[str]:
    return point.case, f"{point.layers}", f"{point.bucket:,}", f"{point.batch}", f"{point.fill} %"


def _setting(point: Point) -> str:
    return f"{point.layers} layers, bucket {point.bucket:,}, batch {point.batch}, {point.fill} % filled"


def _ms(graph: Values) -> str:
    return f"{graph['median_ms']:,.1f} ({graph['min_ms']:,.1f})"


def _mb(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:,.1f}"


def _change(row: Values, name: str, unit: float) -> str:
    before, after = (row[graph].get(name) for graph in ("before", "after"))
    if before is None or after is None:
        return "-"
    digits = 0 if unit == 1 else 1
    return f"{before / unit:,.{digits}f} -> {after / unit:,.{digits}f}"
