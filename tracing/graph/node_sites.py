"""Which site of the report each node belongs to."""

from __future__ import annotations

from tracing.graph.diff import GraphDiff


def node_sites(diff: GraphDiff) -> dict[str, int]:
    """The position in the report of the site of each before node that has one.

    The nodes that the report names, and of removed ones those that served only to compute them.
    """
    sites = {name: index for index, site in enumerate(diff.reasons.sites) for name in site.nodes}
    for folded in diff.removed_folds:
        for chain in folded.chains:
            found = next((sites[name] for name in chain.nodes if name in sites), None)
            if found is not None:
                sites.update((name, found) for name in chain.nodes if name not in sites)
    return sites
