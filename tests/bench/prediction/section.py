"""The table of the measured rows, with a verdict on each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.bench.benchmark import Section, Table
from tests.bench.prediction.rows import LAYERS, Geometry

Values = Mapping[str, Any]
TOLERANCE = 0.05

TEXT = f"""\
`deadkv explain` states the bytes that the sites read and write in a step. Beside them, what XLA's cost analysis of the
compiled module (`bytes accessed`, XLA:CPU, {LAYERS} layers) loses by pruning. In `opaque-past` the gathers are operands
of an opaque custom call, so XLA must keep them; nothing is run.

XLA counts a gather that it fuses as a read of the whole pool, the reserved block included, which no gather reads, and
it counts the read of the block table. `less the reserved blocks` leaves these blocks out; they weigh most in a small
bucket. Where XLA's own dead-code elimination removes the gathers before they are counted, there is nothing to compare:
the prediction says what a compiler without it would run."""

COLUMNS = ("model", "variant", "dtype", "bucket", "batch", "predicted, MB", "counted, MB", "counted / predicted",
           "less the reserved blocks", f"within {TOLERANCE:.0%}")  # fmt: skip


def section(rows: Mapping[Geometry, Values]) -> Section:
    """Of the rows that were measured."""
    lines = tuple(_line(geometry, row) for geometry, row in rows.items())
    return Section("Predicted bytes", TEXT, (Table("Bytes a step that pruning saves.", COLUMNS, lines),))


def _line(geometry: Geometry, row: Values) -> tuple[str, ...]:
    predicted, counted = row["predicted"], row["counted_before"] - row["counted_after"]
    ratios = (counted / predicted, (counted - row["reserved"]) / predicted)
    return (
        geometry.model,
        geometry.variant,
        geometry.dtype,
        f"{geometry.bucket:,}",
        f"{geometry.batch}",
        f"{predicted / 1e6:,.2f}",
        f"{counted / 1e6:,.2f}",
        *(f"{ratio:.4f}" if counted else "-" for ratio in ratios),
        verdict(predicted, counted),
    )


def verdict(predicted: int, counted: int) -> str:
    """Of the plain ratio, reserved blocks included."""
    if not counted:
        return "removed by XLA itself"
    return "yes" if abs(counted / predicted - 1) <= TOLERANCE else "no"
