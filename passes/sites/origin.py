"""Forward provenance: which values are a pool seen through views and casts, which derive only from the block table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch.fx import Node

from passes import metadata
from passes.demand.metadata_reads import is_metadata_read
from passes.facts import NodeFacts
from passes.frames import Frame
from passes.ops.schema import Call
from passes.sites.anchors import Anchors, Pool
from passes.sites.source import anchor_name, lane_operand, moves_nothing


@dataclass(frozen=True)
class Origin:
    """Where a value comes from.

    Attributes:
        pool: the pool it is a view, cast or dequantization of.
        table: it derives from the block table and constants, and from nothing else.
        constant: it derives from constants, sizes and parameters that are no pool, and from no input's elements.
        converted: a cast or a scale lies between the pool and the value.
        block_dim: dimension of the pool that numbers its blocks.
    """

    pool: Pool | None = None
    table: bool = False
    constant: bool = False
    converted: bool = False
    block_dim: int = 0


NOTHING = Origin()


Origins = Mapping[Node, Origin]


def origins(frame: Frame, anchors: Anchors, outer: Origins) -> Origins:
    """The origin of every value of a frame, in one forward walk. `outer` has those of the frame that calls it."""
    found: dict[Node, Origin] = {}
    for node in frame.facts.graph.nodes:
        if node.op == "placeholder" and frame.parent is not None:
            found[node] = _operand_origin(frame, node, outer)
        elif node.op in ("placeholder", "get_attr"):
            found[node] = _anchor_origin(frame, node, anchors)
        elif node in frame.facts.nodes:
            lane = lane_operand(frame, node)
            found[node] = found[lane] if lane is not None else _call_origin(node, frame.facts[node], found)
    return found


def _operand_origin(frame: Frame, placeholder: Node, outer: Origins) -> Origin:
    value = frame.operand(placeholder)
    if not isinstance(value, Node):
        return Origin(constant=True)
    origin = outer.get(value, NOTHING)
    if origin.pool is None or not frame.is_slice(placeholder):
        return origin
    return replace(origin, block_dim=origin.block_dim - 1)


def _anchor_origin(frame: Frame, node: Node, anchors: Anchors) -> Origin:
    name = anchor_name(frame, node)
    if name in anchors.pools or name in anchors.tables:
        pool = anchors.pools.get(name)
        return Origin(pool=pool, table=name in anchors.tables, block_dim=0 if pool is None else pool.stacked)
    is_size = isinstance(metadata.value(node), torch.SymInt)
    return Origin(constant=node.op == "get_attr" or is_size)


def _call_origin(node: Node, facts: NodeFacts, found: Origins) -> Origin:
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


def _pool_origin(call: Call, found: Origins) -> Origin | None:
    operands = (call.bound.get(name) for name in ("self", "input", "other"))
    known = (found.get(operand, NOTHING) for operand in operands if isinstance(operand, Node))
    origin = next((origin for origin in known if origin.pool is not None), None)
    if origin is None or call.base_name in _LAYOUT or moves_nothing(call):
        return origin
    return replace(origin, converted=True) if call.base_name in _CONVERSION else NOTHING


# The pool in another shape, or a copy of it: block dimension and elements stay what they are.
_LAYOUT = frozenset(
    "detach alias contiguous clone view reshape _unsafe_view _reshape_alias squeeze unsqueeze flatten unflatten expand "
    "lift_fresh lift_fresh_copy view_as reshape_as".split()
)
# A cast or a dequantization of the whole pool.
_CONVERSION = frozenset("to _to_copy type_as mul div true_divide dequantize".split())
