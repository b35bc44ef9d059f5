"""Nodes that only one graph has, as chains; and equal chains, as of the layers of a model, folded into one."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from tracing.graph.document import GraphDoc, Node
from tracing.graph.sizes import nbytes
from tracing.graph.structure import Interner, strip_names

_DIGITS = re.compile(r"\d+")


@dataclass(frozen=True)
class Chain:
    """A node and what served only to compute it: `spine` is its line of first operands, `nodes` all of them.

    `reads` and `users` are the nodes outside the chain that it read and that read it (one hop of context).
    """

    spine: tuple[str, ...]
    nodes: tuple[str, ...]
    reads: tuple[str, ...]
    users: tuple[str, ...]
    parameters: tuple[str, ...]
    bytes: int | None  # of the largest value the chain computes; None where sizes are symbolic or unknown


@dataclass(frozen=True)
class Fold:
    """Chains of equal structure, up to numbers in parameter names, in graph order."""

    chains: tuple[Chain, ...]


def fold(doc: GraphDoc, names: Iterable[str]) -> tuple[Fold, ...]:
    """The chains that the nodes called `names` form in `doc`, equal ones together, by first appearance."""
    found = frozenset(names)
    return _Folder(doc, found).folds() if found else ()


def digitless(name: str) -> str:
    """`name` with every number replaced by #."""
    return _DIGITS.sub("#", name)


class _Folder:
    def __init__(self, doc: GraphDoc, names: frozenset[str]) -> None:
        self.nodes = doc.by_name
        self.names = names
        self.users: dict[str, dict[str, None]] = {}
        self.places: dict[tuple[str, str], list[str]] = {}  # the slots in which a node reads one of `names`
        self.reads: dict[str, list[str]] = {}
        slots = doc.forms.spread(lambda form: [".".join(map(str, slot)) for slot in form.slots])
        inside = [node.name in names for node in doc.nodes]
        for position, (node, reads) in enumerate(zip(doc.nodes, doc.forms.reads, strict=True)):
            if inside[position]:
                self.reads[node.name] = [doc.nodes[read].name for read in reads]
            for place, read in zip(slots[position], reads, strict=True):
                if inside[read]:
                    name = doc.nodes[read].name
                    self.users.setdefault(name, {})[node.name] = None
                    self.places.setdefault((node.name, name), []).append(place)
        self.order = [node.name for node in doc.nodes if node.name in names]
        self.interner = Interner()
        self.prints: dict[str, int] = {}

    def folds(self) -> tuple[Fold, ...]:
        heads = self._heads()
        members: dict[str, list[str]] = {}
        for name in self.order:
            members.setdefault(heads[name], []).append(name)
        groups: dict[Hashable, list[Chain]] = {}
        for name in self.order:
            self.prints[name] = self.interner.number(self._fingerprint(name, heads))
        for name in self.order:
            if heads[name] == name:
                groups.setdefault(self.prints[name], []).append(self._chain(name, members[name]))
        return tuple(Fold(tuple(chains)) for chains in groups.values())

    def _heads(self) -> dict[str, str]:
        """For each node the last one that it serves alone: itself if several nodes or none of `names` read it."""
        heads: dict[str, str] = {}
        for name in reversed(self.order):
            inside = [user for user in self.users.get(name, ()) if user in self.names]
            alone = len(inside) == 1 and len(self.users[name]) == 1
            heads[name] = heads[inside[0]] if alone else name
        return heads

    def _chain(self, head: str, members: list[str]) -> Chain:
        own = set(members)
        reads = (name for member in members for name in self.reads[member] if name not in own)
        attributes = [self.nodes[name] for name in members if self.nodes[name].op == "get_attr"]
        sizes = [nbytes(self.nodes[name].type) for name in members if self.nodes[name].op not in _STORED]
        return Chain(
            spine=self._spine(head, own),
            nodes=tuple(members),
            reads=tuple(dict.fromkeys(reads)),
            users=tuple(self.users.get(head, ())),
            parameters=tuple(node.target for node in attributes),
            bytes=None if not sizes or None in sizes else max(size for size in sizes if size is not None),
        )

    def _spine(self, head: str, own: set[str]) -> tuple[str, ...]:
        spine = [head]
        while (operand := next((n for n in self.reads[spine[-1]] if n in own), None)) is not None:
            spine.append(operand)
        return tuple(reversed(spine))

    def _fingerprint(self, name: str, heads: Mapping[str, str]) -> Hashable:
        node = self.nodes[name]
        operands = [self._operand(operand, heads[name], heads) for operand in self.reads[name]]
        users = sorted(self._user(user, name) for user in self.users.get(name, ()))
        return (*self._what(node), strip_names(node), node.type, *operands, *users)

    def _operand(self, name: str, head: str, heads: Mapping[str, str]) -> Hashable:
        inside = heads.get(name) == head
        return self.prints[name] if inside else (name in self.names, *self._what(self.nodes[name]))

    def _user(self, user: str, name: str) -> tuple[str, ...]:
        if self.nodes[user].op == "output":
            return ("output",)
        return (*self._what(self.nodes[user]), *self.places[user, name])

    def _what(self, node: Node) -> tuple[str, str]:
        return node.op, digitless(node.target) if node.op in ("get_attr", "call_module", "placeholder") else node.target


_STORED = ("get_attr", "placeholder")


def span(names: Sequence[str]) -> str:
    """`names` as a reader would write them: `layers.{0-15}.k_cache` where they differ in one number only."""
    distinct = list(dict.fromkeys(names))
    parts = [_DIGITS.split(name) for name in distinct]
    numbers = [tuple(map(int, _DIGITS.findall(name))) for name in distinct]
    varying = [i for i, column in enumerate(zip(*numbers, strict=False)) if len(set(column)) > 1]
    if len(distinct) < 2 or any(part != parts[0] for part in parts) or len(varying) != 1:
        return _shortened(distinct)
    at = varying[0]
    texts = _DIGITS.findall(distinct[0])
    texts[at] = "{" + ranges([row[at] for row in numbers]) + "}"
    return "".join(a + b for a, b in zip(parts[0], [*texts, ""], strict=True))


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names if len(names) <= 3 else [*names[:2], "...", names[-1]])


def ranges(numbers: Iterable[int]) -> str:
    """`0-3, 5` for 0, 1, 2, 3, 5."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] + 1 == number:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
