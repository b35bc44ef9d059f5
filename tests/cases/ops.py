"""Custom operators of the cases, and their contracts: kernels that nobody can look into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from passes import register_contract
from passes.contracts import EmptyTensor

_LIBRARY = torch.library.Library("caselib", "DEF")


def _define(schema: str, body: Any) -> None:
    name = schema.split("(")[0]
    _LIBRARY.define(schema)
    torch.library.impl(_LIBRARY, name, "CompositeExplicitAutograd")(body)
    torch.library.register_fake(f"caselib::{name}", lambda x, *rest, **options: torch.empty_like(x), lib=_LIBRARY)


def _attend(x: Tensor, pool: Tensor, table: Tensor | None = None, prior: Tensor | None = None) -> Tensor:
    """Reads `prior` only where there is no table."""
    if table is None:
        assert prior is not None
        return x + prior.sum()
    return x + pool[table.clamp(min=0).long()].sum()


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


def _attend_reads(bound: Mapping[str, Any]) -> set[str]:
    return {"x", "prior"} if bound["table"] is None else {"x", "pool", "table"}


register_contract("caselib::attend", reads=_attend_reads)
register_contract("caselib::attend_required", reads={"x"}, stand_in={"prior": EmptyTensor((0,))})
register_contract("caselib::attend_aliased", reads={"x"}, stand_in={"prior": "x"})
register_contract("caselib::attend_strict", reads={"x"})

attend = torch.ops.caselib.attend.default
attend_unknown = torch.ops.caselib.attend_unknown.default
attend_required = torch.ops.caselib.attend_required.default
attend_aliased = torch.ops.caselib.attend_aliased.default
attend_strict = torch.ops.caselib.attend_strict.default
attention_block_tkg = torch.ops.caselib.attention_block_tkg.default
