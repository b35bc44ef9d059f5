"""Matching by neighbourhood, for the nodes whose whole past and future changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

from tracing.graph.pairs import Pairs
from tracing.graph.structure import Interner, Structure

Keys = tuple[Sequence[Hashable], Sequence[Hashable]]


@dataclass(frozen=True)
class Surroundings:
    """Keys of the nodes of the before and after graph: from both directions, from operands, from users."""

    both: Keys
    operands: Keys
    users: Keys


def surroundings(pairs: Pairs, radius: int, interner: Interner) -> Surroundings:
    """Keys of every node from its neighbours up to `radius` hops.

    Matched nodes count as known, so the nodes of a layer are told from those of the next by the parameters they read.
    """
    before = _surroundings(pairs.before, [-other - 1 for other in pairs.forward], radius, interner)
    known = [-position - 1 if one >= 0 else 0 for position, one in enumerate(pairs.backward)]
    after = _surroundings(pairs.after, known, radius, interner)
    both = list(zip(*before, strict=True)), list(zip(*after, strict=True))
    return Surroundings(both, operands=(before[0], after[0]), users=(before[1], after[1]))


def _surroundings(graph: Structure, known: list[int], radius: int, interner: Interner) -> tuple[list[int], list[int]]:
    """For each node, by operands and by users, `known` where that is below zero, else a number for what is around."""
    free = [position for position, seen in enumerate(known) if seen == 0]
    inward = list(known)
    for position in free:
        inward[position] = interner.number(("own", graph.labels[position], graph.skeletons[position]))
    outward = list(inward)
    for _ in range(radius):
        inward, outward = _inward(graph, inward, free, interner), _outward(graph, outward, free, interner)
    return inward, outward


def _inward(graph: Structure, last: list[int], free: list[int], interner: Interner) -> list[int]:
    found = list(last)
    for position in free:
        operands = [last[operand] for operand in graph.operands[position]]
        found[position] = interner.number(("in", graph.labels[position], graph.skeletons[position], *operands))
    return found


def _outward(graph: Structure, last: list[int], free: list[int], interner: Interner) -> list[int]:
    found = list(last)
    for position in free:
        users = sorted((last[user], graph.contexts[user], slot) for slot, user in graph.users[position])
        found[position] = interner.number(("out", graph.labels[position], graph.skeletons[position], *users))
    return found


Key = Callable[[Structure, int], Hashable]


def equal_node(graph: Structure, position: int) -> Hashable:
    """A key for `propagate`: what a node is, and its constants."""
    return graph.labels[position], graph.skeletons[position]


def equal_kind(graph: Structure, position: int) -> Hashable:
    """A key for `propagate`: only what a node is."""
    return graph.kinds[position]


def propagate(pairs: Pairs, key: Key, *, sure: bool) -> None:
    """Match nodes of equal keys that stand in the same slot of matched neighbours, and go on from there.

    If `sure`, only nodes none of whose operands is known to be another one, and of several equal users of a node none.
    Otherwise those are matched in order.
    """
    queue = deque(one for one, other in enumerate(pairs.forward) if other >= 0)
    while queue and not pairs.complete:
        one = queue.popleft()
        other = pairs.forward[one]
        found = _operands(pairs, one, other, key) + _users(pairs, one, other, key, sure)
        for mine, theirs in found:
            if pairs.free(mine, theirs) and not (sure and pairs.contradict(mine, theirs)):
                pairs.add(mine, theirs)
                queue.append(mine)


def _operands(pairs: Pairs, one: int, other: int, key: Key) -> list[tuple[int, int]]:
    theirs = pairs.after.by_slot(other)
    return [
        (operand, theirs[slot])
        for slot, operand in pairs.before.by_slot(one).items()
        if slot in theirs and key(pairs.before, operand) == key(pairs.after, theirs[slot])
    ]


def _users(pairs: Pairs, one: int, other: int, key: Key, sure: bool) -> list[tuple[int, int]]:
    mine = _free_users(pairs.before, one, pairs.forward, key)
    theirs = _free_users(pairs.after, other, pairs.backward, key)
    found: list[tuple[int, int]] = []
    for use, users in mine.items():
        if len(users) == len(theirs.get(use, ())) and (not sure or len(users) == 1):
            found.extend(zip(users, theirs[use], strict=True))
    return found


def _free_users(graph: Structure, position: int, matched: list[int], key: Key) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for slot, user in graph.users[position]:
        if matched[user] < 0:
            groups.setdefault((slot, key(graph, user)), []).append(user)
    return groups
