"""The graphs whose predicted bytes are compared with XLA's count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.benchmark import Benchmark, Data, Row, Section


@dataclass(frozen=True)
class Geometry:
    """One row: a decoder of LAYERS layers. `dtype` is torch's name, `bucket` tokens a sequence may have."""

    model: str
    variant: str
    dtype: str
    bucket: int
    batch: int

    @property
    def key(self) -> str:
        return f"{self.model}/{self.variant}/{self.dtype}/{self.bucket}/batch-{self.batch}"


LAYERS = 2
SEEN, UNSEEN = "opaque-past", ("base", "regional", "scan", "boundary-markers")
"""Variants whose gathers XLA must keep, and those whose gathers its own dead-code elimination may remove."""

GEOMETRIES: Mapping[str, Geometry] = {
    geometry.key: geometry
    for geometry in (
        Geometry("llama-3.2-1b", SEEN, "float32", 256, 1),
        Geometry("llama-3.2-1b", SEEN, "float32", 1024, 1),
        Geometry("llama-3.2-1b", SEEN, "float32", 1024, 4),
        Geometry("llama-3.2-1b", SEEN, "float32", 8192, 4),
        Geometry("llama-3.2-1b", SEEN, "bfloat16", 1024, 4),
        Geometry("llama-3.2-1b", SEEN, "float16", 1024, 4),
        Geometry("qwen3-8b", SEEN, "float32", 1024, 4),
        Geometry("qwen3-8b", SEEN, "bfloat16", 8192, 1),
        *(Geometry("llama-3.2-1b", variant, "float32", 1024, 4) for variant in UNSEEN),
    )
}


class Prediction(Benchmark):
    """Bytes a step that the report states, beside the difference of XLA's cost analyses before and after."""

    name = "prediction"
    title = "Predicted bytes against XLA's cost analysis"
    grouped = True

    def keys(self) -> tuple[str, ...]:
        """`MODEL/VARIANT/DTYPE/BUCKET/batch-N`."""
        return tuple(GEOMETRIES)

    def measure(self, key: str) -> Mapping[str, Data]:
        """Bytes predicted and counted. Raises Skipped without JAX or a C++ compiler."""
        from tests.bench.prediction.measure import measure

        return measure(GEOMETRIES[key])

    def section(self, rows: Mapping[str, Row]) -> Section:
        """One table."""
        from tests.bench.prediction.section import section

        return section({GEOMETRIES[key]: row.values for key, row in rows.items() if row.skipped is None})
