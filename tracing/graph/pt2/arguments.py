"""Arguments of torch's export schema, a union with one key each, as values of the graph file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from passes.errors import DeadkvError
from tracing.graph.escape import quoted
from tracing.graph.pt2 import types

Values = Callable[[Any], Any]


def _node(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"node": found["name"]}


def _number(found: Mapping[str, Any]) -> Any:
    """A size or scalar: the name of a node, or a constant."""
    ((_, content),) = found.items()
    return {"node": content} if "as_name" in found else _float(content) if "as_float" in found else content


def _float(found: Any) -> Any:
    """JSON has no NaN and no infinities: torch writes them as words."""
    number = float(found)
    return number if math.isfinite(number) else {"float": repr(number)}


def _optional(found: Mapping[str, Any]) -> Any:
    return _node(found["as_tensor"]) if "as_tensor" in found else None


def _each(value: Values) -> Values:
    return lambda found: [value(item) for item in found]


def _plain(found: Any) -> Any:
    if isinstance(found, (dict, list)):
        raise TypeError(found)
    return found


def _mapping(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"dict": [[key, argument(item)] for key, item in found.items()]}


_ARGUMENTS: dict[str, Values] = {
    "as_none": lambda _: None,
    "as_tensor": _node,
    "as_tensors": _each(_node),
    "as_int": _plain,
    "as_ints": _each(_plain),
    "as_float": _float,
    "as_floats": _each(_float),
    "as_string": _plain,
    "as_strings": _each(_plain),
    "as_bool": _plain,
    "as_bools": _each(_plain),
    "as_sym_int": _number,
    "as_sym_ints": _each(_number),
    "as_sym_float": _number,
    "as_sym_floats": _each(_number),
    "as_sym_bool": _number,
    "as_sym_bools": _each(_number),
    "as_scalar_type": lambda number: {"dtype": types.dtype(number)},
    "as_memory_format": lambda number: {"memory_format": types.memory_format(number)},
    "as_layout": lambda number: {"layout": types.layout(number)},
    "as_device": lambda found: {"device": types.device(found)},
    "as_optional_tensor": _optional,
    "as_optional_tensors": _each(_optional),
    "as_nested_tensors": _each(_each(_node)),
    "as_int_lists": _each(_each(_plain)),
    "as_float_lists": _each(_each(_float)),
    "as_complex": lambda found: {"complex": str(complex(found["real"], found["imag"]))},
    "as_operator": lambda target: {"object": target_name(target)},
    "as_string_to_argument": _mapping,
}


def argument(found: Mapping[str, Any]) -> Any:
    """The value of an argument. Raises DeadkvError for one that a graph file cannot hold."""
    ((kind, content),) = found.items()
    if kind not in _ARGUMENTS:
        raise DeadkvError(f"holds an argument of kind {quoted(kind)}, which deadkv does not read")
    return _ARGUMENTS[kind](content)


def target_name(target: str) -> str:
    """The canonical name of a serialized target: `aten.view.default` for torch.ops.aten.view.default."""
    for prefix, name in _PREFIXES.items():
        if target.startswith(prefix):
            return name + target.removeprefix(prefix)
    return target


_PREFIXES = {"torch.ops.higher_order.": "hop.", "torch.ops.": "", "_operator.": "operator."}
