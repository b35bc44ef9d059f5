"""The canonical text: what it looks like, that it is stable, and that only equal graphs share it."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.fx.experimental.proxy_tensor import make_fx

from tests.support.graph_docs import arguments, documents, types
from tests.support.graphs import Builder, aten, decoder
from tracing.graph import document, text
from tracing.graph.document import (
    Const,
    GraphDoc,
    Group,
    Node,
    Ref,
    ScalarType,
    Source,
    TensorType,
    Type,
    Value,
)
from tracing.graph.text import one_line, type_text, value_text

SLOW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])

DECODER = """\
graph:
  parameters:
    layers.0.k_cache: f32[9, 2, 8]
    layers.0.w: f32[8, 8]
  nodes:
    %0: f32[2, 8] = input hidden
    %1: i32[2, 4] = input block_table
    %2: f32[8, 8] = parameter layers.0.w
    %3: f32[9, 2, 8] = parameter layers.0.k_cache
    %4: i32[8] = aten.view.default(%1, [-1])
    %5: f32[8, 2, 8] = aten.index_select.default(%3, 0, %4)
    %6: f32[2, 8, 8] = aten.view.default(%5, [2, 8, 8])
    %7: f32[2, 8, 8] strides(64, 1, 8) = aten.permute.default(%6, [0, 2, 1])
    %8: f32[2, 8] = aten.mm.default(%0, %2)
    %9: f32[9, 2, 8] = parameter layers.0.k_cache
    %10: f32[2, 8] = deadkv_graph_test.attention_block_tkg.default(%8, %7, %9, %1)
    %11: f32[2, 8] = aten.mul.Tensor(%10, 0.5)
    %12: f32[2, 8] = aten.add.Tensor(%0, %11)
  outputs (tuple):
    0: f32[2, 8] %12  updates hidden
"""


def test_the_text_of_a_layer() -> None:
    gm = decoder(1, prior="operand")
    gm.meta["capture"] = SimpleNamespace(aliases=(("hidden", 0),))
    assert text(document(gm)) == DECODER


COND = """\
graph:
  nodes:
    %0: f32[s0] = input x_1
    %1: f32[] = aten.sum.default(%0)
    %2: bool[] = aten.gt.Scalar(%1, 0)
    %3: int s0 = aten.sym_size.int(%0, 0)
    %4: ? = attribute @0
    %5: ? = attribute @1
    %6: (f32[s0]) = hop.cond(%2, %4, %5, (%0, %3))
    %7: f32[s0] = operator.getitem(%6, 0)
  outputs:
    0: f32[s0] %7
graph @0:
  nodes:
    %0: f32[s0] = input
    %1: int s0 = input
    %2: f32[s0] = aten.sin.default(%0)
  outputs (tuple):
    0: f32[s0] %2
graph @1:
  nodes:
    %0: f32[s0] = input
    %1: int s0 = input
    %2: f32[s0] = aten.cos.default(%0)
  outputs (tuple):
    0: f32[s0] %2
