"""What is measured: every case on every route at one point, then one factor changed at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

VARIANTS: Mapping[str, str] = MappingProxyType(
    {
        "zero-user": "base",
        "opaque-operand": "opaque-past",
        "regional": "regional",
        "scan": "scan",
        "marker": "boundary-markers",
    }
)
"""The case of the site, and the decoder's variant that has it."""


@dataclass(frozen=True)
class Point:
    """One row.

    Attributes:
        route: what runs the graph: a module of this package.
        case: a key of VARIANTS.
        bucket: tokens a sequence may have.
        fill: share of the bucket that is cached, in percent.
    """

    route: str
    case: str
    layers: int = 2
    bucket: int = 2048
    batch: int = 4
    fill: int = 100

    @property
    def key(self) -> str:
        return f"{self.route}/{self.case}/{self.layers}-layers/{self.bucket}/batch-{self.batch}/fill-{self.fill}"

    @property
    def is_base(self) -> bool:
        """Whether every factor but route and case has its first value."""
        return self == Point(self.route, self.case)


ROUTES: Mapping[str, str] = MappingProxyType(
    {"eager": "torch eager", "inductor": "Inductor, CPU", "xla": "XLA:CPU", "cuda": "torch.compile, CUDA"}
)

_FEW: tuple[Mapping[str, Any], ...] = ({"layers": 16}, {"batch": 1}, {"fill": 25}, {"bucket": 256}, {"bucket": 8192})
_ALL = (*_FEW[:4], {"bucket": 1024}, _FEW[4])
_CHANGES: Mapping[tuple[str, str], tuple[Mapping[str, Any], ...]] = MappingProxyType(
    {
        ("eager", "zero-user"): _FEW,
        ("eager", "opaque-operand"): _ALL,
        ("inductor", "opaque-operand"): (_FEW[4],),
        ("xla", "opaque-operand"): _ALL,
    }
)


def points() -> Iterator[Point]:
    """All rows, in the order of the tables."""
    for route in ("eager", "inductor", "xla"):
        yield from (Point(route, case) for case in VARIANTS)
    for (route, case), changes in _CHANGES.items():
        yield from (replace(Point(route, case), **change) for change in changes)
    yield Point("cuda", "opaque-operand")


POINTS: Mapping[str, Point] = MappingProxyType({point.key: point for point in points()})
"""By key."""
