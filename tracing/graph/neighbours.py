"""Matching by neighbourhood, for the nodes whose whole past and future changed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence

from tracing.graph.pairs import Pairs
from tracing.graph.structure import Interner, Structure

Keys = tuple[Sequence[Hashable], Sequence[Hashable]]


def signatures(pairs: Pairs, radius: int, interner: Interner) -> Iterator[Keys]:
    """Keys of every node from its surroundings up to `radius` hops: both directions, then operands, then users.

    Matched nodes count as known, so the nodes of a layer are told from those of the next by the parameters they read.
    """
    before = _surroundings(pairs.before, [-other - 1 for other in pairs.forward], radius, interner)
    known = [-position - 1 if one >= 0 else 0 for position, one in enumerate(pairs.backward)]
    after = _surroundings(pairs.after, known, radius, interner)
    yield list(zip(*before, strict=True)), list(zip(*after, strict=True))
    yield before[0], after[0]
    yield before[1], after[1]


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
        operands = [last[operand] for _, operand in graph.operands[position]]
        found[position] = interner.number(("in", graph.labels[position], graph.skeletons[position], *operands))
    return found


def _outward(graph: Structure, last: list[int], free: list[int], interner: Interner) -> list[int]:
    found = list(last)
    for position in free:
        users = sorted((last[user], graph.contexts[user], slot) for slot, user in graph.users[position])
        found[position] = interner.number(("out", graph.labels[position], graph.skeletons[position], *users))
    return found


def propagate(pairs: Pairs) -> None:
    """Match what stands in the same slot of matched neighbours: equal nodes first, then those of other constants."""
    _sweep(pairs, lambda graph, position: (graph.labels[position], graph.skeletons[position]))
    _sweep(pairs, lambda graph, position: graph.kinds[position])


Key = Callable[[Structure, int], Hashable]


def _sweep(pairs: Pairs, key: Key) -> None:
    queue = deque(one for one, other in enumerate(pairs.forward) if other >= 0)
    while queue:
        one = queue.popleft()
        other = pairs.forward[one]
        found = _operands(pairs, one, other, key) + _users(pairs, one, other, key)
        for mine, theirs in found:
            if pairs.free(mine, theirs):
                pairs.add(mine, theirs)
                queue.append(mine)


def _operands(pairs: Pairs, one: int, other: int, key: Key) -> list[tuple[int, int]]:
    theirs = dict(pairs.after.operands[other])
    return [
        (operand, theirs[slot])
        for slot, operand in pairs.before.operands[one]
        if slot in theirs and key(pairs.before, operand) == key(pairs.after, theirs[slot])
    ]


def _users(pairs: Pairs, one: int, other: int, key: Key) -> list[tuple[int, int]]:
    mine = _free_users(pairs.before, one, pairs.forward, key)
    theirs = _free_users(pairs.after, other, pairs.backward, key)
    found: list[tuple[int, int]] = []
    for use, users in mine.items():
        if len(users) == len(theirs.get(use, ())):
            found.extend(zip(users, theirs[use], strict=True))
    return found


def _free_users(graph: Structure, position: int, matched: list[int], key: Key) -> dict[Hashable, list[int]]:
    groups: dict[Hashable, list[int]] = {}
    for slot, user in graph.users[position]:
        if matched[user] < 0:
            groups.setdefault((slot, key(graph, user)), []).append(user)
    return groups
