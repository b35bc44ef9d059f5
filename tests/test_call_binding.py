"""Which overload a call binds to and under which names: the three spellings of an operator, and what fits none."""

from __future__ import annotations

import operator
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.fx import Graph, Node

from passes.ops.schema import Call, operand_nodes, resolve

aten = torch.ops.aten


class Calls:
    """Makes calls on two inputs."""

    def __init__(self) -> None:
        self.graph = Graph()
        self.x, self.y = self.graph.placeholder("x"), self.graph.placeholder("y")

    def function(self, target: Any, *args: Any, **kwargs: Any) -> Call | None:
        return resolve(self.graph.call_function(target, args, kwargs))

    def method(self, name: str, /, *args: Any, **kwargs: Any) -> Call | None:
        return resolve(self.graph.call_method(name, args, kwargs))


def bound_to(call: Call | None, overload: Any) -> dict[str, Any]:
    assert call is not None and call.overload is overload
    return dict(call.bound)


def test_spellings_of_one_operator_bind_alike() -> None:
    calls = Calls()
    spelled = [
        calls.function(aten.permute.default, calls.x, [0, 2, 1]),
        calls.function(aten.permute, calls.x, [0, 2, 1]),
        calls.function(torch.permute, calls.x, [0, 2, 1]),
        calls.function(torch.permute, calls.x, dims=[0, 2, 1]),
        calls.function(torch.permute, input=calls.x, dims=[0, 2, 1]),
        calls.method("permute", calls.x, [0, 2, 1]),
        calls.method("permute", calls.x, 0, 2, 1),
    ]
    assert all(bound_to(call, aten.permute.default) == {"self": calls.x, "dims": [0, 2, 1]} for call in spelled)
    assert {call.op for call in spelled if call is not None} == {"aten::permute"}
    assert {call.base_name for call in spelled if call is not None} == {"permute"}


def test_one_size_may_be_given_as_a_number_or_as_a_node() -> None:
    calls = Calls()
    assert bound_to(calls.method("view", calls.x, -1), aten.view.default)["size"] == [-1]
    assert bound_to(calls.method("view", calls.x, calls.y), aten.view.default)["size"] == [calls.y]
    assert bound_to(calls.function(torch.full, calls.x, 2.0), aten.full.default)["size"] is calls.x
    assert bound_to(calls.method("sum", calls.x), aten.sum.default) == {"self": calls.x, "dtype": None}
    assert bound_to(calls.method("squeeze", calls.x), aten.squeeze.default) == {"self": calls.x}


def test_an_argument_picks_the_overload_that_takes_it() -> None:
    calls = Calls()
    assert bound_to(calls.method("view", calls.x, torch.int32), aten.view.dtype)["dtype"] is torch.int32
    assert bound_to(calls.method("squeeze", calls.x, 1), aten.squeeze.dim)["dim"] == 1
    assert bound_to(calls.method("squeeze", calls.x, (0, 1)), aten.squeeze.dims)["dim"] == (0, 1)
    assert bound_to(calls.method("sum", calls.x, 1), aten.sum.dim_IntList)["dim"] == [1]
    assert bound_to(calls.method("to", calls.x, torch.float16), aten.to.dtype)["dtype"] is torch.float16
    assert bound_to(calls.method("to", calls.x, torch.device("cpu"), torch.float16), aten.to.device)["copy"] is False
    assert bound_to(calls.method("transpose", calls.x, 0, 1), aten.transpose.int)["dim1"] == 1
    assert bound_to(calls.function(operator.add, calls.x, 1), aten.add.Tensor)["other"] == 1
    assert bound_to(calls.method("add_", calls.x, calls.y, alpha=2), aten.add_.Tensor)["alpha"] == 2


def test_defaults_are_filled_in() -> None:
    calls = Calls()
    assert bound_to(calls.method("flatten", calls.x, 1), aten.flatten.using_ints)["end_dim"] == -1
    softmax = calls.function(F.softmax, calls.x, dim=1)
    assert softmax is not None and softmax.overload is None and softmax.bound["dim"] == 1


@pytest.mark.parametrize(
    ("name", "args", "kwargs"),
    [
        ("permute", (), {}),
        ("permute", ([0, 1], [1, 0]), {}),
        ("index_select", (0,), {}),
        ("index_select", (0, 1, 2), {}),
        ("index_select", (0.5, 1), {}),
        ("contiguous", (), {"speed": 1}),
        ("contiguous", (), {"input": 1}),
        ("unsqueeze", ("first",), {}),
        ("unknown_method", (), {}),
        ("not a name", (), {}),
        ("__class__", (), {}),
        ("float", (torch.float32, 1), {}),
        ("dim", (1,), {}),
    ],
)
def test_a_call_that_fits_no_overload_binds_to_nothing(
    name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    calls = Calls()
    assert calls.method(name, calls.x, *args, **kwargs) is None


def helper(x: Node, scale: float = 2.0) -> Node:
    return x


def test_another_python_function_binds_by_its_signature_and_is_no_operator() -> None:
    calls = Calls()
    call = calls.function(helper, calls.x)
    assert call is not None and call.op == f"function:{__name__}::helper"
    assert (call.base_name, call.overload, call.overloads, dict(call.bound)) == (
        "helper", None, (), {"x": calls.x, "scale": 2.0},
    )  # fmt: skip
    assert calls.function(helper, calls.x, 1.0, 3) is None
    assert calls.function(helper, calls.x, speed=3) is None


def test_a_function_that_is_named_as_an_operator_is_not_taken_for_it() -> None:
    def permute(x: Node, dims: list[int]) -> Node:
        return x

    calls = Calls()
    call = calls.function(permute, calls.x, [0, 1])
    assert call is not None and call.op.startswith("function:")
    called = calls.function(len, calls.x)
    assert called is None or called.op.startswith("function:")


def test_a_spelling_without_overload_stands_for_all_of_them() -> None:
    calls = Calls()
    call = calls.method("float", calls.x)
    assert call is not None and call.op == "aten::to" and call.overload is None
    assert aten.to.dtype in call.overloads and len(call.overloads) == len(aten.to.overloads())


def test_nodes_are_found_in_every_container() -> None:
    calls = Calls()
    x, y = calls.x, calls.y
    assert list(operand_nodes([x, (y, 1), {"a": y}, slice(x, None, y), slice(None, x)])) == [x, y, y, x, y, x]
    assert list(operand_nodes("x")) == []
