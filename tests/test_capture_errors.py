"""What cannot be captured gives one line: what failed, on which line of the model, what to do."""

import inspect
import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from passes.errors import DeadkvError
from tests.test_capture import every_frontend
from tracing.capture import capture


def refusal(model: Callable[..., Any], inputs: Any, frontend: str = "make_fx") -> str:
    with pytest.raises(DeadkvError) as caught:
        capture(model, inputs, frontend=frontend)
    message = str(caught.value)
    assert "\n" not in message
    return message


def line_of(function: Callable[..., Any], text: str) -> str:
    lines, start = inspect.getsourcelines(function)
    (offset,) = (i for i, line in enumerate(lines) if text in line)
    return f"test_capture_errors.py:{start + offset}:"


class Expanded(nn.Module):
    """What NxDI's token-generation forward does to its mask."""

    def mask(self, x: Tensor, active: Tensor) -> Tensor:
        mask = x.expand(-1, 4, -1, -1)
        mask[:, :, :, -2:] = active
        return mask

    def forward(self, x: Tensor, active: Tensor) -> Tensor:
        return self.mask(x, active) * 2


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class Raises(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("no such layout")


class WrongShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x)


class Listed(nn.Module):
    """Holds its pool in a plain list too, where no stand-in takes its place."""

    def __init__(self, mix: bool = False) -> None:
        super().__init__()
        self.pool = nn.Parameter(torch.zeros(3))
        self.pools = [self.pool]
        self.mix = mix

    def forward(self, x: Tensor) -> Any:
        if self.mix:
            return x + self.pools[0]
        return x + 1, torch.zeros(3, device=self.pools[0].device) + self.pools[0]


class Hidden(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.freq = torch.ones(3, device="meta")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x * 2, self.freq + 1


class Handle:
    """An object that is no tensor."""


def test_an_unknown_frontend_is_refused() -> None:
    assert refusal(nn.Identity(), (torch.ones(1),), "jit") == (
        "unknown frontend 'jit'; give one of make_fx, export, dynamo"
    )


@every_frontend
def test_a_write_into_an_expanded_tensor_is_refused(frontend: str) -> None:
    message = refusal(Expanded(), (torch.zeros(1, 1, 8, 8), torch.zeros(1, 4, 8, 2)), frontend)
    assert f"captured with {frontend} at {line_of(Expanded, '= active')}" in message
    assert "in place into an expanded tensor" in message
    assert "clone the tensor" in message


@every_frontend
def test_a_write_beside_the_expanded_dimension_is_captured(frontend: str) -> None:
    def sound(x: Tensor, y: Tensor) -> Tensor:
        wide = x.expand(4, -1)
        wide[0] = y
        return wide + 0

    captured = capture(sound, (torch.zeros(1, 3), torch.ones(3)), frontend=frontend)
    assert torch.equal(captured(torch.zeros(1, 3), torch.ones(3))[0], torch.ones(4, 3))


@every_frontend
def test_control_flow_on_values_is_refused(frontend: str) -> None:
    message = refusal(Branch(), (torch.zeros(3),), frontend)
    assert line_of(Branch, "if x.sum()") in message
    assert "depends on the values of a tensor" in message
    assert "torch.cond" in message


@every_frontend
def test_an_exception_in_forward_is_named(frontend: str) -> None:
    message = refusal(Raises(), (torch.zeros(3),), frontend)
    assert f"{line_of(Raises, 'raise ')} ValueError: no such layout; " in message


@every_frontend
def test_a_shape_error_in_a_torch_layer_names_the_line_that_calls_it(frontend: str) -> None:
    message = refusal(WrongShape(), (torch.zeros(2, 8),), frontend)
    assert line_of(WrongShape, "return self.proj(x)") in message
    assert "RuntimeError: a and b must have same reduction dim" in message


@every_frontend
def test_torch_does_not_log_what_the_one_line_says(frontend: str) -> None:
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    logger.addHandler(handler)
    try:
        refusal(WrongShape(), (torch.zeros(2, 8),), frontend)
        assert log.getvalue() == ""
        logger.warning("after capture")
        assert log.getvalue() == "after capture\n"
    finally:
        logger.removeHandler(handler)


@every_frontend
def test_a_parameter_on_meta_reached_past_its_module_is_refused(frontend: str) -> None:
    with torch.device("meta"):
        model = Listed()
    message = refusal(model, (torch.zeros(3),), frontend)
    assert "the model reaches 'pool' on meta past its modules" in message
    assert "nn.ParameterList" in message


@every_frontend
def test_a_tensor_on_meta_among_those_on_cpu_is_refused(frontend: str) -> None:
    with torch.device("meta"):
        model = Listed(mix=True)
    message = refusal(model, (torch.zeros(3),), frontend)
    assert f"{line_of(Listed, 'return x + self')} it mixes in a tensor on meta" in message


@every_frontend
def test_a_constant_without_values_is_refused(frontend: str) -> None:
    message = refusal(Hidden(), (torch.zeros(3),), frontend)
    assert "(3,) tensor without values" in message
    assert "register it as a buffer" in message


@every_frontend
def test_an_output_that_is_no_tensor_is_refused(frontend: str) -> None:
    message = refusal(lambda x: (x, Handle()), (torch.zeros(3),), frontend)
    assert "return tensors and constants" in message


@pytest.mark.filterwarnings("error:The tensor attribute")
def test_what_torch_export_says_of_assigned_attributes_points_to_make_fx() -> None:
    class Assigns(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            self.last = x + 1
            return x * 2

    assert "it assigns a tensor to an attribute; register a buffer, or use make_fx" in refusal(
        Assigns(), (torch.zeros(3),), "export"
    )
    model = Assigns()
    capture(model, (torch.zeros(3),))
    assert not hasattr(model, "last")


def test_dynamo_disabled_is_refused() -> None:
    with torch.compiler.set_stance("force_eager"):
        assert "Dynamo ran the model without recording" in refusal(WrongShape(), (torch.zeros(2, 3),), "dynamo")


def test_what_dynamo_alone_cannot_trace_points_to_make_fx() -> None:
    def prints(x: Tensor) -> Tensor:
        print("step")
        return x + 1

    message = refusal(prints, (torch.zeros(3),), "dynamo")
    assert line_of(prints, "print(") in message
    assert message.endswith("use the frontend make_fx")
    assert len(capture(prints, (torch.zeros(3),)).graph.nodes) == 3


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((), "(0 given) do not fit WrongShape.forward(x"),
        ((torch.ones(1), torch.ones(1)), "(2 given) do not fit WrongShape.forward(x"),
        (torch.ones(3), "example_inputs is a Tensor; give a tuple"),
        ((Handle(),), "input 'x' is a Handle"),
        ((torch.ones(3, 3).to_sparse(),), "input 'x' is a Tensor (torch.sparse_coo)"),
    ],
    ids=["too few", "too many", "no tuple", "no tensor", "sparse"],
)
def test_inputs_that_do_not_fit_are_refused(inputs: Any, said: str) -> None:
    assert said in refusal(WrongShape(), inputs)


def test_inputs_whose_names_collide_are_refused() -> None:
    message = refusal(lambda past, past_0: past[0] + past_0, ([torch.ones(1)], torch.ones(1)))
    assert "two inputs would both be called 'past_0'" in message


def test_a_name_that_graph_modules_reserve_is_refused() -> None:
    model = nn.Module()
    model.graph = nn.Linear(2, 2)
    model.forward = lambda x: model.graph(x)  # type: ignore[method-assign]
    assert "reserves the name 'graph'" in refusal(model, (torch.ones(2),))
