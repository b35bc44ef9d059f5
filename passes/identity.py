"""Identifies a pass for graph caches: one hash of all that its result depends on besides the graph and torch.

torch/_inductor/custom_graph_pass.py asks a pass for a `uuid()`, and caches nothing where it is None. torch's cache keys
hold its own release and sources already, so these are left out: the identity is the same under every release.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import FunctionType, NoneType
from typing import Any

from torch.fx.passes.infra.pass_base import PassBase

from passes.context import TkgContext
from passes.contracts import Contract, Contracts, Operands

_PLAIN = frozenset({NoneType, bool, int, float, str, TkgContext})
_APART = frozenset({"inplace", "contracts"})
"""Fields of a pass that are no plain option: `inplace` does not change the result, contracts are described."""
_OTHERS = frozenset({"torch", *sys.stdlib_module_names})


class _UnknownError(Exception):
    """Something that no source file pins down."""


def pass_identity(step: PassBase, contracts: Contracts) -> str | None:
    """Hex SHA-256 of a pass: its options, `contracts`, and the sources of the packages that define it and them.

    A contract's function, like the pass's class, is known by its name and by all sources of its top-level package. What
    it reads elsewhere (another package, the environment, a variable that was assigned to) is not covered.

    Args:
        step: a pass that is a dataclass.
        contracts: the contracts that it uses.

    Returns:
        None, so that nothing is cached, if a function, the class or an option is not known that way: a lambda, a
        local function, a callable object, an option that is no plain value, a module without source.
    """
    try:
        parts = (_options(step), [_defined(cls) for cls in _classes(step)], _described(contracts))
    except _UnknownError:
        return None
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _options(step: Any) -> list[tuple[str, str]]:
    given = [(found.name, getattr(step, found.name)) for found in fields(step) if found.name not in _APART]
    if any(type(value) not in _PLAIN for _, value in given):
        raise _UnknownError
    return [(name, repr(value)) for name, value in given]


def _classes(step: PassBase) -> Iterator[type]:
    return (cls for cls in type(step).__mro__ if _package(cls) not in _OTHERS)


def _described(contracts: Contracts) -> list[Any]:
    if type(contracts) is not Contracts:
        raise _UnknownError
    tables = (contracts.by_op, contracts.by_base_name)
    declared = [[(name, _contract(found)) for name, found in sorted(table.items())] for table in tables]
    return [*declared, sorted(contracts.markers.items())]


def _contract(contract: Contract) -> tuple[Any, ...]:
    stand_ins = [(name, repr(wanted)) for name, wanted in sorted(contract.stand_in.items())]
    return contract.op, _operands(contract.reads), _operands(contract.writes), stand_ins, contract.inferred


def _operands(operands: Operands | None) -> Any:
    if operands is None:
        return None
    if isinstance(operands, FunctionType):
        return _defined(operands)
    if callable(operands):
        raise _UnknownError
    return sorted(operands)


@cache
def _defined(target: type | FunctionType) -> tuple[str, str, str]:
    """Module, name and hash of the sources of a class or function. Raises _UnknownError if it is not found by name."""
    found: Any = sys.modules.get(target.__module__)
    for name in target.__qualname__.split("."):
        found = getattr(found, name, None)
    if found is not target:
        raise _UnknownError
    return target.__module__, target.__qualname__, _sources_hash(_package(target))


def _package(target: type | FunctionType) -> str:
    return target.__module__.partition(".")[0]


def _sources_hash(package: str) -> str:
    digest = hashlib.sha256()
    for name, path in _sources(package):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{name}\0{content}\0".encode())
    return digest.hexdigest()


def _sources(package: str) -> list[tuple[str, Path]]:
    """Every source file of a top-level package or module, by its path inside. Raises _UnknownError if there is none."""
    module = sys.modules[package]
    roots = [Path(root) for root in getattr(module, "__path__", ())]
    alone = Path(getattr(module, "__file__", None) or "")
    paths = [(root, path) for root in roots for path in root.rglob("*.py")] if roots else [(alone.parent, alone)]
    found = [(path.relative_to(root).as_posix(), path) for root, path in paths if path.is_file()]
    if not found:
        raise _UnknownError
    return sorted(found)
