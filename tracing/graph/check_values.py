"""What must hold of the argument values and types in a document."""

from __future__ import annotations

import math

from passes.errors import DeadkvError
from tracing.graph.document import Const, Group, ScalarType, TensorType, Type, Value
from tracing.graph.escape import quoted, shortened
from tracing.graph.limits import MAX_DEPTH, MAX_DIM, MAX_INTEGER, MAX_RANK
from tracing.graph.symbols import parse
from tracing.graph.values import CONSTANTS, constant

_SLOTS = {"slice": 3, "range": 3}


def fail(place: str, problem: str) -> DeadkvError:
    """The error for `problem` at `place` of a document."""
    return DeadkvError(f"{shortened(place)}: {problem}")


def check_value(value: Value, here: str, depth: int = 0) -> None:
    """Raise DeadkvError unless `value` is an argument torch.fx can hold."""
    if depth > MAX_DEPTH:
        raise fail(here, f"values are nested more than {MAX_DEPTH} deep")
    if isinstance(value, Group):
        _check_group(value, here)
        for item in value.items:
            check_value(item, here, depth + 1)
    elif isinstance(value, Const):
        _check_const(value, here)


def _check_group(value: Group, here: str) -> None:
    size = len(value.items)
    if value.kind not in ("list", "tuple", "dict", *_SLOTS):
        raise fail(here, f"{quoted(value.kind)} is not a kind of container")
    if size != _SLOTS.get(value.kind, size) or (value.kind == "dict" and size % 2):
        raise fail(here, f"a {value.kind} cannot hold {size} items")
    keys = value.items[::2] if value.kind == "dict" else ()
    if not all(isinstance(key, Const) for key in keys) or len(set(keys)) != len(keys):
        raise fail(here, "the keys of a dict are constants, each once")
    if value.kind == "range" and not all(isinstance(v, Const) and v.kind == "int" for v in value.items):
        raise fail(here, "a range is made of ints")
    if value.kind == "range" and value.items[2] == Const("int", "0"):
        raise fail(here, "the step of a range is not 0")


def _check_const(const: Const, here: str) -> None:
    if const.kind not in (*CONSTANTS, "sym", "object"):
        raise fail(here, f"{quoted(const.kind)} is not a kind of constant")
    try:
        _read(const)
    except DeadkvError as error:
        raise fail(here, str(error)) from error


def _read(const: Const) -> None:
    if const.kind == "sym":
        parse(const.text)
    elif const.kind != "object":
        value = constant(const)
        if isinstance(value, int) and abs(value) > MAX_INTEGER:
            raise DeadkvError(f"the integer {quoted(const.text)} is beyond 2**128")


def check_type(found: Type | None, here: str, depth: int = 0) -> None:
    """Raise DeadkvError unless `found` is a type that a fake tensor, number or tuple of them can have."""
    if depth > MAX_DEPTH:
        raise fail(here, f"types are nested more than {MAX_DEPTH} deep")
    if isinstance(found, tuple):
        for item in found:
            check_type(item, here, depth + 1)
    elif isinstance(found, TensorType):
        _check_tensor(found, here)
    elif isinstance(found, ScalarType):
        _check_scalar(found, here)


def _check_tensor(found: TensorType, here: str) -> None:
    _check_const(Const("dtype", found.dtype), here)
    if found.stride is not None and len(found.stride) != len(found.shape):
        raise fail(here, f"{len(found.shape)} sizes but {len(found.stride)} strides")
    if len(found.shape) > MAX_RANK:
        raise fail(here, f"{len(found.shape)} dimensions; the limit is {MAX_RANK}")
    for dim in (*found.shape, *(found.stride or ())):
        if isinstance(dim, str):
            _check_const(Const("sym", dim), here)
        elif not 0 <= dim <= MAX_DIM:
            raise fail(here, f"the size or stride {quoted(str(dim))} is not between 0 and 2**62")
    if math.prod(dim for dim in found.shape if isinstance(dim, int)) > MAX_DIM:
        raise fail(here, "a tensor of more than 2**62 elements")


def _check_scalar(found: ScalarType, here: str) -> None:
    if found.kind not in ("int", "float", "bool"):
        raise fail(here, f"{quoted(found.kind)} is not a kind of scalar")
    try:
        constant(Const(found.kind, found.text))
    except DeadkvError:
        _check_const(Const("sym", found.text), here)
