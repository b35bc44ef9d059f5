"""The report of a run: what was found, what was removed and why, what stayed and what keeps it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

SCHEMA = "deadkv.report/1"

PRUNED = "pruned"
KEPT = "kept"
LIVE = "live"
DEAD = "dead"


@dataclass(frozen=True)
class SiteReport:
    """One materialization site.

    Attributes:
        layer: layer number, from 0.
        role: "K" or "V".
        cache: fully qualified name of the pool's parameter, or name of its input.
        status: "pruned" (removed), "dead" (would be removed; the graph was only explained), "kept" (proven dead,
            but held by a gate of the policy) or "live" (something reads its elements).
        reason: why, in one line.
        pinned_by: names of the nodes from the site to the root that keeps it, the root last; empty unless live.
        bytes: bytes read and written by the site in one run, or None if a size is symbolic or unknown.
        gather: name of the gather.
        nodes: names of the gather and of the layout changes behind it.
        source: `file.py:line` that gathers, or None if tracing kept no stack.
        held_by: name of the gate that holds it, or None.
    """

    layer: int
    role: str
    cache: str
    status: str
    reason: str
    pinned_by: tuple[str, ...]
    bytes: int | None
    gather: str
    nodes: tuple[str, ...]
    source: str | None = None
    held_by: str | None = None


@dataclass(frozen=True)
class GateReport:
    """One gate of the policy over all dead sites: `held` counts those that it holds back."""

    name: str
    passed: bool
    graph: bool | None
    context: bool | None
    detail: str
    held: int


@dataclass(frozen=True)
class RewriteReport:
    """One call that was cut off a site: by which rule, and which operands it lost."""

    node: str
    rule: str
    severed: tuple[str, ...]


@dataclass(frozen=True)
class RegionReport:
    """A nested graph that was pruned together with one call of it.

    Attributes:
        call: name of the call, with the calls that lead to it: `invoke_subgraph_3`, `outer/inner`.
        body: attribute path of the graph before, in the module that holds the call.
        becomes: its attribute path after; another if callers of one graph now need different ones.
        operands: names of the inputs that the graph lost, and the call with it.
        results: numbers of the results that it lost.
        removed: names of its removed nodes, in graph order.
        rewritten: its calls that were cut off a removed node.
    """

    call: str
    body: str
    becomes: str
    operands: tuple[str, ...] = ()
    results: tuple[int, ...] = ()
    removed: tuple[str, ...] = ()
    rewritten: tuple[RewriteReport, ...] = ()


@dataclass(frozen=True)
class PruneReport:
    """What PrunePrefixCache found and did.

    Attributes:
        policy: name of the policy.
        summary: gathers_before, gathers_after, nodes_before, nodes_after, bytes_before, bytes_after. Nodes count every
            FX node, inputs and outputs included, and those of nested graphs, of a shared one once. Bytes are None if
            those of one site are.
        gates: what each gate of the policy found.
        sites: the sites in graph order.
        removed: names of the removed nodes, in graph order.
        rewritten: the calls that were cut off a removed node, in graph order.
        regions: the nested graphs that were pruned, by call, in graph order.
        unused_inputs: inputs that lost their last use. They stay in the signature unless `input_map` says otherwise.
        input_map: for each input of the graph before, its index in the graph after, or None if it was dropped; None
            where the pass was not asked to drop any (`shrink_inputs`).
        notes: anything else worth knowing, such as why there is no site.
    """

    policy: str
    summary: Mapping[str, int | None]
    gates: tuple[GateReport, ...] = ()
    sites: tuple[SiteReport, ...] = ()
    removed: tuple[str, ...] = ()
    rewritten: tuple[RewriteReport, ...] = ()
    regions: tuple[RegionReport, ...] = ()
    unused_inputs: tuple[str, ...] = ()
    input_map: tuple[int | None, ...] | None = None
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """The JSON of report.json: lists and plain values only, keys in a fixed order."""
        return _plain({"schema": SCHEMA, **asdict(self)})  # type: ignore[no-any-return]

    @property
    def headline(self) -> str:
        """`gathers 32 -> 0 · nodes 1969 -> 1809 · 268 MB a step -> 0`."""
        s = self.summary
        moved = f"{readable_bytes(s['bytes_before'])} a step -> {readable_bytes(s['bytes_after'])}"
        return (
            f"gathers {s['gathers_before']} -> {s['gathers_after']} · "
            f"nodes {s['nodes_before']} -> {s['nodes_after']} · {moved}"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


_UNITS = (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


def readable_bytes(count: int | None) -> str:
    """A number of bytes in decimal units, three digits: `268 MB`."""
    if count is None:
        return "unknown bytes"
    for unit, scale in _UNITS:
        if count >= scale:
            return f"{count / scale:.3g} {unit}"
    return f"{count} B" if count else "0"
