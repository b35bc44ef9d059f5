"""Regions in captured graphs: one body for all calls of a region, whichever frontend recorded it."""

import torch
from torch import Tensor, nn
from torch._higher_order_ops.invoke_subgraph import invoke_subgraph
from torch.fx import GraphModule, Node

from tests.test_capture import every_frontend
from tracing.capture import capture
from tracing.graph import document, text


def _body(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    y = x @ weight
    return y, y.sum(0)


_marked = torch.compiler.nested_compile_region(_body)


class ThreeCalls(nn.Module):
    """The same region three times, each with a weight of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.ParameterList(nn.Parameter(torch.rand(4, 4), requires_grad=False) for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        sums = []
        for weight in self.weights:
            if torch.compiler.is_dynamo_compiling():
                x, total = _marked(x, weight)
            else:
                x, total = invoke_subgraph(_body, "subgraph_0", x, weight)
            sums.append(total)
        return [x, *sums]


def calls(module: GraphModule) -> list[Node]:
    return module.graph.find_nodes(op="call_function", target=invoke_subgraph)


@every_frontend
def test_calls_of_one_region_share_one_body(frontend: str) -> None:
    module = capture(ThreeCalls(), (torch.rand(2, 4),), frontend=frontend)
    assert len(calls(module)) == 3
    assert len({call.args[0].target for call in calls(module)}) == 1
    assert sum(isinstance(child, GraphModule) for child in module.modules()) == 2
    assert "graph @0:" in text(document(module))


@every_frontend
def test_the_captured_regions_compute_what_the_model_does(frontend: str) -> None:
    model, x = ThreeCalls(), torch.rand(2, 4)
    module = capture(model, (x,), frontend=frontend)
    for ours, wanted in zip(module(x), model(x), strict=True):
        assert torch.equal(ours, wanted)


@every_frontend
def test_a_call_has_values_and_no_second_copy_of_its_operands(frontend: str) -> None:
    module = capture(ThreeCalls(), (torch.rand(2, 4),), frontend=frontend)
    for call in calls(module):
        assert [tuple(value.shape) for value in call.meta["val"]] == [(2, 4), (4,)]
        assert "eager_input_vals" not in call.meta


def test_a_second_capture_does_not_find_the_bodies_of_the_first() -> None:
    texts = {text(document(capture(ThreeCalls(), (torch.rand(2, 4),)))) for _ in range(2)}
    assert len(texts) == 1
