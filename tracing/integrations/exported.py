"""The passes on a torch.export ExportedProgram, whose signature and state dict stay in step with its graph."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.passes.infra.pass_base import PassBase

from passes import PassPipeline
from tracing.integrations.pruned import keeping_inputs


def exported_with_passes(program: ExportedProgram, passes: Sequence[str | PassBase]) -> ExportedProgram:
    """`program` after the passes, each verified. The given program is left as it was; the parameters are shared.

    torch.export.save(exported_with_passes(program, ["prune-prefix-cache"]), "pruned.pt2")

    Inputs, outputs, parameters, buffers, constants and their names stay, used or not, and so do the range constraints
    of symbolic sizes. Where an output is another node than before, the signature names that node.

    Raises:
        DeadkvError: unknown pass or option, or a pass that drops inputs (`shrink_inputs`): the call signature of an
            exported program is part of the program.
        PruneVerificationError: a pass's result is not provably equivalent.
    """
    refusal = "an exported program keeps its inputs: leave out the option shrink_inputs"
    result = keeping_inputs(PassPipeline(passes), program.graph_module, "exported", refusal)
    if not result.modified:
        return program
    return _with_graph(program, result.graph_module)


def _with_graph(program: ExportedProgram, module: GraphModule) -> ExportedProgram:
    signature = program.graph_signature
    renamed = dict(zip(_output_names(program.graph_module), _output_names(module), strict=True))
    outputs = [dataclasses.replace(spec, arg=_renamed(spec.arg, renamed)) for spec in signature.output_specs]
    return ExportedProgram(
        root=module,
        graph=module.graph,
        graph_signature=dataclasses.replace(signature, output_specs=outputs),
        state_dict=program.state_dict,
        range_constraints=program.range_constraints,
        module_call_graph=program.module_call_graph,
        example_inputs=program.example_inputs,
        constants=program.constants,
        verifiers=program.verifiers,
    )


def _output_names(module: GraphModule) -> list[str]:
    (values,) = module.graph.output_node().args
    assert isinstance(values, tuple | list)
    return [value.name if isinstance(value, Node) else "" for value in values]


def _renamed(argument: Any, names: dict[str, str]) -> Any:
    return dataclasses.replace(argument, name=names[argument.name]) if argument.name in names else argument
