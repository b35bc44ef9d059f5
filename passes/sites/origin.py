"""Forward provenance: which values are a pool seen through views and casts, which derive only from the block table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.fx import Node

from passes import metadata
from passes.demand.metadata_reads import is_metadata_read
from passes.facts import GraphFacts, NodeFacts
from passes.ops.schema import Call
from passes.sites.anchors import Anchors, Pool, anchor_name


@dataclass(frozen=True)
class Origin:
    """Where a value comes from.

    Attributes:
        pool: the pool it is a view, cast or dequantization of.
        table: it derives from the block table and constants, and from nothing else.
        constant: it derives from constants, sizes and parameters that are no pool, and from no input's elements.
        converted: a cast or a scale lies between the pool and the value.
    """

    pool: Pool | None = None
    table: bool = False
    constant: bool = False
    converted: bool = False


NOTHING = Origin()


def origins(facts: GraphFacts, anchors: Anchors) -> dict[Node, Origin]:
    """The origin of every value, in one forward walk."""
    found: dict[Node, Origin] = {}
    for node in facts.graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            found[node] = _anchor_origin(node, anchors)
        elif node in facts.nodes:
            found[node] = _call_origin(node, facts[node], found)
    return found


def _anchor_origin(node: Node, anchors: Anchors) -> Origin:
    name = anchor_name(node)
    if name in anchors.pools or name in anchors.tables:
        return Origin(pool=anchors.pools.get(name), table=name in anchors.tables)
    is_size = isinstance(metadata.value(node), torch.SymInt)
    return Origin(constant=node.op == "get_attr" or is_size)


def _call_origin(node: Node, facts: NodeFacts, found: Mapping[Node, Origin]) -> Origin:
    call, effects = facts.call, facts.effects
    if call is None or effects.reason is not None:
        return NOTHING
    if effects.writes:
        return found.get(effects.writes[0], NOTHING) if effects.aliases else NOTHING
    if is_metadata_read(call):
        return Origin(constant=True)
    operands = [found.get(operand, NOTHING) for operand in node.all_input_nodes]
    if (pool := _pool_origin(call, found)) is not None:
        return pool
    only_table = all(origin.table or origin.constant for origin in operands)
    is_table = only_table and any(origin.table for origin in operands)
    return Origin(table=is_table, constant=only_table and not is_table)


def _pool_origin(call: Call, found: Mapping[Node, Origin]) -> Origin | None:
    operands = (call.bound.get(name) for name in ("self", "input", "other"))
    known = (found.get(operand, NOTHING) for operand in operands if isinstance(operand, Node))
    origin = next((origin for origin in known if origin.pool is not None), None)
    if origin is None or call.base_name in _LAYOUT:
        return origin
    return Origin(pool=origin.pool, converted=True) if call.base_name in _CONVERSION else NOTHING


# The pool in another shape, or a copy of it: block dimension and elements stay what they are.
_LAYOUT = frozenset(
    "detach alias contiguous clone view reshape _unsafe_view _reshape_alias squeeze unsqueeze flatten unflatten expand "
    "lift_fresh lift_fresh_copy view_as reshape_as".split()
)
# A cast or a dequantization of the whole pool.
_CONVERSION = frozenset("to _to_copy type_as mul div true_divide dequantize".split())
