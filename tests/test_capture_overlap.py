"""NxDI writes the active mask into an expanded one: what capture says, and the ways past it."""

import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from passes import DeadkvError, PrunePrefixCache
from tracing import capture

HEADS = 4
Write = Callable[[Tensor, Tensor], Tensor]


def in_place(mask: Tensor, active: Tensor) -> Tensor:
    """As NxDI does it (modules/attention/attention_base.py): `expand`, then an assignment to the last columns."""
    heads = mask.expand(-1, HEADS, -1)
    heads[:, :, -1:] = active
    return heads * 1


def cloned(mask: Tensor, active: Tensor) -> Tensor:
    """The same on a copy, which is what XLA computes with its functionalization off."""
    heads = mask.expand(-1, HEADS, -1).clone()
    heads[:, :, -1:] = active
    return heads * 1


class TokenGeneration(nn.Module):
    """One layer: gathers a prefix that nobody reads, and writes its mask with `write`."""

    def __init__(self, write: Write) -> None:
        super().__init__()
        self.write = write
        self.past_key_values = nn.ParameterList([nn.Parameter(torch.ones(5, 4, 1, 2), requires_grad=False)])

    def forward(self, mask: Tensor, active: Tensor, active_block_table: Tensor) -> Tensor:
        blocks = self.past_key_values[0].index_select(0, active_block_table.reshape(-1))
        blocks.reshape(active_block_table.shape[0], -1, 1, 2).permute(0, 2, 1, 3)
        return self.write(mask, active)


@pytest.fixture
def inputs() -> tuple[Tensor, ...]:
    return (
        torch.zeros(1, 1, 3),
        torch.tensor([1.0, 2.0, 3.0, 4.0]).reshape(1, HEADS, 1),
        torch.zeros(1, 2, dtype=torch.int32),
    )


@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_the_message_says_where_and_how_to_get_past_it(frontend: str, inputs: tuple[Tensor, ...]) -> None:
    with pytest.raises(DeadkvError) as raised:
        capture(TokenGeneration(in_place), inputs, frontend=frontend)
    message = str(raised.value)
    line = inspect.getsourcelines(in_place)[1] + 3
    assert f"test_capture_overlap.py:{line}: it writes in place into an expanded tensor; clone the tensor" in message
    assert "torch.where" in message and "torch.func.functionalize would add the writes" in message


@pytest.mark.parametrize("frontend", ["make_fx", "export", "dynamo"])
def test_with_a_clone_it_is_captured_and_pruned(frontend: str, inputs: tuple[Tensor, ...]) -> None:
    graph = capture(TokenGeneration(cloned), inputs, frontend=frontend)
    result = PrunePrefixCache(policy="liveness")(graph)
    assert result.modified and not _gathers(result.graph_module)
    (mask,) = result.graph_module(*inputs)
    assert torch.equal(mask[0, :, -1], inputs[1].reshape(-1)) and not mask[..., :-1].any()
    assert not inputs[0].any()


def test_functionalized_it_is_captured_and_pruned_but_means_something_else(inputs: tuple[Tensor, ...]) -> None:
    graph = capture(TokenGeneration(torch.func.functionalize(in_place)), inputs)
    result = PrunePrefixCache(policy="liveness")(graph)
    assert result.modified and not _gathers(result.graph_module)
    before, after = ([tensor.clone() for tensor in inputs] for _ in range(2))
    (expected,), (found,) = graph(*before), result.graph_module(*after)
    assert torch.equal(found, expected) and torch.equal(before[0], after[0])
    assert found[0, :, -1].tolist() == [10.0] * HEADS  # the sum of what the heads write, for each of them
    assert before[0][0, 0, -1] == 10.0  # and the caller's mask is written


def test_functionalized_a_mask_of_bool_is_refused(inputs: tuple[Tensor, ...]) -> None:
    mask, active, table = inputs
    with pytest.raises(DeadkvError, match=r"Subtraction.* with two bool tensors is not supported"):
        capture(TokenGeneration(torch.func.functionalize(in_place)), (mask.bool(), active.bool(), table))


def _gathers(graph: torch.fx.GraphModule) -> list[str]:
    return [node.name for node in graph.graph.nodes if "index_select" in str(node.target)]