"""


def test_nested_graphs_are_numbered_by_first_use() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, torch.sin, torch.cos, (x,))

    assert text(document(make_fx(f, tracing_mode="symbolic")(torch.ones(5)))) == COND


def test_source_lines_only_on_request() -> None:
    nodes = (
        Node("x", "placeholder", "x"),
        Node("y", "call_method", "Tensor.relu", (Ref("x"),), source=Source("llama.py:12", "x.relu()\u2028\x1b[2J")),
        Node("output", "output", "output", (Ref("y"),)),
    )
    doc = GraphDoc("M", nodes)
    assert "llama" not in text(doc)
    assert "    %1: ? = Tensor.relu(%0)  # llama.py:12: x.relu()\\u2028\\x1b[2J\n" in text(doc, source=True)


def test_two_traces_of_one_model_print_the_same() -> None:
    one, other = decoder(3, prior="operand"), decoder(3, prior="operand")
    for number, node in enumerate(other.graph.nodes):
        node._rename(f"other_{number}")
    other.recompile()
    assert text(document(one)) == text(document(other))


def plain(doc: GraphDoc) -> GraphDoc:
    """`doc` with its nodes named by position and without sources: what the text shows."""
    numbers = {node.name: str(index) for index, node in enumerate(doc.nodes)}

    def renamed(value: Value) -> Value:
        if isinstance(value, Ref):
            return Ref(numbers[value.name])
        return Group(value.kind, tuple(map(renamed, value.items))) if isinstance(value, Group) else value

    nodes = tuple(
        dataclasses.replace(
            node,
            name=numbers[node.name],
            args=tuple(map(renamed, node.args)),
            kwargs=tuple((key, renamed(value)) for key, value in node.kwargs),
            source=None,
            type=None if node.op == "output" else node.type,
        )
        for node in doc.nodes
    )
    return dataclasses.replace(doc, nodes=nodes, parameters=tuple(sorted(doc.parameters, key=lambda p: p.fqn)))


@SLOW
@given(documents(depth=0), documents(depth=0))
def test_documents_share_a_text_exactly_if_they_are_equal(one: GraphDoc, other: GraphDoc) -> None:
    assert (text(one) == text(other)) == (plain(one) == plain(other))
    assert text(one) == text(plain(one))


@settings(deadline=None)
@given(arguments(["a", "b"]), arguments(["a", "b"]))
def test_values_share_a_text_exactly_if_they_are_equal(one: Value, other: Value) -> None:
    def reference(name: str) -> str:
        return f"%{name}"

    assert (value_text(one, reference) == value_text(other, reference)) == (one == other)
    assert "\n" not in value_text(one, reference)


@settings(deadline=None)
@given(types, types)
def test_types_share_a_text_exactly_if_they_are_equal(one: Type | None, other: Type | None) -> None:
    assert (type_text(one) == type_text(other)) == (one == other)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (Const("int", "1"), "1"),
        (Const("bool", "True"), "True"),
        (Const("float", "1.0"), "1.0"),
        (Const("str", "a\n'\""), r'"a\n' + "'" + r'\""'),
        (Const("dtype", "bfloat16"), "torch.bfloat16"),
        (Const("device", "cuda:0"), "device(cuda:0)"),
        (Const("complex", "(1+2j)"), "complex((1+2j))"),
        (Const("object", "a.b"), "object(a.b)"),
        (Const("object", 'a"b'), r'object("a\"b")'),
        (Const("sym", "2*s0"), "2*s0"),
        (Group("tuple", (Ref("x"),)), "(%x,)"),
        (Group("list", (Ref("x"), Const("none", "None"))), "[%x, None]"),
        (Group("slice", (Const("none", "None"), Const("int", "1"), Const("none", "None"))), "slice(None, 1, None)"),
        (Group("dict", (Const("str", "k"), Ref("x"))), '{"k": %x}'),
    ],
)
def test_how_values_are_written(value: Value, written: str) -> None:
    assert value_text(value, lambda name: f"%{name}") == written


@pytest.mark.parametrize(
    ("found", "written"),
    [
        (None, "?"),
        (TensorType("bfloat16", (4, "2*s0")), "bf16[4, 2*s0]"),
        (TensorType("float8_e4m3fn", ()), "f8_e4m3fn[]"),
        (TensorType("bool", (1,)), "bool[1]"),
        (TensorType("float32", (2, 3), (1, 2)), "f32[2, 3] strides(1, 2)"),
        (ScalarType("int", "s0"), "int s0"),
        ((TensorType("int64", ()), None), "(i64[], ?)"),
    ],
)
def test_how_types_are_written(found: Type | None, written: str) -> None:
    assert type_text(found) == written


def test_one_line_escapes_what_does_not_print() -> None:
    assert one_line("a\tb\r\n\x1b[31m\u202e\u200f é 中") == r"a\tb\r\n\x1b[31m\u202e\u200f é 中"


def test_sorted_keywords_and_module_calls() -> None:
    b = Builder()
    x = b.input("x", 2)
    b.call(aten.sum.dim_IntList, x, [0], keepdim=True, dtype=torch.float64)
    gm = b.finish(x)
    assert "aten.sum.dim_IntList(%0, [0], dtype=torch.float64, keepdim=True)" in text(document(gm))
    traced = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU()))
    assert '%1: ? = call "0" ' not in text(document(traced))
    assert "call 0 [torch.nn.modules.activation.ReLU](%0)" in text(document(traced))
