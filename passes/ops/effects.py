"""What a call does besides computing its result: storage it writes, storage its result may share, other effects.

Facts come from the operator's schema where the schema can be trusted and from the tables below where it is known
to be silent. `Node.is_impure` is not asked: it calls every `call_method` pure (pytorch issue 68301), so plain
dead-code elimination deletes a live `cache.copy_(x)` whose result is unused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from torch._ops import OpOverload
from torch.fx import Node

from passes import metadata
from passes.ops.names import GETATTR, GETITEM, SETITEM
from passes.ops.schema import Call, base_name, operand_nodes
from passes.ops.signature import signature

TRUSTED_NAMESPACES = frozenset({"aten", "python"})
"""Operators whose schema tells the truth about writes. A custom operator needs a contract to be believed."""


class Effects(NamedTuple):
    """Effects of one call.

    Attributes:
        reason: why the call must stay whatever happens to its result ("draws random numbers"), or None.
        opaque: nothing is known of the call: it may keep, share and write everything it is given.
        writes: operands whose storage the call writes.
        aliases: operands whose storage the result may share.
        keeps: the call may keep its result's storage for itself, so a write to it can be seen elsewhere.
    """

    reason: str | None = None
    opaque: bool = False
    writes: tuple[Node, ...] = ()
    aliases: tuple[Node, ...] = ()
    keeps: bool = False


def effects(call: Call | None) -> Effects:
    """Effects of `call`; the worst is assumed of None, of unlisted Python functions and of custom operators."""
    shared = None if call is None or call.overload is None else _shared_by_pure(call.overload)
    if call is not None and shared is not None:
        return Effects(aliases=_operands(call, shared)) if shared else PURE
    namespace = "" if call is None else call.op.split("::")[0]
    if call is None or namespace not in TRUSTED_NAMESPACES:
        return _opaque(_OPAQUE_NAMESPACES.get(namespace, "is a call of which nothing is known (no contract)"))
    if (special := _PYTHON_EFFECTS.get(call.op)) is not None:
        return special(call)
    changes_view = any(signature(overload).inplace_view for overload in call.overloads)
    if not call.overloads or changes_view or call.base_name in _SILENT_WRITES:
        return _opaque("changes a tensor in a way that is not modelled")
    return Effects(_reason(call), False, _written(call), _aliased(call))


PURE = Effects()
"""Of a call that only computes its result, in storage of its own."""


@dataclass(frozen=True)
class PlainOperator:
    """An operator of torch's own of which the schema says all, whatever its arguments are.

    Attributes:
        op: qualified name.
        arity: number of arguments that may be given by position.
        shares: positions of the arguments whose storage the result may share.
    """

    op: str
    arity: int
    shares: tuple[int, ...]

    def effects(self, call: Node) -> Effects | None:
        """Effects of `call`, or None if it names arguments, so that it must be bound to know them."""
        given = call.args
        if call.kwargs or len(given) > self.arity:
            return None
        shared = [node for at in self.shares if at < len(given) for node in operand_nodes(given[at])]
        return Effects(aliases=tuple(shared)) if self.shares else PURE


@cache
def plain_operator(overload: OpOverload) -> PlainOperator | None:
    """`overload` as a plain operator, or None if it is more than that."""
    known, shared = signature(overload), _shared_by_pure(overload)
    if shared is None or not known.op.startswith("aten::"):
        return None
    places = tuple(known.positional.index(name) for name in shared if name in known.positional)
    return PlainOperator(known.op, len(known.positional), places)


@cache
def _shared_by_pure(overload: OpOverload) -> tuple[str, ...] | None:
    """What a result may share with, if no call of `overload`, whatever its arguments, does more; else None."""
    known = signature(overload)
    namespace, name = known.op.split("::")
    is_special = known.op in _PYTHON_EFFECTS or name in _SILENT_WRITES or name.startswith(_ASSERTIONS)
    if namespace not in TRUSTED_NAMESPACES or is_special or known.inplace_view or known.random:
        return None
    return None if _written_names(overload) else _shared_names(overload)


def opaque_effects(call: Call | None, node: Node) -> Effects:
    """Effects with every operand of an opaque call counted as written and shared."""
    found = effects(call)
    if not found.opaque:
        return found
    operands = tuple(node.all_input_nodes)
    return Effects(found.reason, True, operands, operands, keeps=True)


def lasting_effect(call: Call) -> str | None:
    """Why `call` must stay even if a contract says all that it reads and writes, or None."""
    random = any(signature(overload).random for overload in call.overloads)
    return "draws random numbers" if random else _OPAQUE_NAMESPACES.get(call.op.split("::")[0])


# Operators that are not trusted for a reason of their own.
_OPAQUE_NAMESPACES: Mapping[str, str] = dict.fromkeys(
    ("_c10d_functional", "_c10d_functional_autograd", "c10d_functional", "c10d", "_dtensor"),
    "is a collective, in which every rank must take part",
)


def _opaque(reason: str) -> Effects:
    return Effects(reason=reason, opaque=True)


def _reason(call: Call) -> str | None:
    if call.base_name.startswith(_ASSERTIONS):
        return "asserts a condition at run time"
    random = any(signature(overload).random for overload in call.overloads)
    return "draws random numbers" if random and not _draws_nothing(call) else None


_ASSERTIONS = ("_assert", "sym_constrain_range", "_functional_assert", "_functional_sym_constrain", "_print")


def _draws_nothing(call: Call) -> bool:
    is_off = _RANDOM_SWITCHED_OFF.get(call.base_name)
    return is_off is not None and is_off(call.bound)


_RANDOM_SWITCHED_OFF: Mapping[str, Callable[[Mapping[str, Any]], bool]] = {
    "dropout": lambda bound: bound.get("train", True) is False or bound.get("p", 0.5) == 0,
    "scaled_dot_product_attention": lambda bound: bound.get("dropout_p", 1) == 0,
}


def _written(call: Call) -> tuple[Node, ...]:
    return _operands(call, _written_by_option(call) if call.overload is None else _written_names(call.overload))


def _operands(call: Call, names: Iterable[str]) -> tuple[Node, ...]:
    return tuple(node for name in names for node in operand_nodes(call.bound.get(name)))


@cache
def _written_names(overload: OpOverload) -> tuple[str, ...]:
    return tuple(name for name, found in signature(overload).parameters.items() if found.is_write)


def _written_by_option(call: Call) -> tuple[str, ...]:
    """Operands that a function of torch.nn.functional writes when an option asks for it."""
    return tuple(
        name
        for option, names in (("inplace", ("self", "input")), ("max_norm", ("weight",)))
        if call.bound.get(option)
        for name in names
    )


def _aliased(call: Call) -> tuple[Node, ...]:
    return _operands(call, dict.fromkeys(name for overload in call.overloads for name in _shared_names(overload)))


@cache
def _shared_names(overload: OpOverload) -> tuple[str, ...]:
    known = signature(overload)
    name = base_name(known.op)
    if known.returns_alias:
        return tuple(name for name, found in known.parameters.items() if found.is_alias)
    if name in _SILENT_ALIASES or (known.composite and name not in _FRESH_COMPOSITES):
        return tuple(known.parameters)
    return ()


# The result shares the operand's storage; the schema says nothing (aten/src/ATen/native/native_functions.yaml).
_SILENT_ALIASES = frozenset("_unsafe_view unsafe_split unsafe_split_with_sizes lift_fresh _lazy_clone".split())

# The operator updates its running statistics in place; the schema says nothing.
_SILENT_WRITES = frozenset("batch_norm native_batch_norm cudnn_batch_norm miopen_batch_norm instance_norm".split())

# Composite operators that always compute into new storage.
_FRESH_COMPOSITES = frozenset(
    "matmul linear softmax log_softmax rms_norm layer_norm scaled_dot_product_attention take_along_dim one_hot "
    "outer true_divide floor_divide cumsum_ std var square multiply divide subtract dim size numel item "
    "sym_size".split()
)


def _getitem(call: Call) -> Effects:
    indices = list(operand_nodes(call.bound.get("index")))
    copies = any((metadata.rank(index) or 0) > 0 for index in indices)
    return Effects(aliases=() if copies else tuple(operand_nodes(call.bound["self"])))


def _setitem(call: Call) -> Effects:
    return Effects(writes=tuple(operand_nodes(call.bound["self"])))


def _getattr(call: Call) -> Effects:
    name = call.bound.get("name")
    if name in METADATA_ATTRIBUTES:
        return Effects()
    if name in ("T", "mT", "H", "mH", "real", "imag", "data"):
        return Effects(aliases=tuple(operand_nodes(call.bound["self"])))
    return _opaque("reads an attribute that is not modelled")


METADATA_ATTRIBUTES = frozenset({"shape", "dtype", "device", "layout", "ndim", "itemsize", "is_cuda"})
"""Attributes of a tensor that depend on no element of it."""

_PYTHON_EFFECTS: Mapping[str, Callable[[Call], Effects]] = {
    GETITEM: _getitem,
    SETITEM: _setitem,
    GETATTR: _getattr,
    "aten::element_size": lambda call: Effects(),
    "aten::Int": lambda call: Effects(),
}
