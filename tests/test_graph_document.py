"""torch.fx to documents: stable names, types, sources, parameters, nested graphs."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import fx, nn
from torch.fx.experimental.proxy_tensor import make_fx

from tests.support.graphs import Builder, aten, attention, decoder
from tracing.graph import document
from tracing.graph.document import Const, GraphDoc, Group, Node, Parameter, Ref, ScalarType, Source, TensorType
from tracing.graph.from_fx import source_of
from tracing.graph.targets import OpaqueTarget, object_name, resolve


def node(doc: GraphDoc, name: str) -> Node:
    return next(n for n in doc.nodes if n.name == name)


TARGETS: list[tuple[Any, str]] = [
    (aten.index_select.default, "aten.index_select.default"),
    (aten.add.Tensor, "aten.add.Tensor"),
    (aten.add, "aten.add"),
    (attention, "deadkv_graph_test.attention_block_tkg.default"),
    (torch.ops.deadkv_graph_test.attention_block_tkg, "deadkv_graph_test.attention_block_tkg"),
    (torch.permute, "torch.permute"),
    (torch.conv2d, "torch.conv2d"),
    (torch.einsum, "torch.einsum"),
    (torch.zeros, "torch.zeros"),
    (torch.sym_max, "torch.sym_max"),
    (torch._C._nn.linear, "torch.nn.functional.linear"),
    (torch.nn.functional.linear, "torch.nn.functional.linear"),
    (torch.nn.functional.relu, "torch.nn.functional.relu"),
    (torch.nn.functional.scaled_dot_product_attention, "torch.nn.functional.scaled_dot_product_attention"),
    (torch.Tensor.add, "torch.Tensor.add"),
    (operator.add, "operator.add"),
    (operator.getitem, "operator.getitem"),
    (operator.setitem, "operator.setitem"),
    (math.floor, "math.floor"),
    (getattr, "builtins.getattr"),
    (torch.ops.higher_order.cond, "hop.cond"),
    (torch.ops.higher_order.scan, "hop.scan"),
]


@pytest.mark.parametrize(("target", "name"), TARGETS, ids=[name for _, name in TARGETS])
def test_targets_have_stable_names_that_find_them_again(target: Any, name: str) -> None:
    assert object_name(target) == name
    schema = "deadkv_graph_test" in name and str(attention._schema)
    assert resolve(name, schema or None) is target


def test_other_callables_are_named_by_module_and_never_by_address() -> None:
    local: Callable[..., Any] = lambda x: x  # noqa: E731
    for value in (local, SimpleNamespace(), node, [].append, torch.nn.ReLU()):
        name = object_name(value)
        assert re.search(r"0x[0-9a-f]+|\bat\b", name) is None
        assert resolve(name) == OpaqueTarget(name)


@pytest.mark.parametrize(
    "name",
    [
        "torch.load",
        "torch.hub.load",
        "torch.compile",
        "torch.ops.aten.add.Tensor",
        "torch.nn.functional.__builtins__",
        "os.system",
        "builtins.eval",
        "operator.attrgetter",
        "operator.methodcaller",
        "operator.add.__class__",
        "aten.add.__class__",
        "aten.add.no_such_overload",
        "nosuch.op.default",
        "hop.nosuch",
        "hop.__class__",
        "",
        "..",
    ],
)
def test_names_outside_the_allow_list_stay_opaque(name: str) -> None:
    found = resolve(name)
    assert isinstance(found, OpaqueTarget)
    with pytest.raises(RuntimeError, match="is not known in this process"):
        found(1)


def test_looking_up_an_unknown_namespace_does_not_create_it() -> None:
    resolve("never_registered.op.default")
    assert "never_registered" not in vars(torch.ops)


def test_an_operator_with_another_schema_is_another_operator() -> None:
    found = resolve(
        "deadkv_graph_test.attention_block_tkg.default", "deadkv_graph_test::attention_block_tkg(int X) -> ()"
    )
    assert isinstance(found, OpaqueTarget)
    assert list(found.__signature__.parameters) == ["X"]
    assert found.__name__ == "attention_block_tkg"


def test_nodes_carry_arguments_and_types() -> None:
    b = Builder()
    x = b.input("x", 2, 3)
    y = b.call(aten.permute.default, x, [1, 0])
    m = b.call(aten.max.dim, y, 0, keepdim=True)
    v = b.call(operator.getitem, m, 0)
    doc = document(b.finish(v, None))
    assert node(doc, y.name) == Node(
        y.name,
        "call_function",
        "aten.permute.default",
        (Ref("x"), Group("list", (Const("int", "1"), Const("int", "0")))),
        (),
        TensorType("float32", (3, 2), (1, 3)),
    )
    assert node(doc, m.name).kwargs == (("keepdim", Const("bool", "True")),)
    assert node(doc, m.name).type == (TensorType("float32", (1, 2)), TensorType("int64", (1, 2)))
    assert doc.inputs == (Node("x", "placeholder", "x", type=TensorType("float32", (2, 3))),)
    assert doc.outputs == (Ref(v.name), Const("none", "None"))


def test_constants_of_every_kind() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    given = (1, True, 1.0, math.nan, -math.inf, 2j, "a\n", None, torch.bfloat16, torch.device("cpu"), torch.strided)
    made = graph.call_function(operator.add, (x, [*given], slice(None, x, 2), {"k": (...,)}, torch.preserve_format))
    graph.output(made)
    doc = document(fx.GraphModule({}, graph))
    items = doc.nodes[1].args[1]
    assert isinstance(items, Group)
    assert [(c.kind, c.text) for c in items.items if isinstance(c, Const)] == [
        ("int", "1"),
        ("bool", "True"),
        ("float", "1.0"),
        ("float", "nan"),
        ("float", "-inf"),
        ("complex", "2j"),
        ("str", "a\n"),
        ("none", "None"),
        ("dtype", "bfloat16"),
        ("device", "cpu"),
        ("layout", "strided"),
    ]
    assert doc.nodes[1].args[2] == Group("slice", (Const("none", "None"), Ref("x"), Const("int", "2")))
    assert doc.nodes[1].args[3] == Group("dict", (Const("str", "k"), Group("tuple", (Const("ellipsis", "..."),))))
    assert doc.nodes[1].args[4] == Const("memory_format", "preserve_format")


def test_symbols_are_renumbered_by_first_use() -> None:
    def f(x: torch.Tensor, n: int) -> tuple[torch.Tensor, ...]:
        return x.new_zeros(2 * x.shape[1], n), x.nonzero()

    doc = document(make_fx(f, tracing_mode="symbolic")(torch.ones(3, 4), 5))
    types = [n.type for n in doc.nodes]
    assert types[:2] == [TensorType("float32", ("s0", "s1")), ScalarType("int", "s2")]
    assert TensorType("float32", ("2*s1", "s2")) in types
    assert any(isinstance(t, TensorType) and t.shape == ("u0", 2) for t in types)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.w = nn.Parameter(torch.zeros(4, 4))
        self.alias = nn.Parameter(self.w[:2])
        self.unread = nn.Parameter(torch.zeros(1))
        self.register_buffer("b", torch.zeros(4, dtype=torch.int32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) @ self.w + self.alias.sum() + self.b


def test_parameters_are_those_the_graph_reads_with_ties() -> None:
    doc = document(fx.symbolic_trace(Tied()))
    assert doc.name == "Tied"
    assert doc.parameters == (
        Parameter("alias", TensorType("float32", (2, 4))),
        Parameter("b", TensorType("int32", (4,))),
        Parameter("inner.bias", TensorType("float32", (4,))),
        Parameter("inner.weight", TensorType("float32", (4, 4))),
        Parameter("w", TensorType("float32", (4, 4)), tied_to="alias"),
    )
    assert doc.objects == (("inner", "torch.nn.modules.linear.Linear"),)
    assert node(doc, "inner").target == "module:inner"
    assert node(doc, "w").type == TensorType("float32", (4, 4))
    assert node(doc, "sum_1").target == "Tensor.sum"


def test_parameters_come_in_natural_order() -> None:
    fqns = [p.fqn for p in document(decoder(12)).parameters]
    assert fqns.index("layers.2.w") < fqns.index("layers.10.w")


def test_schemas_of_custom_operators_are_recorded() -> None:
    doc = document(decoder(1))
    assert doc.schemas == (("deadkv_graph_test.attention_block_tkg.default", str(attention._schema)),)


def test_aliases_come_from_the_capture_and_keep_their_parameter() -> None:
    gm = decoder(1)
    gm.register_parameter("only_written", nn.Parameter(torch.zeros(3)))
    gm.meta["capture"] = SimpleNamespace(aliases=(("hidden", 0), ("only_written", 0)))
    doc = document(gm)
    assert doc.aliases == (("hidden", 0), ("only_written", 0))
    assert "only_written" in [p.fqn for p in doc.parameters]


def test_nested_graphs_become_documents_of_their_own() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))

    doc = document(make_fx(f)(torch.ones(2)))
    paths = [path for path, _ in doc.subgraphs]
    assert paths == ["false_graph_0", "true_graph_0"]
    true_graph = dict(doc.subgraphs)["true_graph_0"]
    assert [n.target for n in true_graph.nodes[1:]] == ["aten.add.Tensor", "output"]
    cond = next(n for n in doc.nodes if n.target == "hop.cond")
    assert cond.args[1:3] == (Ref("true_graph_0"), Ref("false_graph_0"))


def test_the_same_tensor_in_a_nested_graph_is_tied_to_the_outer_one() -> None:
    pool = nn.Parameter(torch.zeros(3))

    class Inner(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.own = pool

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.own

    inner = fx.symbolic_trace(Inner())
    root = nn.Module()
    root.pool, root.inner = pool, inner
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(operator.add, (graph.call_module("inner", (x,)), graph.get_attr("pool"))))
    doc = document(fx.GraphModule(root, graph))
    assert dict(doc.subgraphs)["inner"].parameters == (Parameter("own", TensorType("float32", (3,)), tied_to="pool"),)


TORCH_FRAME = f'  File "{torch.__path__[0]}/nn/modules/linear.py", line 134, in forward\n    return F.linear(input)\n'


@pytest.mark.parametrize(
    ("trace", "source"),
    [
        (None, None),
        ("", None),
        (
            'File "/m/llama.py", line 12, in forward\n    y = self.l(x)\n' + TORCH_FRAME,
            ("llama.py:12", "y = self.l(x)"),
        ),
        ('  File "/m/a.py", line 1, in f\n    f()\n  File "/m/b.py", line 2, in g\n    g()\n', ("b.py:2", "g()")),
        ('  File "/m/a.py", line 1, in f\n  File "<eval_with_key>.1", line 5, in forward\n', ("a.py:1", "")),
        (TORCH_FRAME, None),
    ],
)
def test_source_is_the_innermost_frame_outside_torch(trace: str | None, source: tuple[str, str] | None) -> None:
    assert source_of(trace) == (None if source is None else Source(*source))


def test_reading_leaves_the_graph_alone() -> None:
    gm = decoder(2)
    code, metas = gm.code, [dict(n.meta) for n in gm.graph.nodes]
    document(gm)
    assert gm.code == code
    assert [dict(n.meta) for n in gm.graph.nodes] == metas
