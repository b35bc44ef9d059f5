"""Fake values on every node, one mode a graph; weights on meta are captured as if they were on the CPU."""

import io
from typing import Any

import pytest
import torch
from rich.console import Console
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx import GraphModule, Node
from torch.utils import _pytree as pytree

from tests.test_capture import PagedStep, every_frontend, paged_inputs
from tracing.capture import capture, spinner


class DeviceReader(nn.Module):
    """Makes tensors on the devices of its input, its parameter and its buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, 8))
        self.register_buffer("freq", torch.ones(8))

    def forward(self, x: Tensor) -> Tensor:
        ramp = torch.arange(8, device=x.device) + torch.zeros(8, device=self.weight.device)
        ramp = ramp + torch.ones(8, device=self.freq.device) + torch.tensor(2.0) + torch.full((8,), 3.0)
        return x @ self.weight + ramp + torch.zeros_like(self.freq) + x.new_zeros(8)


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 4))

    def forward(self, x: Tensor, flag: Tensor) -> Tensor:
        return torch.cond(flag, lambda x: x @ self.weight, lambda x: x - self.weight.sum(), (x,))


def graphs(module: GraphModule) -> list[Any]:
    return [nested.graph for nested in module.modules() if isinstance(nested, GraphModule)]


def nodes(module: GraphModule) -> list[Node]:
    return [node for graph in graphs(module) for node in graph.nodes if node.op != "output"]


def values(module: GraphModule) -> list[Tensor]:
    leaves = pytree.tree_leaves([node.meta.get("val") for node in nodes(module)])
    return [leaf for leaf in leaves if isinstance(leaf, Tensor)]


@every_frontend
def test_every_tensor_has_a_fake_value_in_one_mode(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    assert all(isinstance(value, FakeTensor) for value in values(captured))
    assert len({id(value.fake_mode) for value in values(captured)}) == 1
    without = [node for node in nodes(captured) if not isinstance(node.meta.get("val"), Tensor)]
    assert [node.name for node in without] == ["scale"]


@every_frontend
def test_values_have_the_shapes_and_dtypes_of_the_run(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    results: Any = captured.graph.output_node().args[0]
    for node, real in zip(results, captured(*paged_inputs()), strict=True):
        if isinstance(real, Tensor):
            value = node.meta["val"]
            assert (value.shape, value.dtype, value.stride()) == (real.shape, real.dtype, real.stride())


@every_frontend
def test_weights_on_meta_leave_no_meta_in_the_graph(frontend: str) -> None:
    with torch.device("meta"):
        model = DeviceReader()
    inputs = (torch.zeros(4, 8, device="meta"),)
    captured = capture(model, inputs, frontend=frontend)
    assert captured.weight is model.weight
    assert captured.weight.is_meta
    arguments = pytree.tree_leaves([(node.args, node.kwargs) for node in captured.graph.nodes])
    assert torch.device("meta") not in arguments
    assert torch.device("cpu") in arguments
    assert {value.device for value in values(captured)} == {torch.device("cpu")}


@every_frontend
def test_weights_on_meta_and_on_cpu_give_the_same_graph(frontend: str) -> None:
    with torch.device("meta"):
        on_meta = DeviceReader()
    on_cpu = DeviceReader()
    graphs = [capture(model, (torch.zeros(4, 8),), frontend=frontend).graph for model in (on_meta, on_cpu)]
    assert str(graphs[0]) == str(graphs[1])


@every_frontend
def test_weights_larger_than_any_memory_are_captured(frontend: str) -> None:
    with torch.device("meta"):
        model = nn.Linear(2**24, 2**24)
    captured = capture(model, (torch.empty(1, 2**24, device="meta"),), frontend=frontend)
    assert captured.weight.numel() == 2**48


@every_frontend
def test_a_model_made_of_fake_tensors_is_captured(frontend: str) -> None:
    with FakeTensorMode():
        model, inputs = DeviceReader(), (torch.zeros(4, 8),)
    captured = capture(model, inputs, frontend=frontend)
    assert captured.weight is model.weight
    assert len({id(value.fake_mode) for value in values(captured)}) == 1


@every_frontend
def test_nested_graphs_have_values_and_take_parameters_as_operands(frontend: str) -> None:
    with torch.device("meta"):
        model = Branches()
    captured = capture(model, (torch.zeros(4, 4), torch.tensor(True)), frontend=frontend)
    assert len(graphs(captured)) == 3
    for node in nodes(captured):
        assert "val" in node.meta or isinstance(getattr(captured, str(node.target)), GraphModule)
    assert len({id(value.fake_mode) for value in values(captured)}) == 1
    operators = [node for node in captured.graph.nodes if node.op == "call_function"]
    assert "weight" in [operand.target for operand in operators[0].args[3]]
    for nested in graphs(captured)[1:]:
        assert not nested.find_nodes(op="get_attr")


@every_frontend
def test_a_value_read_from_a_tensor_is_a_node(frontend: str) -> None:
    captured = capture(lambda x: (x * x.sum().item(), x[x > 0]), (torch.ones(3),), frontend=frontend)
    product, positive = captured(torch.tensor([1.0, -1.0, 2.0]))
    assert torch.equal(product, torch.tensor([2.0, -2.0, 4.0]))
    assert torch.equal(positive, torch.tensor([1.0, 2.0]))


@every_frontend
def test_source_lines_are_kept(frontend: str) -> None:
    captured = capture(DeviceReader(), (torch.zeros(4, 8),), frontend=frontend, stack_traces=True)
    traced = [node for node in captured.graph.nodes if node.op not in ("placeholder", "output")]
    assert all("test_capture_values.py" in (node.stack_trace or "") for node in traced)


def test_make_fx_records_no_source_lines_unless_asked() -> None:
    captured = capture(DeviceReader(), (torch.zeros(4, 8),))
    assert all(node.stack_trace is None for node in captured.graph.nodes)


@every_frontend
def test_nothing_of_one_run_stays_on_the_nodes(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    keys = {key for node in nodes(captured) for key in node.meta}
    assert keys.isdisjoint({"creation_timestamp", "tensor_dict", "grapharg"})


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_is_kept(training: bool) -> None:
    captured = capture(nn.Dropout(0.5).train(training), (torch.ones(3),))
    assert captured.training is training
    assert any("bernoulli" in str(node.target) for node in captured.graph.nodes) is training


@every_frontend
def test_stages_are_reported(frontend: str) -> None:
    stages: list[str] = []
    capture(nn.Identity(), (torch.ones(1),), frontend=frontend, progress=stages.append)
    assert stages == ["stand-ins", f"tracing with {frontend}", "normal form"]


def test_the_spinner_shows_stages_on_a_terminal_only() -> None:
    terminal, pipe = io.StringIO(), io.StringIO()
    for stream, is_terminal in ((terminal, True), (pipe, False)):
        with spinner("capture", Console(file=stream, force_terminal=is_terminal)) as report:
            report("normal form")
    assert pipe.getvalue() == ""
    assert "capture" in terminal.getvalue()
