"""Operators of the hand-made prunes: markers, a contracted kernel, and their unregistered twins."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_LIBRARY = torch.library.Library("verifylib", "DEF")


def _define(schema: str, body: Callable[..., object], fake: Callable[..., object] | None = None) -> None:
    name = schema.split("(")[0]
    _LIBRARY.define(schema)
    torch.library.impl(_LIBRARY, name, "CompositeExplicitAutograd")(body)
    torch.library.register_fake(f"verifylib::{name}", fake or body, lib=_LIBRARY)


def _fill(into: Tensor, x: Tensor) -> None:
    into.copy_(x)


_define("mark(Tensor[] lanes, int id) -> Tensor[]", lambda lanes, id: [lane.clone() for lane in lanes])  # noqa: A006
_define("mark_pair(Tensor a, Tensor b) -> (Tensor, Tensor)", lambda a, b: (a.clone(), b.clone()))
_define("unmarked(Tensor[] lanes, int id) -> Tensor[]", lambda lanes, id: [lane.clone() for lane in lanes])  # noqa: A006
_define("fill(Tensor(a!) into, Tensor x) -> ()", _fill, lambda into, x: None)
_define("unknown_fill(Tensor(a!) into, Tensor x) -> ()", _fill, lambda into, x: None)
verifylib = torch.ops.verifylib
