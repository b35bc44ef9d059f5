"""Every row of the case table: what must go, and its twins that must stay, in several spellings.

Each function takes `x [3, 2, 16, 8]`, the pool `[10, 4, 2, 8]` (blocks, block size, heads, head dim) and the block
table `[3, 4]`, and holds one site.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from tests.cases import ops

Body = Callable[[Tensor, Tensor, Tensor], object]

LEVELS = ("fx", "dynamo", "export", "make_fx")
NOT_FX = ("dynamo", "export", "make_fx")
"""symbolic_trace refuses item assignment, and makes a tensor made in the function a constant of the module."""
UNSOUND = {"fx": 0, "dynamo": 0}
"""Plain dead-code elimination deletes a live in-place call_method, and the site with it."""


def site(pool: Tensor, table: Tensor) -> Tensor:
    """The chain of NxDI's block cache manager: index_select, reshape, permute."""
    return pool.index_select(0, table.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)


def indexed(pool: Tensor, table: Tensor) -> Tensor:
    """The same by advanced indexing with the table itself."""
    return pool[table].flatten(1, 2).transpose(1, 2)


def embedded(pool: Tensor, table: Tensor) -> Tensor:
    """The same as a lookup of flattened blocks."""
    rows = torch.nn.functional.embedding(table, pool.reshape(10, -1))
    return rows.reshape(3, 16, 2, 8).permute(0, 2, 1, 3).contiguous()


def along(pool: Tensor, table: Tensor) -> Tensor:
    """The same by take_along_dim."""
    index = table.reshape(-1).long().view(-1, 1, 1, 1).expand(-1, 4, 2, 8)
    return torch.take_along_dim(pool, index, 0).view(3, 16, 2, 8).permute(0, 2, 1, 3)


@dataclass(frozen=True)
class Case:
    """One form of one row.

    Attributes:
        row: id of the row in the case table.
        form: what distinguishes this form.
        body: the function.
        goes: the site must be removed (True) or must stay (False).
        plain: gathers that plain dead-code elimination leaves, by capture level where it differs from the default.
        policy: the policy under which `goes` is expected.
        static: `goes` holds only where the trace fixed shapes, which symbolic_trace does not.
        levels: the capture levels on which it can be written.
    """

    row: str
    form: str
    body: Body
    goes: bool
    plain: dict[str, int] = field(default_factory=dict)
    policy: str = "liveness"
    static: bool = False
    levels: tuple[str, ...] = LEVELS

    @property
    def id(self) -> str:
        """`row-form`."""
        return f"{self.row}-{self.form}"


CASES: list[Case] = []


def case(row: str, form: str, *, goes: bool, **options: object) -> Callable[[Body], Body]:
    """Adds a function to the table."""

    def add(body: Body) -> Body:
        CASES.append(Case(row, form, body, goes, **options))  # type: ignore[arg-type]
        return body

    return add


