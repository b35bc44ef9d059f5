"""The Neuron instances a graph can be compiled for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from passes.errors import DeadkvError


@dataclass(frozen=True)
class Target:
    """A value of `neuronx-cc compile --target` and the NeuronCore generation behind it."""

    name: str
    neuron_core: int


# neuronx-cc's command-line reference lists the names; inf2 and trn1 are NeuronCore-v2, trn2 is NeuronCore-v3.
TARGETS: Mapping[str, Target] = MappingProxyType(
    {target.name: target for target in (Target("inf2", 2), Target("trn1", 2), Target("trn2", 3))}
)


def get_target(name: str) -> Target:
    """The target of that name. Raises DeadkvError, listing the known ones, for any other name."""
    try:
        return TARGETS[name]
    except KeyError:
        raise DeadkvError(f"unknown target {name!r}: choose one of {', '.join(TARGETS)}") from None
