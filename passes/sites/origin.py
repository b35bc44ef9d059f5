"""Provenance: which values are a pool seen through views and casts, which derive only from the block table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch.fx import Node

from passes import metadata
from passes.demand.metadata_reads import METADATA_READS, is_metadata_read
from passes.facts import NodeFacts
from passes.frames import Frame
from passes.ops.schema import base_name
from passes.sites.anchors import Anchors, Pool
from passes.sites.source import anchor_name, lane_operand, moves_nothing
from passes.walks import evaluate


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


Place = tuple[Frame, Node]
"""A value in one entry of its graph."""


class Origins:
    """The origin of each value that is asked for. What is asked again costs nothing, so all sites share one of these.

    Whether a value is a pool is followed through views and casts only, so the answer for any other value, such as the
    hidden states of the last layer, costs no walk up to the inputs.
    """

    def __init__(self, anchors: Anchors) -> None:
        self._anchors = anchors
        self._pools: dict[Place, Origin | None] = {}
        self._indices: dict[Place, Origin] = {}

    def pool(self, frame: Frame, node: Node) -> Origin | None:
        """The pool that the value is a view, cast or dequantization of, or None."""
        return evaluate((frame, node), self._pool_operands, self._pool, self._pools)

    def index(self, frame: Frame, node: Node) -> Origin:
        """Whether the value derives from the block table or from constants alone."""
        return evaluate((frame, node), _index_operands, self._index, self._indices)

    def _pool_operands(self, place: Place) -> Sequence[Place]:
        frame, node = place
        if (handed := _handed_on(frame, node)) is not None:
            return handed
        found = frame.facts.nodes.of(node)
        return [] if found is None else [(frame, operand) for operand in _pool_candidates(frame, node, found)]

    def _pool(self, place: Place, operands: Sequence[Place]) -> Origin | None:
        frame, node = place
        if node.op == "placeholder" and frame.parent is not None:
            return self._sliced(frame, node)
        if node.op in ("placeholder", "get_attr"):
            return self._named_pool(frame, node)
        origin = next((found for operand in operands if (found := self._pools[operand]) is not None), None)
        if origin is None:
            return None
        call = frame.facts.call(node)
        return replace(origin, converted=True) if call is not None and call.base_name in _CONVERSION else origin

    def _sliced(self, frame: Frame, placeholder: Node) -> Origin | None:
        value = frame.operand(placeholder)
        assert frame.parent is not None
        origin = self._pools[frame.parent, value] if isinstance(value, Node) else None
        if origin is None or not frame.is_slice(placeholder):
            return origin
        return replace(origin, block_dim=origin.block_dim - 1)

    def _named_pool(self, frame: Frame, node: Node) -> Origin | None:
        name = anchor_name(frame, node)
        pool = self._anchors.pools.get(name)
        return None if pool is None else Origin(pool, name in self._anchors.tables, block_dim=pool.stacked)

    def _index(self, place: Place, operands: Sequence[Place]) -> Origin:
        frame, node = place
        if _handed_on(frame, node) is not None:
            return next((self._indices[operand] for operand in operands), Origin(constant=True))
        if node.op in ("placeholder", "get_attr"):
            return self._named_index(frame, node)
        found = frame.facts.nodes.of(node)
        return NOTHING if found is None else self._computed(frame, node, found, operands)

    def _named_index(self, frame: Frame, node: Node) -> Origin:
        name = anchor_name(frame, node)
        if name in self._anchors.tables:
            return Origin(table=True)
        is_size = isinstance(metadata.value(node), torch.SymInt)
        return Origin(constant=is_size or (node.op == "get_attr" and name not in self._anchors.pools))

    def _computed(self, frame: Frame, node: Node, facts: NodeFacts, operands: Sequence[Place]) -> Origin:
        if _is_opaque(facts) or (facts.effects.writes and not facts.effects.aliases):
            return NOTHING
        if facts.effects.writes:
            return self._indices[operands[0]]
        if _reads_metadata(frame, node, facts):
            return Origin(constant=True)
        origins = [self._indices[operand] for operand in operands]
        only_table = all(origin.table or origin.constant for origin in origins)
        is_table = only_table and any(origin.table for origin in origins)
        return Origin(table=is_table, constant=only_table and not is_table)


def _handed_on(frame: Frame, node: Node) -> Sequence[Place] | None:
    """What a call gives for an input of a nested graph, or a marker for a lane; None for any other value."""
    if node.op == "placeholder" and frame.parent is not None:
        value = frame.operand(node)
        return [(frame.parent, value)] if isinstance(value, Node) else []
    lane = lane_operand(frame, node) if frame.facts.regions else None
    return None if lane is None else [(frame, lane)]


def _is_opaque(facts: NodeFacts) -> bool:
    return facts.op is None or facts.effects.reason is not None


def _reads_metadata(frame: Frame, node: Node, facts: NodeFacts) -> bool:
    call = frame.facts.call(node) if facts.op in METADATA_READS else None
    return call is not None and is_metadata_read(call)


def _pool_candidates(frame: Frame, node: Node, facts: NodeFacts) -> Sequence[Node]:
    """The operands of which a call may be another view or a cast."""
    effects = facts.effects
    if facts.op is None or effects.reason is not None:
        return ()
    if effects.writes:
        return effects.writes[:1] if effects.aliases else ()
    if base_name(facts.op) not in _MAY_BE_POOL or (call := frame.facts.call(node)) is None:
        return ()
    if call.base_name not in _LAYOUT_OR_CONVERSION and not moves_nothing(call):
        return ()
    return [found for name in ("self", "input", "other") if isinstance(found := call.bound.get(name), Node)]


def _index_operands(place: Place) -> Sequence[Place]:
    frame, node = place
    if (handed := _handed_on(frame, node)) is not None:
        return handed
    found = frame.facts.nodes.of(node)
    if found is None or _is_opaque(found) or _reads_metadata(frame, node, found):
        return []
    if found.effects.writes:
        return [(frame, target) for target in found.effects.writes[:1]]
    return [(frame, operand) for operand in node.all_input_nodes]


# The pool in another shape, or a copy of it: block dimension and elements stay what they are.
_LAYOUT = frozenset(
    "detach alias contiguous clone view reshape _unsafe_view _reshape_alias squeeze unsqueeze flatten unflatten expand "
    "lift_fresh lift_fresh_copy view_as reshape_as".split()
)
# A cast or a dequantization of the whole pool.
_CONVERSION = frozenset("to _to_copy type_as mul div true_divide dequantize".split())
_LAYOUT_OR_CONVERSION = _LAYOUT | _CONVERSION
_MAY_BE_POOL = _LAYOUT_OR_CONVERSION | {"permute", "movedim"}
