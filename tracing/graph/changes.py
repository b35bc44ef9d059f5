"""What a graph diff consists of. Values of the after graph are written in the before graph's names."""

from __future__ import annotations

from dataclasses import dataclass

from tracing.graph.document import Value

ADDED = "+"  # marks the name of a node that only the after graph has


@dataclass(frozen=True, slots=True)
class Change:
    """A slot of a node (an argument such as `K_prior` or `[3][2]`, `target`, `type` or `order`) before and after.

    For arguments the two sides are values, or None where the argument is absent; for the rest, text.
    """

    slot: str
    before: Value | str | None
    after: Value | str | None


@dataclass(frozen=True, slots=True)
class NodeChange:
    """A node that both graphs have, by its name before and after, with what changed about it."""

    name: str
    after_name: str
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class InterfaceChange:
    """A change a caller can see. `part` is input, output, parameter or alias; None marks what one side lacks."""

    part: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Differences:
    """All differences between two graphs, in the order of the graphs. Nodes are given by name."""

    removed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    rewired: tuple[NodeChange, ...] = ()
    changed: tuple[NodeChange, ...] = ()
    reordered: tuple[NodeChange, ...] = ()
    interface: tuple[InterfaceChange, ...] = ()
