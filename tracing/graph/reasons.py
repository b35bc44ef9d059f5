"""What the report of the pruning pass says about the nodes of a diff."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from passes.errors import DeadkvError
from passes.report import SCHEMA
from tracing.graph.escape import quoted
from tracing.graph.json_input import parse_json, read_bytes

KEPT = ("kept", "live")
_ARROW = " -> "


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

    @property
    def path(self) -> tuple[str, ...]:
        """The names in `pinned_by`."""
        return tuple(self.pinned_by.split(_ARROW)) if self.pinned_by else ()


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


def read_report(path: Path) -> dict[str, Any] | None:
    """The report of a pass in the file at `path`, or None if it is something else's. Raises DeadkvError as below."""
    found = parse_json(read_bytes(path))
    if not isinstance(found, dict) or not str(found.get("schema")).startswith("deadkv.report/"):
        return None
    if found["schema"] != SCHEMA:
        raise DeadkvError(f"the schema is {quoted(found['schema'])}; this deadkv reads {SCHEMA}")
    reasons(found)
    return found


def reasons(report: Mapping[str, Any] | None) -> Reasons:
    """Read a report (the JSON of report.json). Raises DeadkvError naming the entry that is not as documented."""
    if report is None:
        return Reasons()
    sites = _field(report, "report", "sites", list, [])
    summary = _field(report, "report", "summary", dict, {})
    rewritten = _field(report, "report", "rewritten", list, [])
    return Reasons(
        sites=tuple(_site(site, f"report.sites[{index}]") for index, site in enumerate(sites)),
        summary={key: _count(summary, "report.summary", key) for key in sorted(summary) if summary[key] is not None},
        rules=dict(_rule(entry, f"report.rewritten[{index}]") for index, entry in enumerate(rewritten)),
    )


def _rule(found: Any, place: str) -> tuple[str, str]:
    return _field(found, place, "node", str, ""), _field(found, place, "rule", str, "")


def _site(found: Any, place: str) -> Site:
    nodes = _field(found, place, "nodes", list, [])
    if not all(isinstance(name, str) for name in nodes):
        raise DeadkvError(f"{place}.nodes: expected an array of node names")
    return Site(
        layer=_count(found, place, "layer"),
        role=str(_field(found, place, "role", str, "")),
        cache=str(_field(found, place, "cache", str, "")),
        status=str(_field(found, place, "status", str, "")),
        reason=str(_field(found, place, "reason", str, "")),
        pinned_by=_path(found, place),
        bytes=_count(found, place, "bytes"),
        nodes=tuple(nodes),
    )


def _path(found: Mapping[str, Any], place: str) -> str:
    path = found.get("pinned_by")
    if path is None or isinstance(path, str):
        return path or ""
    if isinstance(path, Sequence) and all(isinstance(name, str) for name in path):
        return _ARROW.join(path)
    raise DeadkvError(f"{place}.pinned_by: expected null, text or an array of node names")


def _count(found: Any, place: str, key: str) -> Any:
    value = _field(found, place, key, int, None)
    if value is not None and (isinstance(value, bool) or not 0 <= value < _MAX_COUNT):
        raise DeadkvError(f"{place}.{key}: expected a count below 2**63")
    return value


_MAX_COUNT = 2**63


def _field(found: Any, place: str, key: str, kind: type, default: Any) -> Any:
    if not isinstance(found, Mapping):
        raise DeadkvError(f"{place}: expected an object")
    value = found.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        raise DeadkvError(f"{place}.{key}: expected {kind.__name__}, found {type(value).__name__}")
    return value
