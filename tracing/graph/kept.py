"""The sites that stayed, equal ones of many layers together."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from tracing.graph.chains import digitless, span
from tracing.graph.reasons import Site
from tracing.graph.sizes import bytes_text

_NODE = re.compile(r"(%\w+?)(?:_\d+)?\b")
_SHOWN = 3  # nodes of a pin path at each end


@dataclass(frozen=True)
class KeptRow:
    """Sites that one thing keeps, up to numbers in names: the reason and the pin path are those of the first."""

    sites: tuple[Site, ...]
    caches: str
    status: str
    reason: str
    path: tuple[str, ...]
    size: str
    total: str


def kept_rows(sites: Sequence[Site]) -> list[KeptRow]:
    """The sites with status kept or live, by first appearance."""
    groups: dict[Hashable, list[Site]] = {}
    for site in sites:
        groups.setdefault((site.status, _pattern(site.reason), site.bytes), []).append(site)
    return [_row(tuple(group)) for group in groups.values()]


def _pattern(reason: str) -> str:
    """`reason` without the numbers that tell layers apart: %mm, %mm_1 and %mm_2 are one node of three layers."""
    return digitless(_NODE.sub(r"\1", reason))


def _row(group: tuple[Site, ...]) -> KeptRow:
    first = group[0]
    return KeptRow(
        sites=group,
        caches=span([site.cache for site in group]),
        status=first.status,
        reason=first.reason,
        path=first.path,
        size="" if first.bytes is None else bytes_text(first.bytes),
        total="" if first.bytes is None else bytes_text(first.bytes * len(group)),
    )


def path_ends(path: Sequence[str]) -> tuple[Sequence[str], int, Sequence[str]]:
    """The first nodes of a pin path, how many are left out, and the last ones."""
    if len(path) <= 2 * _SHOWN + 1:
        return path, 0, ()
    return path[:_SHOWN], len(path) - 2 * _SHOWN, path[-_SHOWN:]
