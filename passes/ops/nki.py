"""Calls of NKI kernels through the higher-order operator `nki_kernel_wrapper`, bound to the kernel's operand names.

    %k = nki_kernel_wrapper(kernel_idx=3, grid=[2], backend_config="eyJr...", operand_output_aliases={2: 1},
                            args=(%x, %table, %pool), arg_names=["x", "table", "pool"], constant_args_key=7)

The operator has no schema; its writes show only in `operand_output_aliases` (position in `args` to result), so plain
dead-code elimination deletes a kernel that writes a cache and whose results are unused. Facts are from public copies
of `nki_hop.py` in TorchNeuron and vLLM Neuron. Dynamo records every argument, with `backend_config=""` and no aliases:
the kernel is compiled later. make_fx records a compiled kernel, whose constants are in a side table.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Node

WRAPPER = "nki_kernel_wrapper"
_KEYWORDS = frozenset("kernel_idx grid backend_config operand_output_aliases args arg_names constant_args_key".split())
_NODE_NAME = re.compile(r"(?:nki_)?(\w+?)_proxy(?:_\d+)?")
"""Node names that tracing gives: `<kernel>_proxy` in TorchNeuron, `nki_<kernel>_proxy` in vLLM Neuron."""


@dataclass(frozen=True)
class KernelCall:
    """One kernel call.

    Attributes:
        name: name of the kernel function.
        bound: every known argument by name: operands, and constants where the side table of this process has them.
        positions: position in `args` of each operand.
        aliased: operands that share storage with a result, which is how a kernel writes in place.
        optional: operands whose default is None, as far as the kernel's signature is known in this process.
        compiled: `backend_config` holds a kernel compiled for exactly these operands.
        complete: `bound` has every argument of the kernel.
    """

    name: str
    bound: Mapping[str, Any]
    positions: Mapping[str, int]
    aliased: frozenset[str]
    optional: frozenset[str]
    compiled: bool
    complete: bool

    @property
    def written(self) -> frozenset[str]:
        """Operands that the call itself shows as written: of a kernel not yet compiled, any may be."""
        return self.aliased if self.compiled or self.aliased else frozenset(self.positions)


def is_kernel_wrapper(target: Any) -> bool:
    """Whether a target is the wrapper, which a graph that was loaded from a file knows by its name only."""
    return str(getattr(target, "__name__", "")).endswith(WRAPPER)


def is_kernel_call(node: Node) -> bool:
    """Whether `node` calls the wrapper, with the arguments that tracing gives it."""
    if node.args or node.op != "call_function" or node.kwargs.keys() != _KEYWORDS:
        return False
    return is_kernel_wrapper(node.target)


def kernel_call(node: Node) -> KernelCall | None:
    """The kernel call that `node`, a call of the wrapper, makes; None if it is malformed or the kernel is not known."""
    given = node.kwargs
    args, names = _items(given["args"]), _items(given["arg_names"])
    entry = _side_table_entry(node, frozenset(names))
    aliased = _aliased(given["operand_output_aliases"], names)
    kernel = _kernel_name(node, entry)
    if aliased is None or kernel is None or len(args) != len(names) or len(set(names)) != len(names):
        return None
    constants = {} if given["constant_args_key"] == -1 else entry.constants
    return KernelCall(
        name=kernel,
        bound={**(constants or {}), **dict(zip(names, args, strict=True))},
        positions={name: position for position, name in enumerate(names)},
        aliased=aliased,
        optional=frozenset(name for name, value in entry.defaults.items() if value is None),
        compiled=bool(given["backend_config"]),
        complete=constants is not None,
    )


def _items(value: Any) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, (list, tuple)) else ()


def _aliased(aliases: Any, names: tuple[Any, ...]) -> frozenset[str] | None:
    positions = list(aliases) if isinstance(aliases, Mapping) else [None]
    if not all(type(position) is int and 0 <= position < len(names) for position in positions):
        return None
    return frozenset(names[position] for position in positions if position is not None)


@dataclass(frozen=True)
class _Entry:
    """What the side table of this process knows of a kernel."""

    name: str | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Any] | None = None


def _side_table_entry(node: Node, names: frozenset[str]) -> _Entry:
    """The entry of `kernel_idx` in the module that defines the wrapper, if that kernel has all of `names`.

    The index counts registrations in one process, so in a graph from another process it names another kernel. The
    first name of each table is TorchNeuron's, the second vLLM Neuron's.
    """
    registry = getattr(sys.modules.get(type(node.target).__module__), "kernel_registry", None)
    index = node.kwargs["kernel_idx"]
    kernel = _look_up(registry, ("id_to_kernel", "funcs"), index)
    if not names <= set(_look_up(registry, ("kernel_arg_names", "arg_names"), index) or ()):
        return _Entry()
    defaults = _look_up(registry, ("kernel_default_args", "default_args"), index)
    constants = _look_up(registry, ("constant_args",), node.kwargs["constant_args_key"])
    return _Entry(getattr(kernel, "__name__", None), defaults or {}, constants)


def _look_up(registry: Any, tables: tuple[str, ...], key: Any) -> Any:
    found = (getattr(registry, name, None) for name in tables)
    return next((table[key] for table in found if isinstance(table, Mapping) and key in table), None)


def _kernel_name(node: Node, entry: _Entry) -> str | None:
    """By the side table and by the node's name, which must not contradict each other."""
    match = _NODE_NAME.fullmatch(node.name)
    traced = None if match is None else match.group(1)
    if entry.name is None or traced is None:
        return entry.name or traced
    return entry.name if traced == entry.name.removeprefix("nki_") else None
