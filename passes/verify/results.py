"""Results of a call that lost some of them: what is left, and whether every taker still takes what it took."""

from __future__ import annotations

import operator
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from torch.fx import Node

from passes.regions.structure import leaves
from passes.verify.correspondence import Correspondence
from passes.verify.trail import reject


@dataclass(frozen=True)
class Leaf:
    """One result of a call.

    Attributes:
        values: what yields it, in each graph that may.
        carry: name of the loop's input that it replaces in the next round, or None.
    """

    values: tuple[Any, ...]
    carry: str | None = None


Same = Callable[[Leaf, Leaf], bool]


@dataclass(frozen=True)
class Results:
    """The results of one call before and after: tuples, lists and dicts of leaves, and when two leaves are the same."""

    was: Any
    now: Any
    same: Same

    def are_unchanged(self) -> bool:
        """Whether every result is where it was."""
        return _is_unchanged(self.was, self.now, self.same)

    def are_pruned(self) -> bool:
        """Whether the results are those before, some leaves left out, in the same order and containers.

        A graph that yields one bare value, which no caller takes, yields None instead.
        """
        return self._is_void() or _is_pruned(self.was, self.now, self.same)

    def left(self) -> list[int]:
        """Numbers, before, of the leaves that are left."""
        before = enumerate(_leaves(self.was))
        return [next(n for n, was in before if self.same(was, now)) for now in self._left()]

    def fit_without(self, numbers: Collection[int]) -> bool:
        """Whether the results are those before without the leaves of these numbers."""
        before = [leaf for number, leaf in enumerate(_leaves(self.was)) if number not in numbers]
        left = self._left()
        return len(before) == len(left) and all(map(self.same, before, left))

    def _left(self) -> list[Leaf]:
        return [] if self._is_void() else _leaves(self.now)

    def _is_void(self) -> bool:
        are_bare = isinstance(self.was, Leaf) and isinstance(self.now, Leaf)
        return are_bare and not any(value is not None for value in self.now.values) and not self.are_unchanged()


def _leaves(results: Any) -> list[Leaf]:
    return [leaf for _, leaf in leaves(results)]


def _is_unchanged(was: Any, now: Any, same: Same) -> bool:
    if isinstance(was, Leaf) or isinstance(now, Leaf):
        return isinstance(was, Leaf) and isinstance(now, Leaf) and same(was, now)
    if type(was) is not type(now) or len(was) != len(now):
        return False
    if isinstance(was, dict):
        return list(was) == list(now) and all(_is_unchanged(was[key], now[key], same) for key in was)
    return all(_is_unchanged(one, other, same) for one, other in zip(was, now, strict=True))


def _is_pruned(was: Any, now: Any, same: Same) -> bool:
    if isinstance(was, Leaf) or isinstance(now, Leaf):
        return isinstance(was, Leaf) and isinstance(now, Leaf) and same(was, now)
    if isinstance(was, dict):
        return isinstance(now, dict) and _is_pruned_dict(was, now, same)
    return type(was) is type(now) and _is_pruned_sequence(list(was), list(now), same)


def _is_pruned_dict(was: dict[Any, Any], now: dict[Any, Any], same: Same) -> bool:
    if [key for key in was if key in now] != list(now):
        return False
    return all(_is_pruned(was[key], now[key], same) if key in now else isinstance(was[key], Leaf) for key in was)


def _is_pruned_sequence(was: list[Any], now: list[Any], same: Same) -> bool:
    matched = 0
    for item in was:
        if matched < len(now) and _is_pruned(item, now[matched], same):
            matched += 1
        elif not isinstance(item, Leaf):
            return False
    return matched == len(now)


def check_takers(pair: Correspondence, call: Node, results: Results) -> set[Node]:
    """Rejects a kept user of `call` that no longer takes what it took. Returns the users that were judged.

    Not judged is a user that no longer takes anything: that is an edit like any other.
    """
    judged: set[Node] = set()
    pending = [(call, results)]
    while pending:
        source, found = pending.pop()
        if found.are_unchanged():
            continue
        for user in source.users:
            if user in pair.kept and pair.kept[source] in pair.kept[user].all_input_nodes:
                judged.add(user)
                pending += _taken(pair, source, user, found)
    return judged


def _taken(pair: Correspondence, source: Node, user: Node, results: Results) -> list[tuple[Node, Results]]:
    """What is left to judge of `user`: nothing if it takes one leaf and the same one, its own takers otherwise."""
    was, now = _element(user, source, results.was), _element(pair.kept[user], pair.kept[source], results.now)
    if was is None:
        reject(user, f"it reads %{source.name} whole, whose results changed", pair.within)
    if now is None:
        reject(user, f"it took a result of %{source.name} that is gone", pair.within)
    taken = Results(was, now, results.same)
    if taken.are_unchanged():
        return []
    if isinstance(was, Leaf) or isinstance(now, Leaf):
        reject(user, f"it now takes another result of %{source.name}", pair.within)
    return [(user, taken)]


def _element(user: Node, source: Node, results: Any) -> Any:
    """The element that `user` takes out of `results`, the value of `source`; None if it takes none."""
    if user.target is not operator.getitem or user.op != "call_function" or user.kwargs or user.args[0] is not source:
        return None
    key: Any = user.args[1]
    is_key = isinstance(key, str) if isinstance(results, dict) else type(key) is int
    if isinstance(results, Leaf) or not is_key:
        return None
    try:
        return results[key]
    except (IndexError, KeyError):
        return None
