"""Which values may share memory, and whether that can be seen from outside."""

from __future__ import annotations

import torch
from torch.fx import Graph, Node

from passes.ops.effects import Effects
from passes.storage import StorageClasses

aten = torch.ops.aten


class Values:
    """A graph of an input, two reads of one attribute, one of another, and values made of nothing."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.x = self.graph.placeholder("x")
        self.reads = [self.graph.get_attr(name) for name in ("pool", "other", "pool")]
        self.made = [self.graph.call_function(aten.zeros.default, ([2],)) for _ in range(6)]

    def classes(self, effects: dict[Node, Effects]) -> StorageClasses:
        for node, found in effects.items():
            node.args = (list(found.aliases),)
        return StorageClasses(self.graph, {**dict.fromkeys(self.made, Effects()), **effects}.get)


def test_reads_of_one_attribute_are_one_storage() -> None:
    values = Values()
    classes = values.classes({})
    first, other, again = values.reads
    assert classes.find(first) is classes.find(again) is not classes.find(other)


def test_inputs_and_attributes_escape_and_only_attributes_are_kept() -> None:
    values = Values()
    classes = values.classes({})
    assert [classes.escapes(node) for node in (values.x, *values.reads)] == [True] * 4
    assert [classes.is_kept(node) for node in (values.x, *values.reads)] == [False, True, True, True]
    assert not any(classes.escapes(node) or classes.is_kept(node) for node in values.made)


def test_views_of_views_are_one_storage_however_they_are_joined() -> None:
    values = Values()
    a, b, c, d, e, f = values.made
    classes = values.classes({b: Effects(aliases=(a,)), d: Effects(aliases=(c,)), e: Effects(aliases=(b, d))})
    assert len({classes.find(node) for node in (a, b, c, d, e)}) == 1
    assert classes.find(f) is f and classes.find(a) is not f
    assert not classes.escapes(a)


def test_what_joins_an_input_escapes_with_all_its_views() -> None:
    values = Values()
    a, b, c, *rest = values.made
    classes = values.classes({b: Effects(aliases=(a,)), c: Effects(aliases=(b, values.x))})
    assert classes.escapes(a) and classes.escapes(c) and not classes.is_kept(a)
    assert not any(map(classes.escapes, rest))


def test_a_call_that_keeps_its_result_marks_the_storage() -> None:
    values = Values()
    a, b, c, *_ = values.made
    classes = values.classes({b: Effects(aliases=(a,), keeps=True)})
    assert classes.escapes(a) and classes.is_kept(a) and not classes.escapes(c)
