"""A module of LoweringContext in the form that the compiler takes.

LoweringContext numbers parameters in the order in which it meets them and passes Python numbers as parameters too. Here
numbers become constants, inputs come first and parameters after them, and caches are aliased to their new values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from passes.errors import DeadkvError
from tracing.backends.hlo.proto import canonical_module, parse_module
from tracing.backends.xla.job import Constant, Facts, Held

MODULE_NAME = "token_generation"
_MUST_ALIAS = 2  # xla/service/hlo.proto, HloInputOutputAliasProto.Kind
# torch dtype -> field of XLA's LiteralProto that holds such values.
_LITERALS: Mapping[str, str] = {
    "bool": "preds",
    "int32": "s32s",
    "int64": "s64s",
    "float32": "f32s",
    "float64": "f64s",
    "float16": "f16s",
    "bfloat16": "bf16s",
}


def finish(data: bytes, facts: Facts, aliases: Mapping[str, int]) -> bytes:
    """The module in `data` with numbered parameters, constants and aliases, and dense ids; deterministic.

    Raises DeadkvError for an alias that does not fit, and for a constant of a dtype that torch_xla does not make.
    """
    module = parse_module(data)
    numbers = parameter_numbers(facts)
    entry = next(c for c in module.computations if c.id == module.entry_computation_id)
    parameters = {i.parameter_number: i for i in entry.instructions if i.opcode == "parameter"}
    for constant in facts.constants:
        _make_constant(parameters[constant.number], constant)
    kept = [held for held in facts.held if held.number >= 0]
    shapes = [parameters[held.number].shape for held in kept]
    for held in kept:
        parameters[held.number].parameter_number = numbers[held.spec.name]
    for signature in (entry.program_shape, module.host_program_shape):
        signature.parameters[:] = shapes
        signature.parameter_names[:] = [f"p{number}" for number in range(len(kept))]
    for name, output in all_aliases(facts, aliases).items():
        module.input_output_alias.entries.add(
            output_shape_index=[output], parameter_number=numbers[name], kind=_MUST_ALIAS
        )
    return canonical_module(module.SerializeToString(), MODULE_NAME)


def parameter_numbers(facts: Facts) -> dict[str, int]:
    """The number of each input and parameter that the results depend on: inputs in order, then parameters by name."""
    used = [held.spec.name for held in facts.held if held.number >= 0]
    return {name: number for number, name in enumerate(used)}


def all_aliases(facts: Facts, aliases: Mapping[str, int]) -> dict[str, int]:
    """Output index by first name of the input or parameter: those of the capture, then those written in place.

    Raises DeadkvError for one that does not fit.
    """
    by_name = {name: held for held in facts.held for name in held.names}
    found = {_checked(name, output, by_name, facts): output for name, output in aliases.items()}
    first = len(facts.outputs) - len(facts.written)
    return {**found, **{name: first + index for index, name in enumerate(facts.written)}}


def _checked(name: str, output: int, by_name: Mapping[str, Held], facts: Facts) -> str:
    problem = _problem(by_name.get(name), output, facts)
    if problem is not None:
        raise DeadkvError(f"alias {name!r} -> output {output}: {problem}")
    return by_name[name].spec.name


def _problem(held: Held | None, output: int, facts: Facts) -> str | None:
    own = len(facts.outputs) - len(facts.written)
    if held is None:
        return "the graph has no input or parameter of that name"
    if not 0 <= output < own:
        return f"the graph has {own} outputs"
    if held.number < 0:
        return "no result depends on it, so that the HLO has no parameter to alias"
    result = facts.outputs[output]
    if (held.spec.shape, held.spec.dtype) != (result.shape, result.dtype):
        return f"{held.spec.dtype}{list(held.spec.shape)} cannot hold {result.dtype}{list(result.shape)}"
    return None


def _make_constant(instruction: Any, constant: Constant) -> None:
    if constant.dtype not in _LITERALS:
        raise DeadkvError(f"torch_xla passes a number as {constant.dtype}, for which there is no HLO constant here")
    instruction.opcode = "constant"
    instruction.ClearField("parameter_number")
    instruction.literal.shape = instruction.shape
    field = _LITERALS[constant.dtype]
    if field in ("f16s", "bf16s"):
        setattr(instruction.literal, field, _bytes(constant))
    else:
        getattr(instruction.literal, field).append(constant.value)


def _bytes(constant: Constant) -> bytes:
    """Two bytes, little endian."""
    value = torch.tensor([constant.value], dtype=getattr(torch, constant.dtype))
    numbers: Sequence[int] = value.view(torch.uint8).tolist()
    return bytes(numbers)
