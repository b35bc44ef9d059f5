"""The benchmarks by name, in the order of the page. A module is imported when its benchmark is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib import import_module

from passes.errors import DeadkvError
from tests.bench.benchmark import Benchmark

PLACES: Mapping[str, str] = {
    "cost": "tests.bench.cost.rows:Cost",
    "capability": "tests.bench.capability.rows:Capability",
    "routes": "tests.bench.routes.rows:Routes",
    "prediction": "tests.bench.prediction.rows:Prediction",
}
"""Module and class of each; a class is made without arguments."""


def load(place: str) -> Benchmark:
    """The benchmark of a module and class, `module:Class`."""
    module, name = place.split(":")
    found: Benchmark = getattr(import_module(module), name)()
    return found


def place_of(benchmark: Benchmark) -> str:
    """What `load` takes to make another one."""
    return f"{type(benchmark).__module__}:{type(benchmark).__name__}"


def chosen(names: Iterable[str]) -> list[Benchmark]:
    """The named benchmarks in the order of the page; all of them if none is named.

    Raises:
        DeadkvError: a name is unknown.
    """
    wanted = list(names) or list(PLACES)
    if unknown := [name for name in wanted if name not in PLACES]:
        raise DeadkvError(f"unknown benchmark {unknown[0]!r}: known are {', '.join(PLACES)}")
    return [load(place) for name, place in PLACES.items() if name in wanted]
