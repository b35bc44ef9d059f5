"""Documents to torch.fx: the same document again, and nothing of it ever runs."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.experimental.proxy_tensor import make_fx

from passes.errors import DeadkvError
from tests.support.graph_docs import documents
from tests.support.graphs import aten, attention, decoder
from tracing.graph import document, dumps, graph_module
from tracing.graph.document import Const, GraphDoc, Group, Node, Parameter, Ref, ScalarType, TensorType
from tracing.graph.jsonfile import loads
from tracing.graph.targets import OpaqueTarget
from tracing.graph.to_fx import OpaqueModule

SLOW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)
        self.b = nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.register_buffer("step", torch.ones(3, dtype=torch.int32))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.linear(self.a(x).relu(), self.b.weight)[:, None] + self.b(x).permute(0, 1)


def symbolic_sizes(x: torch.Tensor, n: int) -> tuple[torch.Tensor, ...]:
    y = torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))
    return y.view(x.shape[0], -1).transpose(0, 1), x.nonzero(), torch.full((2 * n, 3), float("nan")), *x.max(0)


def dynamo(model: nn.Module, *inputs: torch.Tensor) -> fx.GraphModule:
    found: list[fx.GraphModule] = []
    torch._dynamo.reset()
    torch.compile(model, backend=lambda gm, _: found.append(gm) or gm)(*inputs)
    return found[0]


GRAPHS: dict[str, Callable[[], fx.GraphModule]] = {
    "hand-built": lambda: decoder(2, prior="operand"),
    "symbolic_trace": lambda: fx.symbolic_trace(Layers()),
    "numbered modules": lambda: fx.symbolic_trace(nn.Sequential(nn.Linear(2, 2), nn.ReLU())),
    "make_fx symbolic, cond": lambda: make_fx(symbolic_sizes, tracing_mode="symbolic")(torch.ones(3, 4), 2),
    "export": lambda: torch.export.export(Layers(), (torch.ones(2, 4),)).graph_module,
    "dynamo": lambda: dynamo(Layers(), torch.ones(2, 4)),
}


@pytest.mark.parametrize("graph", GRAPHS)
def test_round_trip_of_traced_graphs(graph: str) -> None:
    gm = GRAPHS[graph]()
    doc = document(gm)
    rebuilt = graph_module(loads(dumps(doc)))
    assert document(rebuilt) == doc
    rebuilt.graph.lint()
    assert [n.name for n in rebuilt.graph.nodes] == [n.name for n in gm.graph.nodes]
    assert [n.target for n in rebuilt.graph.nodes] == [n.target for n in gm.graph.nodes]


@SLOW
@given(documents())
def test_rebuilding_is_a_fixpoint_or_one_clear_error(doc: GraphDoc) -> None:
    try:
        rebuilt = document(graph_module(doc))
    except DeadkvError as error:
        assert "\n" not in str(error)
        return
    assert document(graph_module(rebuilt)) == rebuilt
    assert [n.name for n in rebuilt.nodes] == [n.name for n in doc.nodes]


def test_values_are_fake_tensors_of_one_mode_on_cpu() -> None:
    gm = graph_module(document(decoder(2)))
    values = [n.meta["val"] for n in gm.graph.nodes if n.op != "output"]
    assert all(isinstance(value, FakeTensor) and value.device.type == "cpu" for value in values)
    assert len({id(value.fake_mode) for value in values}) == 1
    permute = next(n for n in gm.graph.nodes if n.target is aten.permute.default)
    assert permute.meta["val"].stride() == (64, 1, 8)


def test_parameters_are_meta_parameters_under_their_names() -> None:
    parameters = dict(graph_module(document(decoder(2))).named_parameters())
    assert set(parameters) == {f"layers.{layer}.{name}" for layer in (0, 1) for name in ("w", "k_cache")}
    assert all(p.is_meta and isinstance(p, nn.Parameter) for p in parameters.values())
    assert parameters["layers.0.k_cache"].shape == (9, 2, 8)


def test_tied_parameters_share_their_storage() -> None:
    gm = graph_module(document(fx.symbolic_trace(Layers())))
    a, b = gm.get_parameter("a.weight"), gm.get_parameter("b.weight")
    assert torch._C._is_alias_of(a, b)
    assert not torch._C._is_alias_of(a, gm.get_parameter("a.bias"))


def one_call(target: str, *, schemas: tuple[tuple[str, str], ...] = (), **parts: Any) -> GraphDoc:
    call = dataclasses.replace(Node("y", "call_function", target, (Ref("x"),)), **parts)
    nodes = (Node("x", "placeholder", "x"), call, Node("output", "output", "output", (Ref("y"),)))
    return GraphDoc("Model", nodes, schemas=schemas)


def test_known_functions_are_found_and_unknown_ones_are_opaque() -> None:
    for target, expected in (
        ("aten.add.Tensor", aten.add.Tensor),
        ("torch.nn.functional.linear", torch.nn.functional.linear),
        ("operator.getitem", operator.getitem),
        ("os.system", OpaqueTarget("os.system")),
    ):
        gm = graph_module(one_call(target, args=(Ref("x"), Const("int", "0"))))
        assert next(n.target for n in gm.graph.nodes if n.name == "y") == expected


def test_an_unloaded_operator_keeps_its_operand_names() -> None:
    schema = "nowhere::attention_block_tkg(Tensor X, Tensor? K_prior=None, *, bool update_cache=False) -> Tensor"
    name = "nowhere.attention_block_tkg.default"
    gm = graph_module(one_call(name, schemas=((name, schema),)))
    target = next(n.target for n in gm.graph.nodes if n.name == "y")
    assert list(inspect.signature(target).parameters) == ["X", "K_prior", "update_cache"]
    assert (target.__module__, target.__name__) == ("nowhere", "attention_block_tkg")
    assert document(gm).schemas == ((name, schema),)


def test_opaque_graphs_compute_nothing() -> None:
    gm = graph_module(one_call("some.module.function"))
    with pytest.raises(RuntimeError, match=r"some\.module\.function is not known"):
        gm(torch.ones(1))
    with pytest.raises(RuntimeError, match="cannot be run"):
        OpaqueModule("a.B")(1)


ATTACK = "x'); open('pwned', 'w'); ('"


@pytest.mark.parametrize(
    "doc",
    [
        one_call(ATTACK),
        one_call("torch." + ATTACK),
        one_call("hop." + ATTACK),
        one_call("aten.relu." + ATTACK),
        one_call("operator.add", args=(Ref("x"), Const("str", ATTACK))),
        one_call("operator.add", args=(Ref("x"), Const("object", ATTACK))),
        one_call("operator.add", args=(Ref("x"), Group("dict", (Const("str", ATTACK), Const("object", "os.system"))))),
        one_call("operator.add", name=ATTACK),
        one_call("operator.add", kwargs=((ATTACK, Ref("x")),)),
        one_call("Tensor." + ATTACK, op="call_method"),
        one_call("module:" + ATTACK, op="call_module"),
        one_call(ATTACK, op="get_attr", args=()),
        one_call("operator.add", type=ScalarType("int", "__import__('os').abort()")),
        one_call("operator.add", type=TensorType(ATTACK, ())),
    ],
)
def test_hostile_documents_run_nothing(doc: GraphDoc, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(DeadkvError, RuntimeError, TypeError, NameError):
        gm = graph_module(doc)
        gm.print_readable(print_output=False)
        gm(torch.ones(1))
    assert list(tmp_path.iterdir()) == []


DEFAULT_BEFORE_PLAIN = GraphDoc(
    "Model",
    (
        Node("a", "placeholder", "a", (Const("int", "1"),)),
        Node("b", "placeholder", "b"),
        Node("output", "output", "output", (Ref("b"),)),
    ),
)


@pytest.mark.parametrize(
    ("doc", "message"),
    [
        (GraphDoc("Model", ()), "the last node is not an output"),
        (one_call("f", name="x"), "is taken by an earlier node"),
        (DEFAULT_BEFORE_PLAIN, "torch.fx cannot hold this graph: SyntaxError"),
        (
            dataclasses.replace(one_call("f"), parameters=(Parameter("w", TensorType("float32", ("s0",))),)),
            "a parameter has a shape and stride of numbers",
        ),
        (
            dataclasses.replace(one_call("f"), parameters=(Parameter("w", TensorType("float32", (1,)), "v"),)),
            "tied to 'v', which no earlier parameter is called",
        ),
    ],
)
def test_documents_that_are_no_graph_give_one_line(doc: GraphDoc, message: str) -> None:
    with pytest.raises(DeadkvError, match=message):
        graph_module(doc)


def test_the_report_of_a_pass_over_the_file_is_the_one_over_the_graph() -> None:
    from passes import PrunePrefixCache

    gm = decoder(2)
    before = PrunePrefixCache(policy="liveness")(gm).report
    again = PrunePrefixCache(policy="liveness")(graph_module(loads(dumps(document(gm))))).report
    assert before.removed
    assert again.to_dict() == before.to_dict()
    assert attention in [n.target for n in gm.graph.nodes]
