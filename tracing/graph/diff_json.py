"""A diff as JSON-able data; the keys are documented in docs/diff.md."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from tracing.graph.chains import Chain, Fold
from tracing.graph.changes import NodeChange
from tracing.graph.document import GraphDoc
from tracing.graph.interface import side_text
from tracing.graph.reasons import Reasons, Site
from tracing.graph.text import type_text

if TYPE_CHECKING:
    from tracing.graph.diff import GraphDiff

SCHEMA = "deadkv.diff/1"


def diff_dict(diff: GraphDiff) -> dict[str, Any]:
    """The whole diff, of nested graphs too."""
    found = diff.differences
    return {
        "schema": SCHEMA,
        "same": diff.same,
        "nodes": [len(diff.before.nodes), len(diff.after.nodes)],
        "summary": dict(diff.reasons.summary),
        "ops": [{"op": op, "before": before, "after": after} for op, before, after in diff.op_counts()],
        "removed": _chains(diff.before, diff.removed_folds, diff.reasons),
        "added": _chains(diff.after, diff.added_folds, Reasons()),
        "rewired": [_node(change, diff.reasons) for change in found.rewired],
        "changed": [_node(change, diff.reasons) for change in found.changed],
        "reordered": [_node(change, diff.reasons) for change in found.reordered],
        "interface": [{"part": c.part, "before": c.before, "after": c.after} for c in found.interface],
        "kept_sites": [_site(site) for site in diff.reasons.kept()],
        "subgraphs": [
            {"before": nested.before_path, "after": nested.after_path, "diff": diff_dict(nested.diff)}
            for nested in diff.subgraphs
        ],
    }


def _chains(doc: GraphDoc, folds: Iterable[Fold], reasons: Reasons) -> list[dict[str, Any]]:
    sites = reasons.by_node()
    nodes = doc.by_name

    def entry(chain: Chain) -> dict[str, Any]:
        found = dict.fromkeys(sites[name].reason for name in chain.nodes if name in sites)
        return {
            "nodes": list(chain.nodes),
            "spine": list(chain.spine),
            "reads": list(chain.reads),
            "users": list(chain.users),
            "type": type_text(nodes[chain.spine[-1]].type),
            "bytes": chain.bytes,
            "sources": list(dict.fromkeys(str(nodes[name].source) for name in chain.nodes if nodes[name].source)),
            "reasons": [reason for reason in found if reason],
        }

    return [{"count": len(f.chains), "chains": [entry(chain) for chain in f.chains]} for f in folds]


def _node(change: NodeChange, reasons: Reasons) -> dict[str, Any]:
    return {
        "node": change.name,
        "rule": reasons.rules.get(change.name),
        "after_node": change.after_name,
        "changes": [
            {"slot": part.slot, "before": side_text(part.before), "after": side_text(part.after)}
            for part in change.changes
        ],
    }


def _site(site: Site) -> dict[str, Any]:
    return {
        "layer": site.layer,
        "role": site.role,
        "cache": site.cache,
        "status": site.status,
        "reason": site.reason,
        "pinned_by": site.pinned_by,
        "bytes": site.bytes,
    }
