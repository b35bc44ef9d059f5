"""What each operator writes, and what its results may share memory with, as its schema tells.

An operator without a schema is taken to write all that it is given and to keep its place among the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from tracing.graph.targets import parse_schema

Slot = int | str  # position or keyword of a top-level argument
_IN_PLACE = ("iadd", "iand", "ifloordiv", "ilshift", "imatmul", "imod", "imul", "ior", "ipow", "irshift", "isub")
_IN_PLACE_OPERATORS = frozenset(f"operator.{n}" for n in (*_IN_PLACE, "itruediv", "ixor", "setitem", "delitem"))
_ALIASING = frozenset({"operator.getitem", "builtins.getattr"})
_LIKE_ATEN = ("torch.nn.functional.", "torch.Tensor.", "torch.", "Tensor.")
_PURE_MODULES = ("operator.", "math.")
_COLLECTIVES = ("_c10d_functional.", "c10d_functional.", "c10d.")


@dataclass(frozen=True, slots=True)
class Effect:
    """Argument slots that are written, slots that results may alias (None: every slot), and whether order matters."""

    writes: frozenset[Slot] | None = frozenset()
    aliases: frozenset[Slot] | None = frozenset()
    ordered: bool = False


PURE = Effect()
MAY_ALIAS = Effect(aliases=None)
UNKNOWN = Effect(writes=None, aliases=None, ordered=True)
_FIRST = frozenset({0})


@lru_cache(maxsize=4096)
def effect_of(target: str, schema: str | None = None) -> Effect:
    """The effect of calling a document's target; `schema` is the text the document recorded for it, if it did."""
    recorded = parse_schema(schema)
    if recorded is not None:
        return _of_schemas([recorded], _is_ordered(target))
    if target in _IN_PLACE_OPERATORS:
        return Effect(writes=_FIRST, aliases=_FIRST)
    if target in _ALIASING:
        return Effect(aliases=_FIRST)
    if target.startswith(_PURE_MODULES):
        return PURE
    for prefix in _LIKE_ATEN:
        if target.startswith(prefix):
            return _of_function(target.removeprefix(prefix))
    return _of_operator(target)


def _of_operator(target: str) -> Effect:
    namespace, _, rest = target.partition(".")
    packet, _, overload = rest.partition(".")
    schemas = [
        schema
        for schema in torch._C._jit_get_schemas_for_operator(f"{namespace}::{packet}")
        if overload in ("", schema.overload_name or "default")
    ]
    return _of_schemas(schemas, _is_ordered(target)) if schemas else UNKNOWN


def _of_function(name: str) -> Effect:
    """A torch function or tensor method, judged by the aten operator of the same name."""
    schemas = torch._C._jit_get_schemas_for_operator(f"aten::{name}")
    known = [schema for schema in schemas if "out" not in schema.overload_name]
    if known:
        return _of_schemas(known, _is_ordered(f"aten.{name}"))
    return UNKNOWN if name.endswith("_") and not name.endswith("__") else MAY_ALIAS


def _is_ordered(target: str) -> bool:
    """Random operators and collectives keep their order among each other."""
    if target.startswith(_COLLECTIVES):
        return True
    namespace, _, rest = target.partition(".")
    if namespace != "aten":
        return False
    packet = getattr(torch.ops.aten, rest.partition(".")[0])
    return any(torch.Tag.nondeterministic_seeded in getattr(packet, name).tags for name in packet.overloads())


def _of_schemas(schemas: Iterable[Any], ordered: bool) -> Effect:
    writes: set[Slot] = set()
    aliases: set[Slot] = set()
    for schema in schemas:
        for position, argument in enumerate(schema.arguments):
            if argument.alias_info is None:
                continue
            slots = {argument.name} if argument.kwarg_only else {position, argument.name}
            aliases |= slots
            writes |= slots if argument.alias_info.is_write else set()
    return Effect(frozenset(writes), frozenset(aliases), ordered)
