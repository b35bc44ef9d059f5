"""A growing one-to-one matching between the nodes of two graphs."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from tracing.graph.structure import Structure

_FREE = -1
_Key = TypeVar("_Key", bound=Hashable)


class Pairs:
    """`forward[i]` is the position in the after graph that node i of the before graph matches, or -1; `backward` so."""

    def __init__(self, before: Structure, after: Structure) -> None:
        self.before = before
        self.after = after
        self.forward = [_FREE] * len(before.labels)
        self.backward = [_FREE] * len(after.labels)
        self.left = min(len(self.forward), len(self.backward))

    @property
    def complete(self) -> bool:
        """Whether one of the graphs has no free node left, so that nothing more can match."""
        return self.left == 0

    def add(self, one: int, other: int) -> None:
        """Match two free nodes."""
        self.forward[one] = other
        self.backward[other] = one
        self.left -= 1

    def free(self, one: int, other: int) -> bool:
        """Whether neither node is matched yet."""
        return self.forward[one] == _FREE and self.backward[other] == _FREE

    def match_outputs(self) -> None:
        """Match the output nodes, the last ones, whatever they return."""
        if self.forward[-1] == self.backward[-1] == _FREE:
            self.add(len(self.forward) - 1, len(self.backward) - 1)

    def match_unique(self, before: Sequence[Hashable], after: Sequence[Hashable]) -> None:
        """Match the free nodes whose key exactly one free node of each graph has. A key of None never matches."""
        others = self._groups(after, self.backward)
        for key, group in self._groups(before, self.forward).items():
            candidates = others.get(key, [])
            if len(group) == len(candidates) == 1:
                self.add(group[0], candidates[0])

    def match_groups(self, before: Sequence[Hashable], after: Sequence[Hashable]) -> None:
        """Match free nodes of equal keys: those of one name first, then those of matched operands, then in order."""
        others = self._groups(after, self.backward)
        for key, group in self._groups(before, self.forward).items():
            candidates = others.get(key, [])
            if candidates:
                self._match_group(group, candidates)

    def _match_group(self, group: list[int], candidates: list[int]) -> None:
        if len(group) > 1 or len(candidates) > 1:
            names = {self.after.doc.nodes[other].name: other for other in candidates}
            self._match_by(((self.before.doc.nodes[one].name, one) for one in group), names)
            reads = {self.after.operands[other]: other for other in candidates}
            self._match_by(((self._translated(one), one) for one in group), reads)
        left = [one for one in group if self.forward[one] == _FREE]
        free = [other for other in candidates if self.backward[other] == _FREE]
        for one, other in zip(left, free, strict=False):
            self.add(one, other)

    def _match_by(self, keyed: Iterable[tuple[_Key, int]], candidates: Mapping[_Key, int]) -> None:
        for key, one in keyed:
            other = candidates.get(key, _FREE)
            if other != _FREE and self.free(one, other):
                self.add(one, other)

    def _translated(self, one: int) -> tuple[int, ...]:
        return tuple([self.forward[operand] for operand in self.before.operands[one]])

    def contradict(self, one: int, other: int) -> bool:
        """Whether an operand of one node is matched, but not to what the other node reads in that slot."""
        theirs = self.after.by_slot(other)
        return any(
            self.forward[operand] != theirs[slot]
            for slot, operand in self.before.by_slot(one).items()
            if slot in theirs and (self.forward[operand] != _FREE or self.backward[theirs[slot]] != _FREE)
        )

    def match_names(self) -> None:
        """Match free nodes of one name and label that also stand in one place: among operands or users so named."""
        positions = {node.name: position for position, node in enumerate(self.after.doc.nodes)}
        for one, node in enumerate(self.before.doc.nodes):
            other = positions.get(node.name, _FREE)
            if other != _FREE and self.free(one, other) and self._same_by_name(one, other):
                self.add(one, other)

    def _same_by_name(self, one: int, other: int) -> bool:
        if self.before.labels[one] != self.after.labels[other]:
            return False
        mine, theirs = self.before.by_slot(one), self.after.by_slot(other)
        shared = mine.keys() & theirs.keys()
        if shared:
            return all(self._agree(mine[slot], theirs[slot]) for slot in shared)
        names = {(slot, self.after.doc.nodes[user].name) for slot, user in self.after.users[other]}
        return any((slot, self.before.doc.nodes[user].name) in names for slot, user in self.before.users[one])

    def _agree(self, one: int, other: int) -> bool:
        if self.forward[one] != _FREE or self.backward[other] != _FREE:
            return self.forward[one] == other
        return self.before.doc.nodes[one].name == self.after.doc.nodes[other].name

    def _groups(self, keys: Sequence[Hashable], matched: list[int]) -> dict[Hashable, list[int]]:
        groups: dict[Hashable, list[int]] = {}
        for position, key in enumerate(keys):
            if matched[position] == _FREE and key is not None:
                groups.setdefault(key, []).append(position)
        return groups