# zero_user: nothing uses the site.
@case("zero_user", "index_select", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    return x + 1


@case("zero_user", "advanced_index", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    indexed(past_key_values_0, block_table)
    return x + 1


@case("zero_user", "embedding_contiguous", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    embedded(past_key_values_0, block_table)
    return x + 1


@case("zero_user", "take_along_dim", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    along(past_key_values_0, block_table)
    return x + 1


@case("zero_user", "dead_attention_math", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    torch.softmax(x @ site(past_key_values_0, block_table).transpose(2, 3), -1)
    return x + 1


@case("zero_user", "twin_output", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + 1, site(past_key_values_0, block_table)


@case("zero_user", "twin_read", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + indexed(past_key_values_0, block_table)


# opaque_operand: an operand that the kernel's contract calls unread.
@case("opaque_operand", "unread_with_table", goes=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend(x, past_key_values_0, block_table, site(past_key_values_0, block_table))


@case("opaque_operand", "keyword", goes=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend(x, past_key_values_0, prior=indexed(past_key_values_0, block_table).float(), table=block_table)


@case("opaque_operand", "stand_in_empty", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return ops.attend_required(x, site(past_key_values_0, block_table))


@case("opaque_operand", "stand_in_operand", goes=True, plain={"*": 1})
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


# shape_only: only the shape is used.
@case("shape_only", "shape", goes=True, static=True, plain={"fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table).shape[2]


@case("shape_only", "size", goes=True, static=True, plain={"fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x * indexed(past_key_values_0, block_table).size(-1)


@case("shape_only", "all_sizes", goes=True, static=True, plain={"fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x.expand(site(past_key_values_0, block_table).size())


@case("shape_only", "numel_of_sum", goes=True, static=True, plain={"fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x * (site(past_key_values_0, block_table) + 1).numel()


@case("shape_only", "twin_max_value", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    return x * prior.size(2) + prior.max()


# like_factory: a new tensor of the same shape.
@case("like_factory", "zeros_like", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + torch.zeros_like(site(past_key_values_0, block_table))


@case("like_factory", "full_like", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + torch.full_like(indexed(past_key_values_0, block_table), 2.5, dtype=torch.float64)


@case("like_factory", "new_zeros", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table).new_zeros(3, 2, 16, 8)


@case("like_factory", "written_empty_like", goes=True, static=True, plain={"*": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return torch.empty_like(site(past_key_values_0, block_table)).copy_(x)


@case("like_factory", "twin_clone", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + torch.clone(site(past_key_values_0, block_table))


# expand_as: the other operand gives only its shape.
@case("expand_as", "expand_as", goes=True, static=True, plain={"dynamo": 1, "export": 1, "fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x[:, :, :1].expand_as(site(past_key_values_0, block_table)) * 2


@case("expand_as", "view_as", goes=True, static=True, plain={"dynamo": 1, "export": 1, "fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x.view_as(site(past_key_values_0, block_table)) * 2


@case("expand_as", "type_as", goes=True, static=True, plain={"dynamo": 1, "export": 1, "fx": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return (x * 3).type_as(site(past_key_values_0, block_table)) * 2


@case("expand_as", "twin_self", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return site(past_key_values_0, block_table).expand_as(x) * 2


# dead_store: in-place writes into the gathered copy that nothing reads.
@case("dead_store", "copy_", goes=True, plain={"make_fx": 1, "export": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table).copy_(x)
    return x + 1


@case("dead_store", "setitem", goes=True, plain={"*": 1}, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    prior[:, :, -1] = x[:, :, 0]
    return x + 1


@case("dead_store", "through_views", goes=True, plain={"make_fx": 1, "export": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    prior[0].mul_(2).add_(x[0])
    prior.transpose(0, 1).zero_()
    return x + 1


@case("dead_store", "into_scratch", goes=True, plain={"make_fx": 1, "export": 1}, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    scratch = torch.zeros(3, 2, 16, 8)
    scratch.copy_(site(past_key_values_0, block_table))
    return x + 1


@case("dead_store", "twin_view_of_pool", goes=False, plain=UNSOUND)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    past_key_values_0[:9].view(3, 3, 4, 2, 8)[:, 0].copy_(
        site(past_key_values_0, block_table)[:, :, :4].transpose(1, 2)
    )
    return x + 1


@case("dead_store", "twin_copy_read_later", goes=False, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    prior[:, :, -1] = x[:, :, 0]
    return x + prior


@case("dead_store", "twin_alias_read_later", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    prior = site(past_key_values_0, block_table)
    alias = prior.transpose(0, 1)[1]
    prior.add_(x)
    return x[:, 0] + alias[:, :1].sum()


@case("dead_store", "twin_scratch_returned", goes=False, plain=UNSOUND, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    scratch = torch.zeros(3, 2, 16, 8)
    scratch.copy_(site(past_key_values_0, block_table))
    return scratch


# index_chain: index arithmetic that only the site uses, as with a tiled pool.
@case("index_chain", "tiled", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    tiled = past_key_values_0.reshape(-1, 2, 2, 8)
    index = (block_table.reshape(-1) * 2).unsqueeze(-1) + torch.arange(2)
    tiled.index_select(0, index.reshape(-1)).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)
    return x + 1


@case("index_chain", "clamped", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    indexed(past_key_values_0, torch.where(block_table < 0, 0, block_table).to(torch.int64))
    return x + 1


@case("index_chain", "shared_arithmetic", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    flat = block_table.reshape(-1)
    past_key_values_0.index_select(0, flat).reshape(3, -1, 2, 8).permute(0, 2, 1, 3)
    return x + (flat * 4).sum()


@case("index_chain", "twin_read", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    index = (block_table.reshape(-1) * 2).unsqueeze(-1) + torch.arange(2)
    tiled = past_key_values_0.reshape(-1, 2, 2, 8).index_select(0, index.reshape(-1))
    return x + tiled.reshape(3, -1, 2, 8).permute(0, 2, 1, 3)


# dequantize: cast and scale of the whole pool before the gather.
@case("dequantize", "scaled", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0.to(torch.float64) * 0.5, block_table)
    return x + 1


@case("dequantize", "cast_after", goes=True, plain={"export": 1})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0.double(), block_table).to(torch.float32)
    return x + 1


@case("dequantize", "block_tkg_liveness", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0.to(torch.float64) * 0.5, block_table)
    return ops.attention_block_tkg(x, past_key_values_0, past_key_values_0, block_table)


@case("dequantize", "twin_conservative", goes=False, policy="conservative", plain={"*": 0})
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0.to(torch.float64) * 0.5, block_table)
    return ops.attention_block_tkg(x, past_key_values_0, past_key_values_0, block_table)


# cache_write: the live write stays; the dead gather beside it goes.
@case("cache_write", "index_copy_", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    past_key_values_0.index_copy_(0, block_table[:, 0].long(), x[:, :, :4].transpose(1, 2))
    return x + 1


@case("cache_write", "copy_", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    past_key_values_0[:3].copy_(x[:, :, :4].transpose(1, 2))
    site(past_key_values_0, block_table)
    return x + 1


@case("cache_write", "setitem", goes=True, levels=NOT_FX)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    past_key_values_0[block_table[:, 0]] = x[:, :, :4].transpose(1, 2)
    indexed(past_key_values_0, block_table)
    return x + 1


@case("cache_write", "twin_write_back", goes=False, plain=UNSOUND)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    past_key_values_0[:3].copy_(site(past_key_values_0, block_table)[:, :, :4].transpose(1, 2))
    return x + 1


# value_neutral: multiplied by zero, but NaN and Inf would come through.
@case("value_neutral", "twin_times_zero", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + site(past_key_values_0, block_table) * 0


@case("value_neutral", "twin_element_times_zero", goes=False)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return x + indexed(past_key_values_0, block_table)[0, 0, 0, 0] * 0


@case("value_neutral", "keep_alive_of_table", goes=True)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    return x + block_table[0, 0] * 0
