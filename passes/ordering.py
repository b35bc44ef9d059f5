"""In which order passes run: as given, as far as their constraints allow."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from passes.errors import DeadkvError


@dataclass(frozen=True)
class Constraints:
    """Where a pass may stand in a pipeline, in names of other passes.

    Attributes:
        before: passes that must not run earlier than this one.
        after: passes that must not run later than this one.
        requires: passes that must be in the pipeline, and run earlier.
    """

    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()


def ordered(names: Sequence[str], constraints: Mapping[str, Constraints]) -> tuple[int, ...]:
    """The positions of `names` in the order to run: the first one whose predecessors have all run comes next.

    An order that satisfies the constraints is thus left as it is. A name may occur several times.

    Raises:
        DeadkvError: a required pass is missing, or the constraints form a cycle, which is named.
    """
    _require_all(names, constraints)
    sorter = TopologicalSorter(_predecessors(names, constraints))
    try:
        sorter.prepare()
    except CycleError as error:
        cycle = " -> ".join(names[position] for position in error.args[1])
        raise DeadkvError(f"these passes must each run before the next: {cycle}; leave one of them out") from error
    order: list[int] = []
    ready = list(sorter.get_ready())
    heapq.heapify(ready)
    while ready:
        order.append(heapq.heappop(ready))
        sorter.done(order[-1])
        for position in sorter.get_ready():
            heapq.heappush(ready, position)
    return tuple(order)


def _require_all(names: Sequence[str], constraints: Mapping[str, Constraints]) -> None:
    for name in names:
        for required in constraints.get(name, Constraints()).requires:
            if required not in names:
                raise DeadkvError(f"pass {name} requires pass {required}: add it to the pipeline")


def _predecessors(names: Sequence[str], constraints: Mapping[str, Constraints]) -> dict[int, set[int]]:
    positions: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        positions.setdefault(name, []).append(position)
    found: dict[int, set[int]] = {position: set() for position in range(len(names))}
    for name, own in positions.items():
        stated = constraints.get(name, Constraints())
        earlier = [p for other in (*stated.after, *stated.requires) if other != name for p in positions.get(other, ())]
        later = [p for other in stated.before if other != name for p in positions.get(other, ())]
        for position in own:
            found[position].update(earlier)
        for position in later:
            found[position].update(own)
    return found
