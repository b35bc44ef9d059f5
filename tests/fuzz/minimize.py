"""Leaves out steps of a graph as long as something still fails on what is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from torch.fx import GraphModule

from tests.fuzz.graphs import Recipe


def minimal(recipe: Recipe, check: Callable[[GraphModule], object]) -> Recipe:
    """The recipe without any step that `check` does not need to raise what it raises; halves first, then each."""
    error = _error(recipe, check)
    size = len(recipe.steps())
    while size:
        found = _without_some(recipe, size, lambda tried: _error(tried, check) is error)
        recipe, size = (found, size) if found is not None else (recipe, size // 2)
    return recipe


def _without_some(recipe: Recipe, size: int, fails: Callable[[Recipe], bool]) -> Recipe | None:
    steps = recipe.steps()
    for start in range(0, len(steps), size):
        tried = replace(recipe, dropped=recipe.dropped | set(steps[start : start + size]))
        if fails(tried):
            return tried
    return None


def _error(recipe: Recipe, check: Callable[[GraphModule], object]) -> type[BaseException] | None:
    try:
        check(recipe.build())
    except Exception as error:
        return type(error)
    return None
