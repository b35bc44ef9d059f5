"""What DedupPrefixCache found and did."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from passes.report import readable_bytes

SCHEMA = "deadkv.dedup-report/1"

MERGED = "merged"
KEPT = "kept"


@dataclass(frozen=True)
class DuplicateReport:
    """One gather that repeats an earlier one.

    Attributes:
        layer: layer number, from 0.
        role: "K" or "V".
        cache: name of the pool's parameter or input.
        gather: name of the gather.
        first: name of the earlier gather, of the same pool by the same index expression.
        status: "merged" (its uses take the earlier copy) or "kept".
        reason: why, in one line.
        bytes: bytes that the repetition reads and writes in one run, or None if a size is symbolic or unknown.
        source: `file.py:line` that gathers, or None if tracing kept no stack.
    """

    layer: int
    role: str
    cache: str
    gather: str
    first: str
    status: str
    reason: str
    bytes: int | None
    source: str | None


@dataclass(frozen=True)
class Rewired:
    """A removed node, and the earlier node of the same value that its users read now."""

    node: str
    into: str


@dataclass(frozen=True)
class DedupReport:
    """What DedupPrefixCache found and did.

    Attributes:
        summary: gathers_before, gathers_after (of pools), nodes_before, nodes_after, bytes_saved. Nodes count every FX
            node; bytes are None if those of a merged gather are.
        duplicates: the gathers that repeat an earlier one, in graph order.
        rewired: nodes whose users read an earlier node now, in graph order.
        removed: names of the removed nodes, in graph order.
        notes: anything else worth knowing, such as why there is no site.
    """

    summary: Mapping[str, int | None]
    duplicates: tuple[DuplicateReport, ...] = ()
    rewired: tuple[Rewired, ...] = ()
    removed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, keys in a fixed order."""
        found = asdict(self)
        lists = {key: list(found[key]) for key in ("duplicates", "rewired", "removed", "notes")}
        return {"schema": SCHEMA, "summary": dict(self.summary), **lists}

    @property
    def headline(self) -> str:
        """`gathers 4 -> 2 · nodes 210 -> 202 · 67.1 MB a step less`."""
        s = self.summary
        return (
            f"gathers {s['gathers_before']} -> {s['gathers_after']} · "
            f"nodes {s['nodes_before']} -> {s['nodes_after']} · {readable_bytes(s['bytes_saved'])} a step less"
        )
