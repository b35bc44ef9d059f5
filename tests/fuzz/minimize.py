"""Leaves out steps of a graph as long as it still fails, and in the same place."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace

from tests.fuzz.graphs import Recipe

Check = Callable[[Recipe], object]
"""Builds the graph of a recipe and raises if something does not hold of it."""

Failure = tuple[type[Exception], str, int | None]
"""What was raised, in which file and at which line."""


def minimal(recipe: Recipe, check: Check) -> Recipe:
    """The recipe without any step that `check` does not need to fail as it does; halves first, then each."""
    failure = _failure(recipe, check)
    size = len(recipe.steps())
    while size:
        found = _without_some(recipe, size, lambda tried: _failure(tried, check) == failure)
        recipe, size = (found, size) if found is not None else (recipe, size // 2)
    return recipe


def _without_some(recipe: Recipe, size: int, fails: Callable[[Recipe], bool]) -> Recipe | None:
    steps = recipe.steps()
    for start in range(0, len(steps), size):
        tried = replace(recipe, dropped=recipe.dropped | set(steps[start : start + size]))
        if fails(tried):
            return tried
    return None


def _failure(recipe: Recipe, check: Check) -> Failure | None:
    try:
        check(recipe)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return type(error), place.filename, place.lineno
    return None
