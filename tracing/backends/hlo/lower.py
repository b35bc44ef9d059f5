"""One program as StableHLO text and as a binary HLO module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
from jax.extend.mlir import ir
from jax.extend.mlir.dialects import func
from torch import Tensor

from passes.errors import DeadkvError
from tracing.backends.hlo.arrays import Array, struct
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.dtypes import to_xla
from tracing.backends.hlo.program import Program
from tracing.backends.hlo.proto import canonical_module
from tracing.backends.hlo.shared_memory import refuse_shared_writes

MODULE_NAME = "token_generation"
_PLATFORM = ("cpu",)


@dataclass(frozen=True)
class Parameter:
    """One parameter of the HLO entry computation. `alias` is the index of the output that holds its new value."""

    number: int
    kind: str
    name: str
    shape: tuple[int, ...]
    dtype: str
    torch_dtype: str
    alias: int | None


@dataclass(frozen=True)
class Lowered:
    """`parameters` in order; `outputs` the (shape, dtype) of each result: the graph's own, then written tensors."""

    stablehlo: str
    hlo: bytes
    parameters: tuple[Parameter, ...]
    outputs: tuple[tuple[tuple[int, ...], str], ...]


def lower(
    program: Program, entries: Mapping[str, Tensor], aliases: Mapping[str, int], context: LoweringContext
) -> Lowered:
    """Lower a program whose HLO parameters are its inputs in order, then `entries` in order.

    `entries` holds at least the program's own. `aliases` gives the index of the output that holds the new value of an
    input or entry; a tensor that the graph writes without being listed there gets an extra output at the end, in order
    of name, and an alias to it. Weights stay parameters. Raises DeadkvError for an alias that does not fit, and for a
    written tensor that shares memory with another one.
    """
    tensors = {**program.inputs, **entries}

    def token_generation(*values: Array) -> tuple[list[Array], dict[str, Array]]:
        outputs, written = program.run(dict(zip(tensors, values, strict=True)), context)
        return outputs, {name: value for name, value in written.items() if name not in aliases}

    with jax.enable_x64(False):
        structs = [struct(tensor.shape, tensor.dtype) for tensor in tensors.values()]
        traced = jax.jit(token_generation, keep_unused=True).trace(*structs)
        outputs, written = traced.out_info
        pairs = {**aliases, **{name: len(outputs) + i for i, name in enumerate(sorted(written))}}
        results = [*outputs, *(written[name] for name in sorted(written))]
        parameters = tuple(_parameter(i, name, tensors[name], program, pairs) for i, name in enumerate(tensors))
        _check_aliases(pairs, parameters, results)
        refuse_shared_writes(tensors, pairs)
        lowered = traced.lower(lowering_platforms=_PLATFORM)
        _mark_aliases(lowered.compiler_ir("stablehlo"), parameters)
        hlo = lowered.compiler_ir("hlo").as_serialized_hlo_module_proto()
    outputs_info = tuple((tuple(result.shape), str(result.dtype)) for result in results)
    return Lowered(lowered.as_text(), canonical_module(hlo, MODULE_NAME), parameters, outputs_info)


def _parameter(number: int, name: str, tensor: Tensor, program: Program, aliases: Mapping[str, int]) -> Parameter:
    return Parameter(
        number,
        "input" if name in program.inputs else "parameter",
        name,
        tuple(tensor.shape),
        str(to_xla(tensor.dtype)),
        str(tensor.dtype).removeprefix("torch."),
        aliases.get(name),
    )


def _check_aliases(
    aliases: Mapping[str, int], parameters: Sequence[Parameter], results: Sequence[jax.ShapeDtypeStruct]
) -> None:
    by_name = {parameter.name: parameter for parameter in parameters}
    for name, index in aliases.items():
        if name not in by_name:
            raise DeadkvError(f"alias {name!r} -> output {index}: the graph has no input or parameter of that name")
        if not 0 <= index < len(results):
            raise DeadkvError(f"alias {name!r} -> output {index}: the graph has {len(results)} outputs")
        held, result = by_name[name], results[index]
        if (held.shape, held.dtype) != (tuple(result.shape), str(result.dtype)):
            raise DeadkvError(
                f"alias {name!r} -> output {index}: {held.dtype}{list(held.shape)} cannot hold "
                f"{result.dtype}{list(result.shape)}"
            )


def _mark_aliases(module: Any, parameters: Sequence[Parameter]) -> None:
    """Write the aliases into the module's entry function. Donation would pair by shape and not by name."""
    with module.context:
        functions: list[Any] = [op for op in module.body.operations if isinstance(op, func.FuncOp)]
        main = next(function for function in functions if function.name.value == "main")
        main.arg_attrs = ir.ArrayAttr.get(
            [_with_alias(attributes, p.alias) for attributes, p in zip(main.arg_attrs, parameters, strict=True)]
        )


def _with_alias(attributes: Any, alias: int | None) -> Any:
    if alias is None:
        return attributes
    named = {item.name: item.attr for item in attributes}
    index = ir.IntegerAttr.get(ir.IntegerType.get_signless(32), alias)
    return ir.DictAttr.get({**named, "tf.aliasing_output": index})
