"""Custom operators of the cases, and their contracts: kernels that nobody can look into, markers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from passes import register_contract, register_marker
from passes.contracts import EmptyTensor

_LIBRARY = torch.library.Library("caselib", "DEF")


def _like_first(x: Tensor, *rest: Any, **options: Any) -> Tensor:
    return torch.empty_like(x)


def _define(schema: str, body: Callable[..., Any], fake: Callable[..., Any] = _like_first) -> None:
    name = schema.split("(")[0]
    _LIBRARY.define(schema)
    torch.library.impl(_LIBRARY, name, "CompositeExplicitAutograd")(body)
    torch.library.register_fake(f"caselib::{name}", fake, lib=_LIBRARY)


def _attend(x: Tensor, pool: Tensor, table: Tensor | None = None, prior: Tensor | None = None) -> Tensor:
    """Reads `prior` only where there is no table."""
    if table is None:
        assert prior is not None
        return x + prior.sum()
    return x + pool[table.clamp(min=0).long()].sum()


def _mark(lanes: Sequence[Tensor], id: int) -> list[Tensor]:  # noqa: A002
    return [lane.clone() for lane in lanes]


def _mark_pair(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    return first.clone(), second.clone()


def _fill(into: Tensor, x: Tensor) -> None:
    into.copy_(x.expand_as(into))


def _count(into: Tensor, x: Tensor) -> Tensor:
    _fill(into, x)
    return x.new_ones(x.shape)


_define("attend(Tensor x, Tensor pool, Tensor? table=None, Tensor? prior=None) -> Tensor", _attend)
_define("attend_unknown(Tensor x, Tensor pool, Tensor? table=None, Tensor? prior=None) -> Tensor", _attend)
_define("attend_required(Tensor x, Tensor prior) -> Tensor", lambda x, prior: x + 1)
_define("attend_aliased(Tensor x, Tensor prior) -> Tensor", lambda x, prior: x + 1)
_define("attend_strict(Tensor x, Tensor prior) -> Tensor", lambda x, prior: x + 1)
_define(
    "attention_block_tkg(Tensor X, Tensor K_cache, Tensor V_cache, Tensor? active_blocks_table, "
    "bool update_cache=False) -> Tensor",
    lambda x, k, v, table, update_cache=False: x + k[table.long()].sum() + v[table.long()].sum(),
)
_define("attend_switched(Tensor x, Tensor k, Tensor v, Tensor? table, bool switch) -> Tensor", _like_first)
_define("scaled(Tensor x, int? factor) -> Tensor", lambda x, factor: x * (factor or 1))
for name in ("mark", "unregistered_mark"):
    _define(f"{name}(Tensor[] lanes, int id) -> Tensor[]", _mark, _mark)
for name in ("mark_pair", "unregistered_pair"):
    _define(f"{name}(Tensor first, Tensor second) -> (Tensor, Tensor)", _mark_pair, _mark_pair)
for name in ("fill", "fill_unknown"):
    _define(f"{name}(Tensor(a!) into, Tensor x) -> ()", _fill, lambda into, x: None)
_define("count(Tensor(a!) into, Tensor x) -> Tensor", _count, lambda into, x: torch.empty_like(x))


def _attend_reads(bound: Mapping[str, Any]) -> set[str]:
    return {"x", "prior"} if bound["table"] is None else {"x", "pool", "table"}


register_contract("caselib::attend", reads=_attend_reads)
register_contract("caselib::attend_required", reads={"x"}, stand_in={"prior": EmptyTensor((0,))})
register_contract("caselib::attend_aliased", reads={"x"}, stand_in={"prior": "x"})
register_contract("caselib::attend_strict", reads={"x"})
register_contract("caselib::attend_switched", reads={"x", "k", "v", "table"})
register_contract("caselib::scaled", reads={"x"})
register_contract("caselib::fill", reads={"x"})
register_contract("caselib::count", reads={"x"})
register_marker("caselib::mark")
register_marker("caselib::mark_pair")

attend = torch.ops.caselib.attend.default
attend_unknown = torch.ops.caselib.attend_unknown.default
attend_required = torch.ops.caselib.attend_required.default
attend_aliased = torch.ops.caselib.attend_aliased.default
attend_strict = torch.ops.caselib.attend_strict.default
attend_switched = torch.ops.caselib.attend_switched.default
scaled = torch.ops.caselib.scaled.default
attention_block_tkg = torch.ops.caselib.attention_block_tkg.default
mark = torch.ops.caselib.mark.default
unregistered_mark = torch.ops.caselib.unregistered_mark.default
mark_pair = torch.ops.caselib.mark_pair.default
unregistered_pair = torch.ops.caselib.unregistered_pair.default
fill = torch.ops.caselib.fill.default
fill_unknown = torch.ops.caselib.fill_unknown.default
count = torch.ops.caselib.count.default
