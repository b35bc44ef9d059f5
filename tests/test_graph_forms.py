"""Forms of nodes: what is written once for all nodes of a form, and what stays each node's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
from hypothesis import given, settings

from tests.support.graph_docs import documents
from tests.support.graphs import decoder
from tracing.graph import diff, document, dumps, render_html, text
from tracing.graph.document import Const, GraphDoc, Group, Node, Ref, Source, TensorType, Value
from tracing.graph.forms import Form
from tracing.graph.jsonfile import loads

X, Y = Node("x", "placeholder", "x"), Node("y", "placeholder", "y")
F32 = TensorType("float32", (2, 2))


def call(name: str, *args: Value, target: str = "aten.add.Tensor", **others: object) -> Node:
    return dataclasses.replace(Node(name, "call_function", target, args, (), F32), **others)


def graph(*nodes: Node) -> GraphDoc:
    return GraphDoc("M", (X, Y, *nodes, Node("output", "output", "output", (Ref(nodes[-1].name),))))


def test_nodes_that_differ_in_names_and_source_only_have_one_form() -> None:
    doc = graph(call("a", Ref("x"), Ref("y")), call("b", Ref("a"), Ref("a"), source=Source("m.py:1", "x + x")))
    assert doc.forms.numbers[2] == doc.forms.numbers[3]
    assert doc.forms.reads == ((), (), (0, 1), (2, 2), (3,))
    assert doc.forms.distinct[2].node is doc.nodes[2]


OTHERS = {
    "target": call("b", Ref("x"), Ref("y"), target="aten.mul.Tensor"),
    "type": call("b", Ref("x"), Ref("y"), type=TensorType("float32", (2, 3))),
    "no type": call("b", Ref("x"), Ref("y"), type=None),
    "fewer": call("b", Ref("x")),
    "nested": call("b", Ref("x"), Group("list", (Ref("y"),))),
    "constant": call("b", Ref("x"), Const("none", "None")),
    "keyword": call("b", Ref("x"), kwargs=(("other", Ref("y")),)),
}


@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
def test_what_is_not_a_name_makes_another_form(other: Node) -> None:
    numbers = graph(call("a", Ref("x"), Ref("y")), other).forms.numbers
    assert numbers[2] != numbers[3]


CONSTANTS = [("int", "1"), ("bool", "True"), ("float", "1.0"), ("float", "0.0"), ("float", "-0.0"), ("str", "1")]


def test_constants_that_python_calls_equal_make_different_forms() -> None:
    nodes = [call(f"n{index}", Ref("x"), Const(*constant)) for index, constant in enumerate(CONSTANTS)]
    assert len(set(graph(*nodes).forms.numbers[2:-1])) == len(CONSTANTS)


def test_containers_of_the_same_items_make_different_forms() -> None:
    kinds = ("list", "tuple", "slice")
    items = (Const("none", "None"), Ref("x"), Const("none", "None"))
    nodes = [call(kind, Group(kind, items)) for kind in kinds]
    assert len(set(graph(*nodes).forms.numbers[2:-1])) == len(kinds)


def test_slots_lead_to_the_nodes_that_are_read() -> None:
    nested = Group("list", (Const("int", "1"), Group("tuple", (Ref("y"), Ref("x")))))
    doc = graph(call("a", Ref("x"), nested, kwargs=(("out", Ref("y")),)))
    assert doc.forms.distinct[2].slots == ((0,), (1, 1, 0), (1, 1, 1), ("out",))
    assert doc.forms.reads[2] == (0, 1, 0, 1)


def with_names(node: Node, rename: Callable[[str], str]) -> Node:
    """`node` with its own name and those that it reads mapped by `rename`, which is asked in argument order."""

    def named(value: Value) -> Value:
        if isinstance(value, Group):
            return Group(value.kind, tuple(map(named, value.items)))
        return Ref(rename(value.name)) if isinstance(value, Ref) else value

    args = tuple(map(named, node.args))
    kwargs = tuple((key, named(value)) for key, value in node.kwargs)
    return dataclasses.replace(node, args=args, kwargs=kwargs, name=rename(node.name))


@settings(max_examples=40)
@given(documents())
def test_a_form_and_the_names_make_the_node(doc: GraphDoc) -> None:
    for node, number, reads in zip(doc.nodes, doc.forms.numbers, doc.forms.reads, strict=True):
        names = iter([*(doc.nodes[position].name for position in reads), node.name])
        made = with_names(doc.forms.distinct[number].node, lambda _, names=names: next(names))
        assert dataclasses.replace(made, source=node.source) == node
        assert next(names, None) is None


@settings(max_examples=40)
@given(documents())
def test_forms_of_two_documents_have_equal_keys_where_only_names_differ(doc: GraphDoc) -> None:
    other = dataclasses.replace(doc, nodes=tuple(with_names(node, "{}_1".format) for node in doc.nodes))
    assert [form.key for form in doc.forms.distinct] == [form.key for form in other.forms.distinct]
    assert doc.forms.numbers == other.forms.numbers


def test_layers_share_the_forms_of_their_calls() -> None:
    def calls(layers: int) -> int:
        return sum(form.node.op == "call_function" for form in document(decoder(layers)).forms.distinct)

    assert calls(2) == calls(6)


def test_what_depends_on_the_form_is_worked_out_once_a_form() -> None:
    doc = document(decoder(4))
    asked: list[Form] = []

    def target(form: Form) -> str:
        asked.append(form)
        return form.node.target

    assert doc.forms.spread(target) == [node.target for node in doc.nodes]
    assert asked == list(doc.forms.distinct)


PERCENT = "100%s of %d, 5%"


def test_percent_signs_stay_what_they_are_in_every_form() -> None:
    """Lines are filled in as %-formats."""
    doc = graph(
        call("a", Ref("x"), Const("str", PERCENT), target=f"my.{PERCENT}"),
        call("b", Ref("a"), Group("dict", (Const("str", PERCENT), Ref("x"))), kwargs=((PERCENT, Ref("y")),)),
        Node("c", "call_method", f"Tensor.{PERCENT}", (Ref("b"),), (), None, Source("50%s.py:1", PERCENT)),
    )
    written = text(doc, source=True)
    assert f'%2: f32[2, 2] = "my.{PERCENT}"(%0, "{PERCENT}")\n' in written
    assert f'%3: f32[2, 2] = aten.add.Tensor(%2, {{"{PERCENT}": %0}}, {PERCENT}=%1)\n' in written
    assert f'%4: ? = "Tensor.{PERCENT}"(%3)  # 50%s.py:1: {PERCENT}\n' in written
    lines = dumps(doc)
    assert f'{{"dict": [["{PERCENT}", {{"node": "x"}}]]}}' in lines
    assert f'"kwargs": {{"{PERCENT}": {{"node": "y"}}}}' in lines
    other = graph(call("a", Ref("x")))
    assert f'"%0, \\"{PERCENT}\\""' in render_html(diff(doc, other), doc, other)


def test_percent_signs_in_files_read_back() -> None:
    doc = graph(call("a", Ref("x"), Const("str", PERCENT), source=Source("50%s.py:1", PERCENT)))
    assert loads(dumps(doc)) == doc
