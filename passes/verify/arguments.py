"""The arguments of a node before and after, compared place by place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from torch._ops import OpOverload
from torch.fx import Node

Difference = tuple[str, Any, Any]
"""A place such as `0`, `1[2]` or `size`, and what was and is there."""

_ABSENT = object()


def is_same_call(old: Node, new: Node) -> bool:
    """Whether two nodes call the same with arguments that do not differ."""
    if old.op != new.op or old.target != new.target:
        return False
    was, now = old.kwargs, new.kwargs
    is_unchanged = _are_unchanged(old.args, new.args)
    if is_unchanged and (was or now):
        is_unchanged = list(was) == list(now) and _are_unchanged(tuple(was.values()), tuple(now.values()))
    return is_unchanged or not any(differences(old, new))


def _are_unchanged(was: Sequence[Any], now: Sequence[Any]) -> bool:
    """Whether two sequences are built alike of equal parts. Cheaper than `compare`, which says where they differ."""
    if len(was) != len(now):
        return False
    for one, other in zip(was, now, strict=True):
        if one is other:
            continue
        if type(one) is not type(other):
            return False
        if isinstance(one, Node):
            if one.name != other.name:
                return False
        elif isinstance(one, (list, tuple)):
            if not _are_unchanged(one, other):
                return False
        elif isinstance(one, (dict, slice)) or not _is_same(one, other):
            return False
    return True


def differences(old: Node, new: Node) -> Iterator[Difference]:
    """Places at which two argument lists differ; nodes of the two graphs are the same if they have the same name.

    An argument that only one of them gives is held against the default that the schema has for it.
    """
    target: Any = old.target
    defaults = _defaults(target) if target == new.target and isinstance(target, OpOverload) else {}
    length = max(len(old.args), len(new.args))
    yield from compare("", _filled_up(old.args, length, defaults), _filled_up(new.args, length, defaults))
    named = {name: default for name, default in defaults.items() if name in {**old.kwargs, **new.kwargs}}
    yield from _compare_named("", {**named, **old.kwargs}, {**named, **new.kwargs})


def _filled_up(args: tuple[Any, ...], length: int, defaults: Mapping[int | str, Any]) -> list[Any]:
    return [args[index] if index < len(args) else defaults.get(index, _ABSENT) for index in range(length)]


@cache
def _defaults(overload: OpOverload) -> Mapping[int | str, Any]:
    """The defaults of an operator's arguments, by position and by name."""
    arguments = [(index, argument) for index, argument in enumerate(overload._schema.arguments)]
    known = [(index, argument) for index, argument in arguments if argument.has_default_value()]
    by_position: dict[int | str, Any] = {i: a.default_value for i, a in known if not a.kwarg_only}
    return by_position | {argument.name: argument.default_value for _, argument in known}


def compare(place: str, was: Any, now: Any) -> Iterator[Difference]:
    """Places within one argument at which it differs."""
    if isinstance(was, slice) and isinstance(now, slice):
        was, now = (was.start, was.stop, was.step), (now.start, now.stop, now.step)
    if _are_alike(was, now, list) or _are_alike(was, now, tuple):
        for index, (one, other) in enumerate(zip(was, now, strict=True)):
            yield from compare(f"{place}[{index}]" if place else str(index), one, other)
    elif isinstance(was, dict) and isinstance(now, dict):
        yield from _compare_named(place, was, now)
    elif not _is_same(was, now):
        yield place, was, now


def _compare_named(place: str, was: Any, now: Any) -> Iterator[Difference]:
    for name in dict.fromkeys((*was, *now)):
        yield from compare(f"{place}[{name}]" if place else str(name), was.get(name, _ABSENT), now.get(name, _ABSENT))


def _are_alike(was: Any, now: Any, kind: type) -> bool:
    return isinstance(was, kind) and isinstance(now, kind) and len(was) == len(now)  # type: ignore[arg-type]


def _is_same(was: Any, now: Any) -> bool:
    if isinstance(was, Node) and isinstance(now, Node):
        return was.name == now.name
    if was is now or type(was) is not type(now):
        return was is now
    if isinstance(was, (float, complex)):
        return repr(was) == repr(now)  # 0.0 is not -0.0, and NaN is NaN
    return bool(was == now)
