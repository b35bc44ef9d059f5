"""Capture keeps what plain dead-code elimination would delete, and changes neither the model nor its tensors."""

import pytest
import torch
from torch import Tensor, nn
from torch.fx import GraphModule

from tests.test_capture import PagedStep, every_frontend, paged_inputs
from tracing.capture import capture


@torch.library.custom_op("deadkv_capture_test::store", mutates_args=("pool",))
def store(pool: Tensor, value: Tensor) -> Tensor:
    pool.copy_(value.expand_as(pool))
    return value.sum()


@store.register_fake
def _(pool: Tensor, value: Tensor) -> Tensor:
    return value.new_empty(())


class Writes(nn.Module):
    """Every kind of write to a pool whose result nobody uses, and a gather nobody uses."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.Parameter(torch.zeros(4, 3), requires_grad=False)
        self.register_buffer("ring", torch.zeros(4, 3))
        self.steps = 0
        self.seen: list[int] = []

    def forward(self, x: Tensor, slots: Tensor) -> Tensor:
        self.pool.index_select(0, slots).permute(1, 0)
        self.pool.mul_(2)
        self.pool[slots] = x
        self.ring[1:3].copy_(x)
        self.pool.index_put_((slots,), x, accumulate=True)
        torch.ops.deadkv_capture_test.store(self.ring[0], x[0])
        self.steps += 1
        return x + 1


def written_inputs() -> tuple[Tensor, Tensor]:
    return torch.arange(6.0).reshape(2, 3), torch.tensor([3, 1])


def calls(module: GraphModule) -> list[str]:
    return [str(node.target) for node in module.graph.nodes if node.op.startswith("call_")]


@every_frontend
def test_a_gather_without_users_stays(frontend: str) -> None:
    captured = capture(PagedStep(), paged_inputs(), frontend=frontend)
    gathers = [node for node in captured.graph.nodes if "index_select" in str(node.target)]
    assert len(gathers) == 1
    chain = [gathers[0]]
    while chain[-1].users:
        (user,) = chain[-1].users
        chain.append(user)
    assert "permute" in str(chain[-1].target)


@every_frontend
def test_writes_without_users_stay(frontend: str) -> None:
    captured = capture(Writes(), written_inputs(), frontend=frontend)
    unused = [str(node.target) for node in captured.graph.nodes if not node.users and node.op.startswith("call_")]
    for write in ("index_put_", "copy_", "store", "permute"):
        assert any(write in target for target in unused)
    assert any("mul_" in target for target in calls(captured))


@every_frontend
def test_the_captured_module_writes_what_the_model_writes(frontend: str) -> None:
    model, twin = Writes(), Writes()
    captured = capture(twin, written_inputs(), frontend=frontend)
    for _ in range(2):
        assert torch.equal(captured(*written_inputs())[0], model(*written_inputs()))
    assert torch.equal(twin.pool, model.pool)
    assert torch.equal(twin.ring, model.ring)
    assert model.pool.abs().sum() > 0
    assert model.ring[0].abs().sum() > 0


@every_frontend
def test_capture_touches_no_tensor(frontend: str) -> None:
    model, inputs = Writes(), written_inputs()
    tensors = [model.pool, model.ring, *inputs]
    before = [(tensor.clone(), tensor._version) for tensor in tensors]
    capture(model, inputs, frontend=frontend)
    for tensor, (value, version) in zip(tensors, before, strict=True):
        assert torch.equal(tensor, value)
        assert tensor._version == version


@every_frontend
@pytest.mark.parametrize("fails", [False, True], ids=["captured", "failed"])
def test_the_model_is_left_as_it_was(frontend: str, fails: bool) -> None:
    model = Writes()
    attributes = {name: id(value) for name, value in vars(model).items()}
    state = {name: id(tensor) for name, tensor in (*model.named_parameters(), *model.named_buffers())}
    if fails:
        with pytest.raises(Exception, match="cannot be captured"):
            capture(model, (torch.zeros(2, 5), torch.tensor([3, 1])), frontend=frontend)
    else:
        capture(model, written_inputs(), frontend=frontend)
    assert {name: id(value) for name, value in vars(model).items()} == attributes
    assert {name: id(t) for name, t in (*model.named_parameters(), *model.named_buffers())} == state
    assert model.steps == 0


@every_frontend
def test_gradients_are_not_traced(frontend: str) -> None:
    layer = nn.Linear(3, 3)
    captured = capture(layer, (torch.zeros(2, 3),), frontend=frontend)
    assert layer.weight.requires_grad
    assert not any("grad" in target or "detach" in target for target in calls(captured))


def test_dynamo_captures_one_class_more_often_than_its_recompile_limit() -> None:
    sizes = [capture(PagedStep(), paged_inputs(), frontend="dynamo").graph for _ in range(12)]
    assert len({len(graph.nodes) for graph in sizes}) == 1


def test_dynamo_leaves_compiled_functions_of_the_user_compiled() -> None:
    compilations = []

    def backend(module: GraphModule, _: list[Tensor]) -> GraphModule:
        compilations.append(module)
        return module

    compiled = torch.compile(lambda x: x * 3, backend=backend)
    compiled(torch.ones(2))
    capture(nn.Linear(2, 2), (torch.ones(2),), frontend="dynamo")
    compiled(torch.ones(2))
    assert len(compilations) == 1
