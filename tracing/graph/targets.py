"""Names of what graph nodes call: the same in every process and torch release, and found again by lookup only."""

from __future__ import annotations

import inspect
import math
import operator
import re
import types
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NoReturn

import torch
import torch._higher_order_ops  # fills torch.ops.higher_order
from torch._ops import HigherOrderOperator, OpOverload, OpOverloadPacket

from tracing.graph.limits import MAX_SCHEMA, MAX_SCHEMA_BRACKETS

_NAME = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_SYM_FUNCTIONS = ("sym_float", "sym_int", "sym_ite", "sym_max", "sym_min", "sym_not", "sym_sqrt", "sym_sum")
_OPERATOR_FACTORIES = ("attrgetter", "call", "itemgetter", "methodcaller")


class OpaqueTarget:
    """Stands for a callable or object that a document names but this process does not know. Equal by name.

    Calling it raises RuntimeError. Where the document recorded an operator schema, `inspect.signature` and `__name__`
    are the operator's, so that its operands are still known by name.
    """

    def __init__(self, name: str, schema: str | None = None) -> None:
        self.name = name
        self.schema = schema
        self.__name__ = self.__qualname__ = "opaque_" + re.sub(r"\W", "_", name, flags=re.ASCII)
        parsed = parse_schema(schema)
        if parsed is not None and is_custom(parsed.name):
            self.__module__, _, self.__name__ = parsed.name.partition("::")
            self.__signature__ = _signature(parsed)

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise RuntimeError(f"{self.name} is not known in this process and cannot be run")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpaqueTarget) and (self.name, self.schema) == (other.name, other.schema)

    def __hash__(self) -> int:
        return hash((self.name, self.schema))

    def __repr__(self) -> str:
        return f"OpaqueTarget({self.name!r})"


@lru_cache(maxsize=1024)
def parse_schema(schema: str | None) -> Any:
    """The parsed operator schema, or None where torch cannot parse it.

    torch's parser recurses once a bracket and allocates what a sized list (`int[2] x=0`) asks for, so both are bounded
    before it sees the text.
    """
    if schema is None or len(schema) > MAX_SCHEMA or _SIZED_LIST.search(schema) is not None:
        return None
    if schema.count("(") + schema.count("[") > MAX_SCHEMA_BRACKETS:
        return None
    try:
        return torch._C.parse_schema(schema)
    except (RuntimeError, LookupError, ValueError):  # LookupError: a number beyond 64 bits
        return None


_SIZED_LIST = re.compile(r"\[\s*\d{4}")


def is_custom(op: str) -> bool:
    """Whether the operator `namespace::name` is one that torch itself does not define, with plain names."""
    namespace, _, name = op.partition("::")
    return namespace not in _TORCH_NAMESPACES and namespace.isidentifier() and name.isidentifier()


_TORCH_NAMESPACES = ("aten", "prim", "prims", "python", "torch", "builtins", "math", "_operator")


def _signature(schema: Any) -> inspect.Signature | None:
    try:
        return inspect.Signature([_parameter(argument) for argument in schema.arguments])
    except ValueError:  # a schema may order and name its arguments as no Python function can
        return None


def _parameter(argument: Any) -> inspect.Parameter:
    return inspect.Parameter(
        argument.name,
        inspect.Parameter.KEYWORD_ONLY if argument.kwarg_only else inspect.Parameter.POSITIONAL_OR_KEYWORD,
        default=argument.default_value if argument.has_default_value() else inspect.Parameter.empty,
    )


def _torch_functions() -> Iterator[tuple[str, Any]]:
    overridable = {f for group in torch.overrides.get_overridable_functions().values() for f in group}
    generated = set(dir(torch._C._VariableFunctions))
    for name, value in sorted(vars(torch).items()):
        known = name in generated or name in _SYM_FUNCTIONS or name == "_assert"
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType) and (known or value in overridable):
            yield f"torch.{name}", value
    for name, value in sorted(vars(torch.nn.functional).items()):
        if isinstance(value, types.FunctionType | types.BuiltinFunctionType) and value in overridable:
            yield f"torch.nn.functional.{name}", value


