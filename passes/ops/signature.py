"""What a schema says, read once for each overload: reading it off the dispatcher for each node would cost more than
the analysis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload


@dataclass(frozen=True)
class Parameter:
    """One argument of a schema. `kind` is its type as text, such as `Tensor`, `List[int]` or `Optional[Tensor]`."""

    name: str
    kind: str
    element: Parameter | None
    required: bool
    default: Any
    is_write: bool
    is_alias: bool

    @property
    def is_optional(self) -> bool:
        """Whether None may be given."""
        return self.kind.startswith("Optional[")

    @property
    def is_tensor(self) -> bool:
        """Whether it takes a tensor or several."""
        return "Tensor" in self.kind

    @property
    def is_int_list(self) -> bool:
        """Whether it takes a list of sizes or dimensions."""
        return self.kind in ("List[int]", "Optional[List[int]]", "List[SymInt]", "Optional[List[SymInt]]")


@dataclass(frozen=True)
class Signature:
    """The schema of one overload.

    Attributes:
        op: qualified operator name without overload.
        parameters: in order, by name.
        defaults: the default of each, None for a required one.
        positional: names of those that may be given by position.
        int_list_at: position of a list of sizes that may be given as separate numbers, or None.
        returns_alias: a result is marked as sharing an argument's storage.
        composite: it runs other operators, so it may hand back an operand although its schema is silent.
        inplace_view: it changes the shape of a tensor in place.
        random: it draws random numbers, unless an argument switches that off.
    """

    op: str
    parameters: dict[str, Parameter]
    defaults: dict[str, Any]
    positional: tuple[str, ...]
    int_list_at: int | None
    returns_alias: bool
    composite: bool
    inplace_view: bool
    random: bool


@cache
def signature(overload: OpOverload) -> Signature:
    """The signature of `overload`."""
    schema = overload._schema
    parameters = {argument.name: _parameter(argument) for argument in schema.arguments}
    leading = list(parameters.values())[:2]
    return Signature(
        op=schema.name,
        parameters=parameters,
        defaults={name: found.default for name, found in parameters.items()},
        positional=tuple(argument.name for argument in schema.arguments if not argument.kwarg_only),
        int_list_at=next((index for index, found in enumerate(leading) if found.is_int_list), None),
        returns_alias=any(returned.alias_info is not None for returned in schema.returns),
        composite=_is_composite(overload),
        inplace_view=torch.Tag.inplace_view in overload.tags,
        random=torch.Tag.nondeterministic_seeded in overload.tags,
    )


def _parameter(argument: Any) -> Parameter:
    alias = argument.alias_info
    return Parameter(
        name=argument.name,
        kind=str(argument.type),
        element=_element(argument.type),
        required=not argument.has_default_value(),
        default=argument.default_value,
        is_write=alias is not None and alias.is_write,
        is_alias=alias is not None,
    )


def _element(kind: Any) -> Parameter | None:
    if not str(kind).startswith("Optional["):
        return None
    inner = kind.getElementType()
    return Parameter("", str(inner), _element(inner), True, None, False, False)


def _is_composite(overload: OpOverload) -> bool:
    name = overload.name()  # type: ignore[no-untyped-call]
    key = "CompositeImplicitAutograd"
    return torch._C._dispatch_has_kernel(name) and torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
