"""Peers that take the program of torch.export: torch-mlir and ONNX."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch._ops import OpOverload

from tests.bench.capability.gathers import in_onnx, in_torch_mlir
from tests.bench.capability.outcome import Outcome
from tests.bench.capability.subjects import Subject
from tests.cases import ops

DOMAIN = "caselib"
MLIR_PASSES = "builtin.module(remove-dead-values,canonicalize,cse,symbol-dce)"


def torch_mlir(subject: Subject) -> Outcome:
    """torch-mlir's import of the exported program after remove-dead-values, canonicalize, cse and symbol-dce."""
    from torch_mlir import fx, passmanager

    program = torch.export.export(subject.graph(), subject.inputs)
    module = fx.export_and_import(program, output_type="raw")
    with module.context:
        passmanager.PassManager.parse(MLIR_PASSES).run(module.operation)
    return Outcome(in_torch_mlir(str(module)))


def onnxscript(subject: Subject) -> Outcome:
    """`torch.onnx.export` without its own optimization, then `onnxscript.optimizer.optimize`."""
    import onnxscript as package
    from onnxscript import optimizer

    program = torch.export.export(subject.graph(), subject.inputs)
    _register_schemas()
    table = {op: _as_is(op, package.values.Opset(DOMAIN, 1)) for op in _custom_ops()}
    exported = torch.onnx.export(program, dynamo=True, optimize=False, verbose=False, custom_translation_table=table)
    assert exported is not None
    optimizer.optimize(exported.model)
    return Outcome(in_onnx(exported.model.graph))


def _custom_ops() -> list[OpOverload]:
    found = (op for op in vars(ops).values() if isinstance(op, OpOverload))
    return [op for op in found if len(op._schema.returns) == 1 and not op._schema.is_mutable]


@cache
def _register_schemas() -> None:
    """ONNX builds a node only of an operator that it has a schema of: here, any tensors to one tensor."""
    from onnx import defs

    kinds, schema = defs.get_schema("Identity").type_constraints[0].allowed_type_strs, defs.OpSchema
    for op in _custom_ops():
        option = schema.FormalParameterOption.Variadic
        inputs = schema.FormalParameter("operands", "T", param_option=option, is_homogeneous=False, min_arity=0)
        result = schema.FormalParameter("result", "U")
        constraints = [("T", kinds, "any tensor"), ("U", kinds, "any tensor")]
        found = schema(_name(op), DOMAIN, 1, inputs=[inputs], outputs=[result], type_constraints=constraints)
        defs.register_schema(found)


def _name(op: OpOverload) -> str:
    return str(op._schema.name).split("::")[1]


def _as_is(op: OpOverload, opset: Any) -> Any:
    """The operator as an ONNX operator of a domain of its own, of which the optimizer knows nothing."""

    def translated(*operands: Any, **keywords: Any) -> Any:
        return getattr(opset, _name(op))(*operands, *keywords.values())

    return translated
