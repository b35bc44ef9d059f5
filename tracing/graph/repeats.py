"""What a reader need not see: differences equal to one that is shown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tracing.graph.chains import Fold
from tracing.graph.diff import GraphDiff
from tracing.graph.view import change_rows


def repeats(diff: GraphDiff) -> tuple[frozenset[str], frozenset[str]]:
    """Before names and added names of the nodes in all but the first of each fold of chains or of equal changes."""
    found = diff.differences
    changed = (row for part in (found.rewired, found.changed, found.reordered) for row in change_rows(diff, part))
    again = (name for row in changed for name in row.names[1:])
    return frozenset((*_later(diff.removed_folds), *again)), frozenset(_later(diff.added_folds))


def _later(folds: Sequence[Fold]) -> Iterator[str]:
    return (name for folded in folds for chain in folded.chains[1:] for name in chain.nodes)
