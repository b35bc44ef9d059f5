"""Leaves of nested tuples, lists and dicts, such as the results of a submodule: `{"a": (x, y)}` has two."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Path = tuple[int | str, ...]
"""Keys from the outside in: the leaf `y` above is at `("a", 1)`."""


def leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every leaf with its path, in order. What is no tuple, list or dict is a leaf."""
    if isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from leaves(item, (*path, index))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, key))
    else:
        yield path, value


def without(value: Any, dropped: frozenset[Path], path: Path = ()) -> Any:
    """`value` without the leaves at `dropped`; the containers around them stay."""
    if isinstance(value, (tuple, list)):
        items = ((*path, index) for index in range(len(value)))
        kept = [without(item, dropped, at) for item, at in zip(value, items, strict=True) if at not in dropped]
        return type(value)(kept)
    if isinstance(value, dict):
        return {key: without(item, dropped, (*path, key)) for key, item in value.items() if (*path, key) not in dropped}
    return value


def renumbered(path: Path, value: Any, dropped: frozenset[Path]) -> Path:
    """Where `value[path]` is found once the leaves at `dropped` are gone. A dict's keys stay, indices close up."""
    moved: list[int | str] = []
    for depth, key in enumerate(path):
        if isinstance(value, (tuple, list)) and isinstance(key, int):
            moved.append(key - sum((*path[:depth], index) in dropped for index in range(key)))
        else:
            moved.append(key)
        value = value[key]
    return tuple(moved)
