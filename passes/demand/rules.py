"""The table of rules: what a call demands of its operands where it does not need the elements of all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from passes.demand.asserts import metadata_assert
from passes.demand.factories import AS_CALLS, LIKE_FACTORIES, like_factory, takes_shape_of_other
from passes.demand.lattice import Transfer
from passes.demand.metadata_reads import METADATA_READS, is_metadata_read, read_metadata
from passes.demand.shapes import ShapeRoots
from passes.ops.schema import Call
from passes.regions.layouts import Agreement

Rule = Callable[[Call, ShapeRoots], Transfer]

RULES: Mapping[str, Rule] = {
    **dict.fromkeys(METADATA_READS, read_metadata),
    **dict.fromkeys(LIKE_FACTORIES, like_factory),
    **dict.fromkeys(AS_CALLS, takes_shape_of_other),
}
"""What a pure call demands of its operands, for the calls that do not need the elements of all of them."""

EFFECT_RULES: Mapping[str, Rule] = {"aten::_assert_tensor_metadata": metadata_assert}
"""The same for calls that must stay whatever happens to their result."""

NEEDS_STRIDES = frozenset({"aten::stride", "aten::sym_stride", *LIKE_FACTORIES, *EFFECT_RULES})
"""Calls whose rules believe the recorded strides too."""


def has_rule(op: str | None) -> bool:
    """Whether a rule speaks for the operator of that qualified name."""
    return op in RULES or op in EFFECT_RULES


def rule_for(table: Mapping[str, Rule], call: Call, recorded: Agreement) -> Rule | None:
    """The rule for `call`, if what it needs of the recorded sizes and strides can be believed."""
    rule = table.get(call.op)
    if rule is read_metadata and not is_metadata_read(call):
        return None
    return rule if recorded >= (Agreement.STRIDES if call.op in NEEDS_STRIDES else Agreement.SIZES) else None
