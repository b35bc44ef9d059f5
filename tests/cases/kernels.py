"""Rows of calls that nobody can look into: attention kernels, markers, kernels behind the NKI operator."""

from __future__ import annotations

from torch import Tensor

from tests.cases import ops
from tests.cases.case import case
from tests.cases.sites import along, embedded, indexed, site


# opaque_operand: an operand that the kernel's contract calls unread.
@case("opaque_operand", "unread_with_table", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend(x, past_key_values_0, block_table, site(past_key_values_0, block_table))


@case("opaque_operand", "keyword", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend(x, past_key_values_0, prior=indexed(past_key_values_0, block_table).float(), table=block_table)


@case("opaque_operand", "stand_in_empty", goes=True, static=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend_required(x, site(past_key_values_0, block_table))


@case("opaque_operand", "stand_in_operand", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend_aliased(x, embedded(past_key_values_0, block_table))


@case("opaque_operand", "twin_read_without_table", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend(x, past_key_values_0, None, site(past_key_values_0, block_table))


@case("opaque_operand", "twin_no_contract", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend_unknown(x, past_key_values_0, block_table, site(past_key_values_0, block_table))


@case("opaque_operand", "twin_no_stand_in", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend_strict(x, site(past_key_values_0, block_table))


@case("opaque_operand", "twin_also_read", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    return ops.attend(x, past_key_values_0, block_table, prior) + prior


# marker_lane: a lane of a boundary marker whose result nobody reads.
@case("marker_lane", "list", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.mark([x, site(past_key_values_0, block_table)], 0)[0] + 1


@case("marker_lane", "first_of_three", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    lanes = ops.mark([indexed(past_key_values_0, block_table).contiguous(), x, x * 2], 1)
    return lanes[2] - lanes[1]


@case("marker_lane", "fixed_arity", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.mark_pair(x, along(past_key_values_0, block_table))[0] + 1


@case("marker_lane", "start_and_end", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    lanes = ops.mark([site(past_key_values_0, block_table), x], 2)
    return ops.mark([lanes[1] + 1, lanes[0].float() * 2], 3)[0]


@case("marker_lane", "all_lanes_dead", goes=True, plain={"*": 0})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    ops.mark([x, site(past_key_values_0, block_table)], 4)
    return x + 1


@case("marker_lane", "twin_lane_read", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    lanes = ops.mark([x, site(past_key_values_0, block_table)], 5)
    return lanes[0] + lanes[1]


@case("marker_lane", "twin_unregistered", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.unregistered_mark([x, site(past_key_values_0, block_table)], 6)[0] + 1


@case("marker_lane", "twin_unregistered_fixed_arity", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.unregistered_pair(x, site(past_key_values_0, block_table))[0] + 1


@case("marker_lane", "twin_only_lane", goes=False, plain={"*": 0})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    ops.mark([site(past_key_values_0, block_table)], 7)
    return x + 1
