"""Which output is the new value of which parameter or input: declared by the caller, or found in the graph."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from passes.errors import DeadkvError
from tests.test_capture import every_frontend
from tracing.capture import CaptureInfo, capture

kernels = torch.library.Library("deadkv_capture_alias_test", "DEF")
kernels.define("update(Tensor(a!) pool, Tensor new) -> (Tensor(a!), Tensor)")


@torch.library.impl(kernels, "update", "CompositeExplicitAutograd")
def _update(pool: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    pool.copy_(new)
    return pool, new * 2


@torch.library.register_fake("deadkv_capture_alias_test::update", lib=kernels)
def _update_fake(pool: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    return pool, torch.empty_like(new)


class Cache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.k = nn.Parameter(torch.zeros(4, 3), requires_grad=False)
        self.v = nn.Parameter(torch.zeros(4, 3), requires_grad=False)
        self.tied = self.k
        self.register_buffer("ring", torch.zeros(4, 3))


class Functional(Cache):
    def forward(self, x: Tensor) -> Any:
        return x.sum(), torch.cat([x, self.k[1:]]), torch.cat([x, self.v[1:]])


class InPlace(Cache):
    def forward(self, x: Tensor) -> Any:
        new, twice = torch.ops.deadkv_capture_alias_test.update(self.v, x.expand(4, 3))
        self.ring.add_(1)
        return [twice, new, self.ring, x, self.k.view(-1), self.k[1:], self.k.mul_(2).view(12).view(4, 3)]


def one_row() -> tuple[Tensor]:
    return (torch.ones(1, 3),)


@every_frontend
def test_declared_aliases_are_recorded_by_name_and_output_order(frontend: str) -> None:
    model = Functional()
    captured = capture(model, one_row(), frontend=frontend, aliases={model.v: 2, model.k: 1})
    info = CaptureInfo(frontend, inputs=("x",), num_outputs=3, aliases=(("k", 1), ("v", 2)))
    assert captured.meta["capture"] == info
    assert copy.deepcopy(captured).meta["capture"] == info


@every_frontend
def test_outputs_that_are_the_tensor_itself_are_found(frontend: str) -> None:
    captured = capture(InPlace(), one_row(), frontend=frontend)
    assert captured.meta["capture"].aliases == (("v", 1), ("ring", 2), ("x", 3), ("k", 6))


@every_frontend
def test_declared_and_found_aliases_agree(frontend: str) -> None:
    model = InPlace()
    captured = capture(model, one_row(), frontend=frontend, aliases={model.v: 1})
    assert captured.meta["capture"].aliases == (("v", 1), ("ring", 2), ("x", 3), ("k", 6))


@every_frontend
def test_found_aliases_do_not_depend_on_weights(frontend: str) -> None:
    with torch.device("meta"):
        model = InPlace()
    captured = capture(model, one_row(), frontend=frontend)
    assert captured.meta["capture"].aliases == (("v", 1), ("ring", 2), ("x", 3), ("k", 6))


def test_a_key_that_is_no_parameter_is_refused_with_its_index() -> None:
    with pytest.raises(DeadkvError, match="the key for output 2 is not a parameter of the model"):
        capture(Functional(), one_row(), aliases={nn.Parameter(torch.zeros(4, 3)): 2})


@pytest.mark.parametrize("index", [3, -1])
def test_an_index_that_is_no_output_is_refused(index: int) -> None:
    model = Functional()
    with pytest.raises(DeadkvError, match=f"'k' is given output {index}, but the model has 3 outputs"):
        capture(model, one_row(), aliases={model.k: index})


def test_one_output_for_two_parameters_is_refused() -> None:
    model = Functional()
    with pytest.raises(DeadkvError, match="output 1 is given to 'k' and 'v'"):
        capture(model, one_row(), aliases={model.k: 1, model.v: 1})


def test_an_output_that_is_another_parameter_is_refused() -> None:
    model = InPlace()
    with pytest.raises(DeadkvError, match="output 1 is given to 'k', but it is 'v' itself"):
        capture(model, one_row(), aliases={model.k: 1})
