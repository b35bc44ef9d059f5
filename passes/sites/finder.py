"""Sites: each gather of a pool by the block table, with the copies and views that bring it to BHSD.

    %i = view(%active_block_table, [-1])
    %g = index_select(%past_key_values_0, 0, %i)      <- the anchor
    %r = view(%g, [B, -1, H, D])                      <- chain
    %p = permute(%r, [0, 2, 1, 3])                    <- chain

The search anchors on the gather, not on this chain: any spelling of the gather, any index arithmetic and any layout
change before or after it is a site.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch.fx import Node

from passes import metadata
from passes.context import TkgContext
from passes.facts import GraphFacts
from passes.frames import Frame, walk
from passes.ops.schema import base_name
from passes.sites.anchors import Anchors, Pool, find_anchors
from passes.sites.contradictions import check_pools_are_used
from passes.sites.gathers import gather_operands, is_gather
from passes.sites.origin import Origins


@dataclass(frozen=True)
class Site:
    """One materialization of one pool.

    Attributes:
        frame: the entry of the graph that it is in.
        pool: the pool it reads.
        gather: the gather.
        source: what it gathers from: the pool, or a view or cast of it.
        index: the gather's index.
        chain: the gather and the layout changes behind it, in graph order.
        converted: the pool was cast or dequantized before the gather.
        bytes: bytes that the gather and the copies of its chain read and write in one run, or None if a size is
            symbolic or was not recorded.
    """

    frame: Frame
    pool: Pool
    gather: Node
    source: Node
    index: Node
    chain: tuple[Node, ...]
    converted: bool
    bytes: int | None


@dataclass(frozen=True)
class SiteSearch:
    """The sites of a graph in graph order; with no site, why not."""

    sites: tuple[Site, ...]
    anchors: Anchors
    explanation: str


def find_sites(root: Frame, context: TkgContext | None = None) -> SiteSearch:
    """All sites, found among the gathers. Raises DeadkvError if the context says what the graph refutes."""
    anchors = find_anchors(root, context)
    if not anchors.pools or not anchors.tables:
        return SiteSearch((), anchors, _missing_anchor(anchors))
    sites = tuple(_sites(root, anchors))
    if context is not None:
        check_pools_are_used(context, anchors.attention, {site.pool.name for site in sites})
    return SiteSearch(sites, anchors, "" if sites else "no pool is gathered by the block table")


def _sites(root: Frame, anchors: Anchors) -> Iterator[Site]:
    origins = Origins(anchors)
    for frame in walk(root):
        for node in frame.facts.calls.named(is_gather):
            if len(node.all_input_nodes) > 1 and (site := _site(node, frame, origins)) is not None:
                yield site


def _missing_anchor(anchors: Anchors) -> str:
    missing = "pool" if not anchors.pools else "block table"
    return (
        f"no {missing} found: neither a TkgContext, nor an attention_block_tkg operand, nor a name "
        f"({'past_key_values.N' if missing == 'pool' else '*block_table*'}) speaks for one"
    )


def _site(node: Node, frame: Frame, origins: Origins) -> Site | None:
    call = frame.facts.call(node)
    operands = None if call is None else gather_operands(call)
    if operands is None:
        return None
    source, index, dim = operands
    origin = origins.pool(frame, source)
    if origin is None or origin.pool is None or origin.block_dim != dim or not origins.index(frame, index).table:
        return None
    chain = _layout_chain(node, frame.facts)
    moved, rounds = _bytes_moved(chain, frame.facts), frame.rounds()
    total = None if moved is None or rounds is None else moved * rounds
    return Site(frame, origin.pool, node, source, index, chain, origin.converted, total)


def _layout_chain(gather: Node, facts: GraphFacts) -> tuple[Node, ...]:
    chain = [gather]
    for node in chain:
        chain += [user for user in node.users if _name(user, facts) in _LAYOUT_CHANGES]
    return tuple(sorted(dict.fromkeys(chain)))


def _name(node: Node, facts: GraphFacts) -> str | None:
    """Name of the operator that `node` calls, without namespace; None if it is no call or nothing is known of it."""
    found = facts.nodes.of(node)
    return None if found is None or found.op is None else base_name(found.op)


_VIEWS = frozenset(
    "view reshape permute transpose t squeeze unsqueeze flatten unflatten _unsafe_view detach alias movedim".split()
)
_LAYOUT_CHANGES = _VIEWS | frozenset("contiguous clone to _to_copy".split())


def _bytes_moved(chain: tuple[Node, ...], facts: GraphFacts) -> int | None:
    """Bytes read and written by the copying nodes of a chain; a view moves none."""
    total = 0
    for node in chain:
        if node is not chain[0] and _name(node, facts) in _VIEWS:
            continue
        written = metadata.dense_bytes(node)
        read = written if node is chain[0] else metadata.dense_bytes(node.all_input_nodes[0])
        if written is None or read is None:
            return None
        total += read + written
    return total
