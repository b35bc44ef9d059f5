"""Kernels behind the higher-order NKI operator, whose writes show only in `operand_output_aliases`."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.fx import Node

from passes import register_contract
from tests.cases.building import CaseBuilder, aten
from tests.cases.case import built, case
from tests.cases.sites import embedded, indexed, site
from tests.support.nki import kernel_node, kernel_registry, nki, result

NKI = ("dynamo", "make_fx")
"""symbolic_trace and torch.export do not know the operator."""


def case_store(x: Tensor, table: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the pool in place."""
    pool[0].add_(x.sum())
    return x + 1, pool


def case_store_declared(x: Tensor, table: Tensor, pool: Tensor) -> tuple[Tensor, Tensor]:
    """The same, with a contract."""
    return case_store(x, table, pool)


def case_attend_and_store(x: Tensor, prior: Tensor | None, pool: Tensor) -> tuple[Tensor, Tensor]:
    """Writes the pool, and does not read `prior`."""
    pool[1].add_(x.sum())
    return x + 1, pool


def case_attend(x: Tensor, prior: Tensor) -> Tensor:
    return x + prior


def case_attend_declared(x: Tensor, prior: Tensor, pool: Tensor, table: Tensor) -> Tensor:
    """Reads pool and table itself, and `prior` not at all."""
    return x + pool.sum() + table.sum()


register_contract("nki::case_store_declared", reads={"x"}, writes={"pool"})
register_contract("nki::case_attend_and_store", reads={"x"}, writes={"pool"}, stand_in={"prior": "x"})
register_contract("nki::case_attend_declared", reads={"x", "pool", "table"}, writes=(), stand_in={"prior": "x"})
store, store_declared = nki(case_store), nki(case_store_declared)
attend_and_store, attend = nki(case_attend_and_store), nki(case_attend)
attend_declared = nki(case_attend_declared)


# opaque_operand: the same of a kernel that is known by the names of its operands.
@case("opaque_operand", "nki_kernel", goes=True, levels=NKI)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return attend_declared(x, site(past_key_values_0, block_table), past_key_values_0, block_table)


# nki_write: the write stays although nothing uses the results; the dead gather beside it goes.
@case("nki_write", "beside", goes=True, unsound=NKI, levels=NKI)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    site(past_key_values_0, block_table)
    store(x, block_table, past_key_values_0)
    return x + 1


@case("nki_write", "declared_by_a_contract", goes=True, unsound=NKI, levels=NKI)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    store_declared(x, block_table, past_key_values_0)
    indexed(past_key_values_0, block_table).mul(2)
    return x + 1


@case("nki_write", "unread_operand_of_the_writer", goes=True, unsound=NKI, levels=NKI)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    attend_and_store(x, embedded(past_key_values_0, block_table), past_key_values_0)
    return x + 1


@built("nki_write", "compiled_elsewhere", goes=True, unsound=("built",))
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    build.site(pool, table)
    written(build, x, pool, table)
    return build.call(aten.add.Tensor, x, 1)


@case("nki_write", "twin_site_is_what_is_written", goes=False, plain={"*": 0}, unsound=NKI, levels=NKI)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    store(site(past_key_values_0, block_table), block_table, past_key_values_0)
    return x + 1


@case("nki_write", "twin_no_contract", goes=False, levels=NKI)
def _(x: Tensor, past_key_values_0: Tensor, block_table: Tensor) -> object:
    return attend(x, site(past_key_values_0, block_table))


@built("nki_write", "twin_site_is_what_is_written_elsewhere", goes=False, plain={"*": 0}, unsound=("built",))
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    written(build, build.site(pool, table), pool, table)
    return build.call(aten.add.Tensor, x, 1)


def written(build: CaseBuilder, x: Node, pool: Node, table: Node) -> Node:
    """A compiled call of `case_store` that writes the pool, and a result that nothing uses."""
    operands: dict[str, Any] = {"x": x, "table": table, "pool": pool}
    index = kernel_registry.add(case_store)
    call = kernel_node(
        build, "case_store", operands, results=[x, pool], kernel_idx=index, aliases={2: 1}, config="compiled"
    )
    return result(build, call, 0)
