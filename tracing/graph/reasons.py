"""What the report of the pruning pass says about the nodes of a diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from passes.errors import DeadkvError

KEPT = ("kept", "live")


@dataclass(frozen=True)
class Site:
    """One site of the report: where it is, what became of it and why."""

    layer: int | None
    role: str
    cache: str
    status: str
    reason: str
    pinned_by: str
    bytes: int | None
    nodes: tuple[str, ...]

    @property
    def title(self) -> str:
        """`layer 3 K`, and the cache it reads."""
        place = "" if self.layer is None else f"layer {self.layer} "
        return f"{place}{self.role} ({self.cache})".strip()


@dataclass(frozen=True)
class Reasons:
    """The sites of a report, its summary and the rule by which each rewritten node was; empty without a report."""

    sites: tuple[Site, ...] = ()
    summary: Mapping[str, int] = field(default_factory=dict)
    rules: Mapping[str, str] = field(default_factory=dict)

    def by_node(self) -> dict[str, Site]:
        """The site that each removed node belonged to."""
        return {name: site for site in self.sites if site.status not in KEPT for name in site.nodes}

    def kept(self) -> tuple[Site, ...]:
        """Sites that stayed, proven dead or not."""
        return tuple(site for site in self.sites if site.status in KEPT)


def reasons(report: Mapping[str, Any] | None) -> Reasons:
    """Read a report (the JSON of report.json). Raises DeadkvError naming the entry that is not as documented."""
    if report is None:
        return Reasons()
    sites = _field(report, "report", "sites", list, [])
    summary = _field(report, "report", "summary", dict, {})
    rewritten = _field(report, "report", "rewritten", list, [])
    return Reasons(
        sites=tuple(_site(site, f"report.sites[{index}]") for index, site in enumerate(sites)),
        summary={key: value for key, value in sorted(summary.items()) if type(value) is int},
        rules=dict(_rule(entry, f"report.rewritten[{index}]") for index, entry in enumerate(rewritten)),
    )


def _rule(found: Any, place: str) -> tuple[str, str]:
    return _field(found, place, "node", str, ""), _field(found, place, "rule", str, "")


def _site(found: Any, place: str) -> Site:
    nodes = _field(found, place, "nodes", list, [])
    if not all(isinstance(name, str) for name in nodes):
        raise DeadkvError(f"{place}.nodes: expected an array of node names")
    return Site(
        layer=_field(found, place, "layer", int, None),
        role=str(_field(found, place, "role", str, "")),
        cache=str(_field(found, place, "cache", str, "")),
        status=str(_field(found, place, "status", str, "")),
        reason=str(_field(found, place, "reason", str, "")),
        pinned_by=_path(found, place),
        bytes=_field(found, place, "bytes", int, None),
        nodes=tuple(nodes),
    )


def _path(found: Mapping[str, Any], place: str) -> str:
    path = found.get("pinned_by")
    if path is None or isinstance(path, str):
        return path or ""
    if isinstance(path, Sequence) and all(isinstance(name, str) for name in path):
        return " -> ".join(path)
    raise DeadkvError(f"{place}.pinned_by: expected null, text or an array of node names")


def _field(found: Any, place: str, key: str, kind: type, default: Any) -> Any:
    if not isinstance(found, Mapping):
        raise DeadkvError(f"{place}: expected an object")
    value = found.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise DeadkvError(f"{place}.{key}: expected {kind.__name__}, found {type(value).__name__}")
    return value
