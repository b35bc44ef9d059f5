"""The passes that can be asked for by name: those of this package, and those that installed packages bring.

A package brings a pass by an entry point of the group `deadkv.passes`, `NAME = "package.module:PassClass"`. It is
imported when a pass of that name is asked for, or all are listed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from torch.fx.passes.infra.pass_base import PassBase

from passes.errors import DeadkvError
from passes.ordering import Constraints

ENTRY_POINTS = "deadkv.passes"
PassClass = TypeVar("PassClass", bound=type[PassBase])
log = logging.getLogger("deadkv")


@dataclass(frozen=True)
class RegisteredPass:
    """A pass class, and where it may stand in a pipeline."""

    cls: type[PassBase]
    constraints: Constraints


_REGISTRY: dict[str, RegisteredPass] = {}


def register_pass(
    name: str, *, before: Sequence[str] = (), after: Sequence[str] = (), requires: Sequence[str] = ()
) -> Callable[[PassClass], PassClass]:
    """Class decorator: makes a pass, a dataclass derived from torch.fx's PassBase, available under `name`.

    The dataclass fields of simple type (str, bool, int, float) are its options. A later class replaces an earlier one.
    `before`, `after` and `requires` name other passes (`passes.ordering.Constraints`).

    Raises:
        DeadkvError: the class is no dataclass.
    """
    constraints = Constraints(tuple(before), tuple(after), tuple(requires))

    def register(cls: PassClass) -> PassClass:
        if not hasattr(cls, "__dataclass_fields__"):
            raise DeadkvError(f"pass {name!r}: {cls.__name__} must be a dataclass, whose fields are its options")
        _REGISTRY[name] = RegisteredPass(cls, constraints)
        return cls

    return register


def available_passes() -> Mapping[str, type[PassBase]]:
    """Every pass class by name, in alphabetical order. An installed one that does not import is logged, not listed."""
    for _, plugin in sorted(_plugins().items()):
        _load_or_warn(plugin)
    return {name: found.cls for name, found in sorted(_REGISTRY.items())}


def pass_named(name: str) -> RegisteredPass:
    """The pass of that name. Raises DeadkvError if there is none, with the known names, or if it cannot be imported."""
    if name not in _REGISTRY:
        plugins = _plugins()
        if name not in plugins:
            raise DeadkvError(f"unknown pass {name!r}: available are {', '.join(sorted({*_REGISTRY, *plugins}))}")
        _load(plugins[name])
    return _REGISTRY[name]


def constraints_of(name: str) -> Constraints:
    """The constraints of the pass of that name; none for one that is not registered."""
    found = _REGISTRY.get(name)
    return Constraints() if found is None else found.constraints


def known_names() -> frozenset[str]:
    """The names of all passes, without importing what is not imported."""
    return frozenset({*_REGISTRY, *_plugins()})


def _plugins() -> dict[str, EntryPoint]:
    return {found.name: found for found in entry_points(group=ENTRY_POINTS)}


def _load_or_warn(plugin: EntryPoint) -> None:
    try:
        _load(plugin)
    except DeadkvError as error:
        log.warning("%s", error)


def _load(plugin: EntryPoint) -> None:
    """Imports a plug-in, which registers itself or is a class to register."""
    name, where = plugin.name, plugin.value
    try:
        loaded: Any = plugin.load()
    except Exception as error:
        raise DeadkvError(f"pass {name!r} ({where}) cannot be imported: {type(error).__name__}: {error}") from error
    if name in _REGISTRY:
        return
    if not (isinstance(loaded, type) and issubclass(loaded, PassBase)):
        raise DeadkvError(f"pass {name!r}: {where} is no torch.fx PassBase class and registers none of that name")
    register_pass(name)(loaded)