def _tensor_methods() -> Iterator[tuple[str, Any]]:
    for owner in (torch.Tensor, torch._C.TensorBase):
        for name, value in sorted(vars(owner).items()):
            if isinstance(value, types.FunctionType | types.MethodDescriptorType):
                yield f"torch.Tensor.{name}", value


def _python_functions() -> Iterator[tuple[str, Any]]:
    for name in operator.__all__:
        if name not in _OPERATOR_FACTORIES:
            yield f"operator.{name}", getattr(operator, name)
    for name, value in sorted(vars(math).items()):
        if callable(value) and not name.startswith("_"):
            yield f"math.{name}", value
    yield "builtins.getattr", getattr


@lru_cache(maxsize=1)
def _functions() -> dict[str, Any]:
    """The plain functions that torch.fx graphs call, by canonical name."""
    return {**dict(_python_functions()), **dict(_tensor_methods()), **dict(_torch_functions())}


@lru_cache(maxsize=1)
def _function_names() -> dict[Any, str]:
    names: dict[Any, str] = {}
    for name, function in _functions().items():
        if name.rpartition(".")[2] == getattr(function, "__name__", None):
            names.setdefault(function, name)
    for name, function in _functions().items():
        names.setdefault(function, name)
    return names


def _plain_name(value: Any) -> str:
    known = _function_names().get(value) if isinstance(value, _FUNCTIONS) else None
    if known is not None:
        return known
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', None) or type(value).__module__}.{named.__qualname__}"


_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, types.MethodDescriptorType)
_NAMES: tuple[tuple[type, Callable[[Any], str]], ...] = (
    (OpaqueTarget, lambda opaque: str(opaque.name)),
    (OpOverload, lambda op: f"{op._schema.name.replace('::', '.')}.{op._overloadname}"),
    (OpOverloadPacket, lambda packet: str(packet._qualified_op_name).replace("::", ".")),
    (HigherOrderOperator, lambda op: f"hop.{op.name()}"),
    (object, _plain_name),
)


def object_name(value: object) -> str:
    """The stable qualified name of a callable or, for anything without one, of its class. Never an address."""
    return next(name(value) for kind, name in _NAMES if isinstance(value, kind))


def schema_of(value: Any) -> str | None:
    """The schema text of an operator that torch itself does not define; of a packet, if it has one overload only."""
    if type(value) is OpaqueTarget:
        return value.schema
    overloads = _overloads(value)
    if len(overloads) != 1 or not is_custom(overloads[0]._schema.name):
        return None
    schema = str(overloads[0]._schema)
    return None if parse_schema(schema) is None else schema


def _overloads(value: Any) -> list[Any]:
    if isinstance(value, OpOverload):
        return [value]
    if not isinstance(value, OpOverloadPacket):
        return []
    return [getattr(value, name) for name in value.overloads()]  # type: ignore[no-untyped-call]


def _operator(name: str) -> Any:
    """An already registered operator: `aten.add.Tensor`, or the packet `aten.add`."""
    namespace, _, rest = name.partition(".")
    packet, _, overload = rest.partition(".")
    qualified = f"{namespace}::{packet}"
    schemas = torch._C._jit_get_schemas_for_operator(qualified)
    if "." not in name or not any(overload in ("", s.overload_name or "default") for s in schemas):
        return None
    found = getattr(getattr(torch.ops, namespace), packet)
    return getattr(found, overload) if overload else found


def _higher_order(name: str) -> Any:
    return getattr(torch.ops.higher_order, name.removeprefix("hop."), None)


def known_schema(name: str) -> str | None:
    """The schema of an operator that this process has and torch itself does not define, by its canonical name."""
    return None if _NAME.fullmatch(name) is None or name.startswith("hop.") else schema_of(_operator(name))


def resolve(name: str, schema: str | None = None) -> Callable[..., Any]:
    """What `name` names in this process, found by lookup in torch.ops and an allow-list; else an OpaqueTarget.

    An operator whose schema differs from the recorded one is another operator, hence opaque too.
    """
    if _NAME.fullmatch(name) is None:
        return OpaqueTarget(name, schema)
    found = _functions().get(name)
    if found is None:
        found = _higher_order(name) if name.startswith("hop.") else _operator(name)
    if found is None or object_name(found) != name or schema_of(found) != schema:
        return OpaqueTarget(name, schema)
    return found  # type: ignore[no-any-return]
