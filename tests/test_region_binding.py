"""Which calls of nested graphs and which markers are understood, and how; of any other nothing is assumed."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.fx import Graph, Node

from passes.ops.schema import resolve
from passes.regions.calls import RegionCall, bind_region
from passes.regions.layouts import Agreement, agreement
from passes.regions.markers import bind_marker, lane_nodes
from tests.cases import ops
from tests.support.regions import RegionBuilder

aten, higher_order = torch.ops.aten, torch.ops.higher_order


class Calls(RegionBuilder):
    """Inputs `x` and `y`, and the bodies `two` (of two inputs and results), `one` (of one of each) and `flag`."""

    def __init__(self) -> None:
        super().__init__()
        self.x, self.y = self.input("x", 3, 4), self.input("y", 3, 4)
        inner = self.nested()
        a, b = inner.input("a", 3, 4), inner.input("b", 3, 4)
        self.body("two", inner.returning((inner.call(aten.add.Tensor, a, b), b)))
        for name in ("one", "flag"):
            inner = self.nested()
            self.body(name, inner.returning((inner.call(aten.neg.default, inner.input("a", 3, 4)),)))
        self.root.add_module("plain", torch.nn.Linear(1, 1))

    def bound(self, target: Any, *args: Any, **kwargs: Any) -> RegionCall | None:
        given = tuple(self.graph_of(arg) if isinstance(arg, str) else arg for arg in args)
        return bind_region(self.graph.call_function(target, given, kwargs), self.root)  # type: ignore[arg-type]

    def bound_module(self, name: str, *args: Any, **kwargs: Any) -> RegionCall | None:
        return bind_region(self.graph.call_module(name, args, kwargs), self.root)  # type: ignore[arg-type]


def places(call: RegionCall | None) -> list[Any]:
    assert call is not None
    return [operand.place for operand in call.operands]


def test_operands_are_where_the_signatures_of_torch_have_them() -> None:
    build = Calls()
    x, y = build.x, build.y
    assert places(build.bound(higher_order.cond, x, "two", "two", (x, y))) == [("args", 3, 0), ("args", 3, 1)]
    loop = build.bound(higher_order.scan, "two", [x], [y], ())
    assert places(loop) == [("args", 1, 0), ("args", 2, 0)]
    assert loop is not None and (loop.carries, loop.mapped, loop.yielding) == (1, range(1, 2), (0,))
    loop = build.bound(higher_order.while_loop, "two", "two", (x, y), ())
    assert loop is not None and (loop.carries, loop.yielding, loop.controls) == (2, (1,), ())
    assert build.bound(higher_order.cond, x, "one", "flag", (y,)) is not None


@pytest.mark.parametrize(
    ("target", "args"),
    [
        ("cond", ("x", "one", "one")),
        ("cond", ("x", "one", "one", ("x",), "x")),
        ("cond", ("x", "one", "x", ("x",))),
        ("cond", ("x", "one", "plain", ("x",))),
        ("cond", ("x", "one", "two", ("x", "y"))),
        ("cond", ("x", "two", "two", ("x",))),
        ("scan", ("one", ["x"], [])),
        ("scan", ("one", ["x"], [], (), "x")),
        ("scan", ("x", ["x"], [], ())),
        ("scan", ("plain", ["x"], [], ())),
        ("scan", ("two", ["x"], [], ())),
        ("while_loop", ("one", "one", ("x",))),
        ("while_loop", ("one", "one", ("x",), (), "x")),
        ("while_loop", ("one", "x", ("x",), ())),
        ("while_loop", ("one", "two", ("x",), ())),
    ],
)
def test_a_call_that_does_not_fit_its_graphs_is_not_bound(target: str, args: tuple[Any, ...]) -> None:
    build = Calls()

    def given(arg: Any) -> Any:
        nodes = {"x": build.x, "y": build.y}
        return type(arg)(map(given, arg)) if isinstance(arg, (list, tuple)) else nodes.get(arg, arg)

    assert build.bound(getattr(higher_order, target), *map(given, args)) is None


def test_more_carries_than_results_are_not_bound() -> None:
    build = Calls()
    inner = build.nested()
    a, _ = inner.input("a", 3, 4), inner.input("b", 3, 4)
    build.body("drops", inner.returning((a,)))
    assert build.bound(higher_order.scan, "drops", [build.x, build.y], [], ()) is None
    assert build.bound(higher_order.scan, "drops", [build.x], [build.y], ()) is not None


@pytest.mark.parametrize(
    ("args", "kwargs", "names"),
    [
        (("x", "y"), {}, [("args", 0), ("args", 1)]),
        (("x",), {"b": "y"}, [("args", 0), ("kwargs", "b")]),
        ((), {"b": "y", "a": "x"}, [("kwargs", "a"), ("kwargs", "b")]),
        (("x",), {}, None),
        (("x", "y", "x"), {}, None),
        (("x", "y"), {"c": "x"}, None),
        (("x",), {"a": "y"}, None),
    ],
)
def test_a_submodule_is_bound_by_position_and_name(args: Any, kwargs: Any, names: list[Any] | None) -> None:
    build = Calls()
    nodes = {"x": build.x, "y": build.y}
    call = build.bound_module("two", *(nodes[a] for a in args), **{k: nodes[v] for k, v in kwargs.items()})
    assert call is None if names is None else places(call) == names


def test_a_default_of_a_submodule_is_an_operand_without_a_place() -> None:
    build = Calls()
    inner = build.nested()
    a, b = inner.input("a", 3, 4), inner.graph.placeholder("b", default_value=2)
    build.body("scaled", inner.returning((inner.graph.call_function(aten.mul.Tensor, (a, b)),)))
    call = build.bound_module("scaled", build.x)
    assert call is not None and [(o.place, o.value) for o in call.operands] == [(("args", 0), build.x), (None, 2)]


def test_a_submodule_with_hooks_or_starred_inputs_is_not_bound() -> None:
    build = Calls()
    build.root.get_submodule("one").register_forward_pre_hook(lambda module, args: None)
    assert build.bound_module("one", build.x) is None
    inner = build.nested()
    build.body("starred", inner.returning((inner.graph.placeholder("*rest"),)))
    assert build.bound_module("starred", build.x) is None
    assert build.bound_module("plain", build.x) is None
    assert build.bound_module("missing.path", build.x) is None


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, Agreement.STRIDES),
        ({"size": (3, 4), "stride": (1, 3)}, Agreement.SIZES),
        ({"size": (4, 3)}, Agreement.NOTHING),
        ({"size": (3, 5)}, Agreement.NOTHING),
        ({"size": (3, 3)}, Agreement.NOTHING),
        ({"dtype": torch.float16}, Agreement.NOTHING),
        ({"device": "meta"}, Agreement.NOTHING),
        (None, Agreement.NOTHING),
    ],
)
@pytest.mark.parametrize("second", [False, True])
def test_what_a_graph_recorded_holds_for_operands_of_that_layout(
    change: Any, expected: Agreement, second: bool
) -> None:
    build = Calls()
    odd = build.graph.placeholder("odd")
    if change is not None:
        options = {"size": (3, 4), "stride": None, **change}
        size, stride = options.pop("size"), options.pop("stride")
        with build.mode:
            odd.meta["val"] = torch.empty_strided(size, stride or (size[1], 1), **options)
    call = build.bound(higher_order.cond, build.x, "two", "two", (build.x, odd) if second else (odd, build.x))
    assert call is not None and agreement(call) is expected


def marker(target: Any, *args: Any, value: Any = None, **kwargs: Any) -> RegionCall | None:
    node = Graph().create_node("call_function", target, args, kwargs)
    if value is not None:
        node.meta["val"] = value
    call = resolve(node)
    assert call is not None
    return bind_marker(call)


def lanes(count: int) -> list[Node]:
    graph = Graph()
    return [graph.placeholder(f"lane{number}") for number in range(count)]


def test_the_lanes_of_a_marker_are_the_items_of_its_list_or_its_tensors() -> None:
    a, b = lanes(2)
    listed = marker(ops.mark, [a, b], 1)
    assert listed is not None and not listed.fixed and listed.results == ((0,), (1,)) and listed.carries == 2
    assert places(listed) == [("args", 0, 0), ("args", 0, 1)] and lane_nodes(listed) == (a, b)
    named = marker(ops.mark, lanes=[a, b], id=1)
    assert places(named) == [("kwargs", "lanes", 0), ("kwargs", "lanes", 1)]
    pair = marker(ops.mark_pair, a, b)
    assert pair is not None and pair.fixed and places(pair) == [("args", 0), ("args", 1)]
    assert pair.results == ((0,), (1,))
    one = marker(aten.alias.default, a)
    assert one is not None and one.results == ((),) and one.fixed


@pytest.mark.parametrize("results", [1, 3])
def test_a_marker_with_more_or_fewer_results_than_lanes_is_not_bound(results: int) -> None:
    a, b = lanes(2)
    assert marker(ops.mark, [a, b], 1, value=[torch.empty(1)] * results) is None
    assert marker(ops.mark, [a, b], 1, value=[torch.empty(1)] * 2) is not None


def test_an_operator_whose_schema_shows_no_lanes_is_not_bound() -> None:
    a, b = lanes(2)
    assert marker(aten.add.Tensor, a, b) is None
    assert marker(aten._foreach_add.Tensor, [a], b) is None
    assert marker(aten.stack.default, [a, b]) is None
    assert marker(aten.fill_.Scalar, a, 0) is not None
    assert marker(aten.ones.default, [1]) is None
    assert marker(aten.equal.default, a, b) is None
    assert marker(aten._assert_async.default, a) is None
    assert marker(aten.native_layer_norm.default, a, [1], None, None, 1e-5) is None


def plain(x: Tensor) -> Tensor:
    return x


def test_a_function_without_schema_is_no_marker() -> None:
    assert marker(plain, lanes(1)[0]) is None
