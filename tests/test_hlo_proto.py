"""The binary HLO module: what it holds, that XLA reads it back, and that running it gives torch's result."""

from typing import Any

import jax
import numpy as np
import pytest
import torch
from jax.extend.backend import get_backend
from jaxlib import _jax, xla_client

from tests.support.lowering import floats
from tracing.backends.base import BackendRequest
from tracing.backends.hlo.artefacts import lower_request
from tracing.backends.hlo.conversion import to_numpy
from tracing.backends.hlo.lower import MODULE_NAME, Lowered
from tracing.backends.hlo.proto import alias_pairs, canonical_module, kernel_stand_ins, parse_module
from tracing.capture import capture


class Stepper(torch.nn.Module):
    """Reads and writes two equally shaped caches, returned in the opposite order of their names."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(floats(4, 4))
        self.a_cache = torch.nn.Parameter(floats(6, 4, seed=1), requires_grad=False)
        self.b_cache = torch.nn.Parameter(floats(6, 4, seed=2), requires_grad=False)

    def forward(self, x: torch.Tensor, slots: torch.Tensor) -> list[torch.Tensor]:
        y = torch.softmax(x @ self.weight, -1)
        total = y + self.a_cache[slots].cumsum(0) + self.b_cache[slots]
        return [total, self.b_cache.index_copy(0, slots, total), self.a_cache.index_copy(0, slots, y)]


@pytest.fixture(scope="module")
def stepper() -> Stepper:
    return Stepper()


@pytest.fixture(scope="module")
def inputs() -> tuple[torch.Tensor, ...]:
    return floats(2, 4, seed=3), torch.tensor([4, 1])


@pytest.fixture(scope="module")
def lowered(stepper: Stepper, inputs: tuple[torch.Tensor, ...], tmp_path_factory: Any) -> Lowered:
    graph = capture(stepper, inputs, aliases={stepper.b_cache: 1, stepper.a_cache: 2})
    aliases = graph.meta["capture"].aliases
    return lower_request(BackendRequest(graph, graph, inputs, aliases, "inf2", tmp_path_factory.mktemp("out")))["after"]


def run_binary(data: bytes, arrays: list[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
    """Executes a serialized module on XLA:CPU, as any consumer of the file would."""
    text = xla_client._xla.mlir.xla_computation_to_mlir_module(xla_client.XlaComputation(data))
    client = get_backend("cpu")
    devices = client.local_devices()[:1]
    executable = client.compile_and_load(text, _jax.DeviceList(tuple(devices)), xla_client.CompileOptions())
    placed = [jax.device_put(array, devices[0]) for array in arrays]
    return [
        np.asarray(shard[0]) for shard in executable.execute_sharded(placed).disassemble_into_single_device_arrays()
    ]


def instructions(data: bytes) -> list[Any]:
    return [i for computation in parse_module(data).computations for i in computation.instructions]


def test_running_the_binary_gives_torchs_result(
    lowered: Lowered, stepper: Stepper, inputs: tuple[torch.Tensor, ...]
) -> None:
    values = {"x": inputs[0], "slots": inputs[1], **dict(stepper.named_parameters())}
    results = run_binary(lowered.hlo, [to_numpy(values[p.name], p.name) for p in lowered.parameters])
    for ours, theirs in zip(results, stepper(*inputs), strict=True):
        np.testing.assert_allclose(ours, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_parameters_are_the_inputs_then_the_weights_by_name(lowered: Lowered) -> None:
    described = [(p.number, p.kind, p.name, p.dtype, p.torch_dtype) for p in lowered.parameters]
    assert described == [
        (0, "input", "x", "float32", "float32"),
        (1, "input", "slots", "int32", "int64"),
        (2, "parameter", "a_cache", "float32", "float32"),
        (3, "parameter", "b_cache", "float32", "float32"),
        (4, "parameter", "weight", "float32", "float32"),
    ]
    entry = parse_module(lowered.hlo).computations[-1]
    numbers = [i.parameter_number for i in entry.instructions if i.opcode == "parameter"]
    assert numbers == [0, 1, 2, 3, 4]


def test_aliases_follow_the_names_and_not_the_shapes(lowered: Lowered) -> None:
    assert alias_pairs(parse_module(lowered.hlo)) == {2: 2, 3: 1}
    assert [p.alias for p in lowered.parameters] == [None, None, 2, 1, None]
    header = lowered.stablehlo.split("->")[0]
    assert [argument.split("aliasing_output = ")[1][0] for argument in header.split("%arg")[3:5]] == ["2", "1"]


def test_ids_are_dense_and_fit_32_bits(lowered: Lowered) -> None:
    module = parse_module(lowered.hlo)
    assert [i.id for i in instructions(lowered.hlo)] == list(range(1, len(instructions(lowered.hlo)) + 1))
    assert [c.id for c in module.computations] == list(range(1, len(module.computations) + 1))
    assert module.entry_computation_id == module.computations[-1].id


def test_every_reference_names_an_earlier_instruction(lowered: Lowered) -> None:
    for computation in parse_module(lowered.hlo).computations:
        seen: set[int] = set()
        for instruction in computation.instructions:
            assert seen.issuperset(instruction.operand_ids)
            seen.add(instruction.id)
        assert computation.root_id in seen


def test_no_source_location_is_left(lowered: Lowered) -> None:
    assert b".py" not in lowered.hlo
    assert ".py" not in lowered.stablehlo
    assert parse_module(lowered.hlo).name == MODULE_NAME


def test_weights_are_no_literals(lowered: Lowered, stepper: Stepper) -> None:
    assert stepper.weight.detach().numpy().tobytes() not in lowered.hlo


def test_canonical_form_is_a_fixpoint(lowered: Lowered) -> None:
    assert canonical_module(lowered.hlo, MODULE_NAME) == lowered.hlo


def test_a_chain_deeper_than_pythons_stack_is_ordered() -> None:
    def chain(x: Any) -> Any:
        for _ in range(3000):
            x = jax.lax.neg(x)
        return x

    data = jax.jit(chain).lower(np.float32(0)).compiler_ir("hlo").as_serialized_hlo_module_proto()
    assert len(instructions(canonical_module(data, "chain"))) == 3001


def test_unknown_fields_survive(lowered: Lowered) -> None:
    """The scatter's dimension numbers and the literals are fields the descriptor does not name."""
    text = xla_client.XlaComputation(lowered.hlo).as_hlo_text()
    assert "scatter_dims_to_operand_dims={0}" in text
    assert "constant(-inf)" in text


def test_no_kernel_stand_in_is_counted_where_there_is_none(lowered: Lowered) -> None:
    assert kernel_stand_ins(lowered.hlo) == 0
