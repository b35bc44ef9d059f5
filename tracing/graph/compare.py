"""Argument by argument, what changed about a matched node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from difflib import SequenceMatcher

from tracing.graph.changes import Change
from tracing.graph.document import Group, Node, Ref, Value

Rename = Callable[[str], str]
SlotName = Callable[[int], str]


def renamed(value: Value, rename: Rename) -> Value:
    """`value` with the names of its nodes mapped by `rename`."""
    if isinstance(value, Ref):
        return Ref(rename(value.name))
    if isinstance(value, Group):
        return Group(value.kind, tuple(renamed(item, rename) for item in value.items))
    return value


def argument_changes(before: Node, after: Node, rename: Rename, slot_name: SlotName) -> Iterator[Change]:
    """The arguments that differ once the after node's are written in the before graph's names."""
    theirs = [renamed(value, rename) for value in after.args]
    for index in range(max(len(before.args), len(theirs))):
        mine_at = before.args[index] if index < len(before.args) else None
        yield from _changes(slot_name(index), mine_at, theirs[index] if index < len(theirs) else None)
    keywords, others = dict(before.kwargs), {key: renamed(value, rename) for key, value in after.kwargs}
    for key in sorted(keywords.keys() | others.keys()):
        yield from _changes(key, keywords.get(key), others.get(key))


def reads_nodes(change: Change) -> bool:
    """Whether a changed argument names a node on either side, before or after."""
    return any(_has_reference(side) for side in (change.before, change.after))


def _has_reference(value: Value | str | None) -> bool:
    if isinstance(value, Group):
        return any(map(_has_reference, value.items))
    return isinstance(value, Ref)


def _changes(slot: str, before: Value | None, after: Value | None) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Group) and isinstance(after, Group) and before.kind == after.kind != "dict":
        yield from _items(slot, before.items, after.items)
    else:
        yield Change(slot, before, after)


def _items(slot: str, before: Sequence[Value], after: Sequence[Value]) -> Iterator[Change]:
    """Changed items of a container; of containers of different length, those outside the longest common runs."""
    if len(before) == len(after):
        for index, (mine, theirs) in enumerate(zip(before, after, strict=True)):
            yield from _changes(f"{slot}[{index}]", mine, theirs)
        return
    for kind, i, i_end, j, j_end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        if kind != "equal":
            for offset in range(max(i_end - i, j_end - j)):
                mine_at = before[i + offset] if i + offset < i_end else None
                yield Change(f"{slot}[{i + offset}]", mine_at, after[j + offset] if j + offset < j_end else None)
