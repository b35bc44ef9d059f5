"""The normal form of a captured graph: placeholders, get_attr nodes, outputs, and the objects the module holds."""

import copy
import operator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from tracing.capture import FRONTENDS, capture

every_frontend = pytest.mark.parametrize("frontend", list(FRONTENDS))


class PagedStep(nn.Module):
    """A step over a paged cache: a dead gather, a pool written in place, tied, unused and repeated parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.pools = nn.ParameterList(nn.Parameter(torch.zeros(5, 4, 2, 8), requires_grad=False) for _ in range(2))
        self.proj = nn.Linear(8, 8)
        self.head = nn.Linear(8, 8, bias=False)
        self.head.weight = self.proj.weight
        self.unused = nn.Parameter(torch.ones(3))
        self.register_buffer("scale", torch.full((8,), 2.0))
        self.register_buffer("scratch", torch.ones(2), persistent=False)
        self.shift = torch.ones(8, device="cpu")

    def forward(self, x: Tensor, spare: Tensor, table: Tensor, scale: float = 1.0) -> Any:
        self.pools[0].index_select(0, table.reshape(-1)).reshape(2, -1, 2, 8).permute(0, 2, 1, 3)
        self.pools[1].add_(x.sum())
        y = self.head(self.proj(x) * self.scale) + self.shift + scale
        square = self.proj.weight @ self.proj.weight
        return y, {"pools": [self.pools[1], self.pools[0]], "x": x, "again": y, "none": None, "count": 3}, square


def paged_inputs() -> tuple[Any, ...]:
    return torch.arange(32.0).reshape(4, 8), torch.zeros(0), torch.zeros(2, 2, dtype=torch.int32), 0.5


def resolved(module: nn.Module, target: str) -> Any:
    value: Any = module
    for name in target.split("."):
        value = getattr(value, name)
    return value


def reads(module: GraphModule) -> list[Node]:
    return module.graph.find_nodes(op="get_attr")


def outputs(module: GraphModule) -> list[Any]:
    returned: Any = module.graph.output_node().args[0]
    assert isinstance(returned, list)
    return returned


@every_frontend
def test_the_module_holds_the_models_own_tensors(frontend: str) -> None:
    model = PagedStep()
    captured = capture(model, paged_inputs(), frontend=frontend)
    for kind in ("named_parameters", "named_buffers"):
        expected = list(getattr(model, kind)(remove_duplicate=False))
        found = dict(getattr(captured, kind)(remove_duplicate=False))
        assert [name for name in found if not name.startswith("_tensor_constant")] == [name for name, _ in expected]
        assert all(found[name] is tensor for name, tensor in expected)
    assert captured.head.weight is captured.proj.weight
    assert list(captured.state_dict()) == list(model.state_dict())


@every_frontend
def test_every_consumer_reads_through_a_get_attr_of_its_own(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    for read in reads(captured):
        consumers = list(read.users)
        assert len(consumers) == 1
        between = read.next
        while between is not consumers[0]:
            assert between.op == "get_attr"
            assert between.users == read.users
            between = between.next
    targets = [read.target for read in reads(captured)]
    assert targets.count("proj.weight") == 3
    assert "unused" not in targets
    assert "head.weight" not in targets


@every_frontend
def test_one_get_attr_serves_both_slots_of_one_consumer(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    square = outputs(captured)[-1]
    assert square.args[0] is square.args[1]
    assert square.args[0].target == "proj.weight"


@every_frontend
def test_get_attr_names_never_read_as_another_entry(frontend: str) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pools = nn.ParameterList(nn.Parameter(torch.ones(2)) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.pools[0] + self.pools[1] + self.pools[0] + self.pools[0] + self.pools[2]

    captured = capture(Twice(), (torch.zeros(2),), frontend=frontend)
    assert [read.name for read in reads(captured)] == [
        "pools_0",
        "pools_1",
        "pools_0_use2",
        "pools_0_use3",
        "pools_2",
    ]


@every_frontend
def test_placeholders_are_the_inputs_in_order_used_or_not(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    nodes = list(captured.graph.nodes)[:4]
    assert [(node.op, node.target) for node in nodes] == [
        ("placeholder", name) for name in ("x", "spare", "table", "scale")
    ]
    assert [len(node.users) > 0 for node in nodes] == [True, False, True, False]
    assert len(captured.graph.find_nodes(op="placeholder")) == 4
    assert nodes[3].meta["val"] == 0.5


@every_frontend
def test_containers_and_varargs_become_one_placeholder_a_leaf(frontend: str) -> None:
    def step(past: Any, *more: Tensor) -> Any:
        return past[1]["v"] * more[1], past[0]

    inputs = ((torch.ones(2), {"v": torch.ones(2)}), torch.zeros(1), torch.full((2,), 3.0))
    captured = capture(step, inputs, frontend=frontend)
    assert captured.meta["capture"].inputs == ("past_0", "past_1_v", "more_0", "more_1")
    product, past = captured(*pytree.tree_leaves(inputs))
    assert torch.equal(product, torch.full((2,), 3.0))
    assert past is inputs[0][0]


@every_frontend
def test_an_input_given_twice_stays_two_inputs(frontend: str) -> None:
    same = torch.ones(2)
    captured = capture(lambda a, b: a - b, (same, same), frontend=frontend)
    assert torch.equal(captured(torch.full((2,), 5.0), torch.ones(2))[0], torch.full((2,), 4.0))


@every_frontend
def test_input_names_win_over_the_names_of_calls(frontend: str) -> None:
    captured = capture(lambda add, mul: (add + mul) * mul, (torch.ones(2), torch.ones(2)), frontend=frontend)
    assert [node.name for node in captured.graph.find_nodes(op="placeholder")] == ["add", "mul"]
    assert torch.equal(captured(torch.ones(2), torch.full((2,), 2.0))[0], torch.full((2,), 6.0))


@every_frontend
def test_outputs_are_one_flat_list_in_the_models_order(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    y, written, unwritten, x, again, none, count, _ = outputs(captured)
    assert y is again
    assert x.target == "x"
    assert (unwritten.op, unwritten.target) == ("get_attr", "pools.0")
    assert (none, count) == (None, 3)
    assert written is not unwritten


def test_with_dynamo_an_in_place_result_and_its_operand_stay_two_outputs() -> None:
    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        y = x + 1
        return y, y.add_(1)

    captured = capture(step, (torch.ones(3),), frontend="dynamo")
    assert [node.target for node in outputs(captured)] == [operator.add, "add_"]


@every_frontend
def test_a_model_without_operations_is_a_graph_of_its_inputs(frontend: str) -> None:
    model = PagedStep()
    model.forward = lambda x, y: (y, x, model.unused)  # type: ignore[method-assign]
    captured = capture(model, (torch.ones(1), torch.ones(2)), frontend=frontend)
    assert [node.op for node in captured.graph.nodes] == ["placeholder", "placeholder", "get_attr", "output"]
    assert [node.target for node in outputs(captured)] == ["y", "x", "unused"]


@every_frontend
def test_the_captured_module_computes_what_the_model_does(frontend: str) -> None:
    torch.default_generator.manual_seed(0)
    model = PagedStep()
    captured = copy.deepcopy(capture(model, paged_inputs(), frontend=frontend))
    inputs = (torch.randn(4, 8), torch.zeros(0), torch.ones(2, 2, dtype=torch.int32), 0.5)
    for _ in range(2):
        expected = pytree.tree_leaves(model(*inputs))
        for found, wanted in zip(captured(*inputs), expected, strict=True):
            assert torch.equal(found, wanted) if isinstance(wanted, Tensor) else found == wanted
    assert torch.equal(captured.get_parameter("pools.1"), model.pools[1])
    assert model.pools[1].abs().sum() > 0


@every_frontend
def test_tensors_that_are_not_registered_are_constants_outside_the_state_dict(frontend: str) -> None:
    model = PagedStep()
    captured = capture(model, paged_inputs(), frontend=frontend)
    constants = [read for read in reads(captured) if str(read.target).startswith("_tensor_constant")]
    assert [read.target for read in constants] == ["_tensor_constant0"]
    assert resolved(captured, "_tensor_constant0") is model.shift
    assert "_tensor_constant0" not in captured.state_dict()


@every_frontend
def test_a_parameter_reached_past_its_module_is_still_that_parameter(frontend: str) -> None:
    class Listed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.Parameter(torch.zeros(3), requires_grad=False)
            self.views = [self.pool.data]

        def forward(self, x: Tensor) -> Tensor:
            self.views[0].add_(x)
            return x * 2

    captured = capture(Listed(), (torch.ones(3),), frontend=frontend)
    assert [read.target for read in reads(captured)] == ["pool"]
    captured(torch.ones(3))
    assert torch.equal(captured.pool, torch.ones(3))


def test_make_fx_keeps_a_sparse_constant() -> None:
    table = torch.eye(3).to_sparse()
    captured = capture(lambda x: (x + 1, table), (torch.ones(3),))
    assert captured(torch.ones(3))[1] is table


@every_frontend
def test_a_deep_copy_keeps_meta_names_and_ties(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    twin = copy.deepcopy(captured)
    assert twin.meta["capture"] == captured.meta["capture"]
    assert list(twin.state_dict()) == list(captured.state_dict())
    assert twin.head.weight is twin.proj.weight
    assert str(twin.graph) == str(captured.graph)
    assert list(copy.deepcopy(twin).state_dict()) == list(captured.state_dict())


@every_frontend
def test_a_captured_module_can_be_captured_again(frontend: str) -> None:
    first = capture(PagedStep(), paged_inputs(), frontend="make_fx")
    second = capture(first, paged_inputs(), frontend=frontend)
    assert second.meta["capture"].inputs == first.meta["capture"].inputs
    assert second.get_parameter("pools.0") is first.get_parameter("pools.0")


@every_frontend
def test_a_plain_function_can_be_captured(frontend: str) -> None:
    captured = capture(torch.nn.functional.silu, (torch.ones(3),), frontend=frontend)
    assert captured.meta["capture"].inputs == ("input",)
    assert torch.equal(captured(torch.ones(3))[0], torch.nn.functional.silu(torch.ones(3)))


@every_frontend
def test_two_captures_are_the_same_graph(frontend: str) -> None:
    first, second = (capture(PagedStep(), paged_inputs(), frontend=frontend) for _ in range(2))
    assert str(first.graph) == str(second.graph)
    assert first.code == second.code
