"""Custom operators whose read set is an argument, with the contracts that declare it, and operators without one.

`reads` and `writes` are bit sets over the operands after the first: what the implementation does. `declared` is what
the contract says that it reads, which may be more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from passes import register_contract
from passes.contracts import EmptyTensor

_LIBRARY = torch.library.Library("fuzzlib", "DEF")  # type: ignore[no-untyped-call]


def _define(schema: str, body: Callable[..., Any], fake: Callable[..., Any]) -> None:
    name = schema.split("(")[0]
    _LIBRARY.define(schema)  # type: ignore[no-untyped-call]
    torch.library.impl(_LIBRARY, name, "CompositeExplicitAutograd")(body)
    torch.library.register_fake(f"fuzzlib::{name}", fake, lib=_LIBRARY)


def chosen(operands: Sequence[Any], bits: int) -> list[Any]:
    """The operands that a bit set holds."""
    return [operand for index, operand in enumerate(operands) if bits >> index & 1]


def _mix(x: Tensor, operands: Sequence[Tensor | None]) -> Tensor:
    """A new dense tensor like `x` that depends on the elements of `x` and of every operand."""
    total = sum(
        (operand.double().sum() for operand in operands if operand is not None), torch.zeros((), dtype=torch.double)
    )
    if x.dtype.is_floating_point:
        return (x + total.to(x.dtype)).contiguous()
    return torch.where(total.nan_to_num() > 0.5, x + 1 if x.dtype is not torch.bool else ~x, x).contiguous()


def _copy(x: Tensor) -> Tensor:
    return x.clone(memory_format=torch.contiguous_format)


def _blend(x: Tensor, a: Tensor | None, b: Tensor | None, c: Tensor | None, reads: int, declared: int) -> Tensor:
    return _mix(x, chosen([a, b, c], reads))


def _twins(x: Tensor, a: Tensor | None, b: Tensor | None, reads: int, declared: int) -> tuple[Tensor, Tensor]:
    return _mix(x, []), _mix(x, chosen([a, b], reads))


def _store(into: Tensor, x: Tensor, y: Tensor | None, reads: int, declared: int) -> None:
    """Overwrites `into`, or adds to it if the first bit is set."""
    number = _mix(into.new_zeros(()), chosen([x, y], reads >> 1))
    into.copy_(_mix(into, [number]) if reads & 1 else number.expand_as(into))


def _store_some(a: Tensor, b: Tensor, x: Tensor, writes: int) -> Tensor:
    for target in chosen([a, b], writes):
        target.copy_(_mix(target, [x]))
    return _copy(x)


def _peek(x: Tensor, a: Tensor | None, reads: int, declared: int) -> Tensor:
    return x.view_as(x)


def _hidden(x: Tensor, a: Tensor) -> Tensor:
    a.copy_(_mix(a, [x]))
    return _copy(x)


def _like(x: Tensor, *rest: Any) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype)


_define("blend(Tensor x, Tensor? a, Tensor? b, Tensor? c, int reads, int declared) -> Tensor", _blend, _like)
_define("strict(Tensor x, Tensor a, Tensor b, Tensor c, int reads, int declared) -> Tensor", _blend, _like)
_define("unknown(Tensor x, Tensor? a, Tensor? b, Tensor? c, int reads, int declared) -> Tensor", _blend, _like)
_define(
    "twins(Tensor x, Tensor? a, Tensor? b, int reads, int declared) -> (Tensor, Tensor)",
    _twins,
    lambda x, *rest: (_like(x), _like(x)),
)
_define("store(Tensor(a!) into, Tensor x, Tensor? y, int reads, int declared) -> ()", _store, lambda *given: None)
_define(
    "unknown_store(Tensor(a!) into, Tensor x, Tensor? y, int reads, int declared) -> ()", _store, lambda *given: None
)
_define(
    "store_some(Tensor(a!) a, Tensor(b!) b, Tensor x, int writes) -> Tensor",
    _store_some,
    lambda a, b, x, writes: _like(x),
)
_define("peek(Tensor(a) x, Tensor? a, int reads, int declared) -> Tensor(a)", _peek, lambda x, *rest: x.view_as(x))
_define("hidden(Tensor x, Tensor a) -> Tensor", _hidden, lambda x, a: _like(x))


def _declared(*names: str, always: Sequence[str] = ("x",)) -> Callable[[Mapping[str, Any]], set[str]]:
    return lambda bound: {*always, *chosen(names, bound["declared"])}


register_contract("fuzzlib::blend", reads=_declared("a", "b", "c"))
register_contract("fuzzlib::strict", reads=_declared("a", "b", "c"), stand_in={"a": EmptyTensor((0,)), "b": "x"})
register_contract("fuzzlib::twins", reads=_declared("a", "b"))
register_contract("fuzzlib::store", reads=_declared("into", "x", "y", always=()))
register_contract(
    "fuzzlib::store_some",
    reads=lambda bound: {"x", *chosen(["a", "b"], bound["writes"])},
    writes=lambda bound: set(chosen(["a", "b"], bound["writes"])),
)
register_contract("fuzzlib::peek", reads=_declared("a"))

blend, strict, unknown, twins, store, unknown_store, store_some, peek, hidden = (
    getattr(torch.ops.fuzzlib, name).default
    for name in "blend strict unknown twins store unknown_store store_some peek hidden".split()
)
