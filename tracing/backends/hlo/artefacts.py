"""The files of the HLO backend, for the graph before and the graph after alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from tracing.backends.base import BackendRequest
from tracing.backends.hlo.context import LoweringContext
from tracing.backends.hlo.lower import Lowered, lower
from tracing.backends.hlo.program import Program, load_program
from tracing.backends.kernels import refuse_newer_kernels
from tracing.backends.targets import get_target

PARAMETERS = "parameters.json"
_INDEX_SEMANTICS = "an index out of range is clamped when it is read through and dropped when it is written through"


def lower_request(request: BackendRequest) -> dict[str, Lowered]:
    """Both graphs of a request, as `before` and `after`, over the same parameters in the same order."""
    target = get_target(request.target)
    refuse_newer_kernels(request.after, target)
    context = LoweringContext(target)
    inputs = request.named_inputs()
    graphs = {"before": request.before, "after": request.after}
    programs: dict[str, Program] = {}
    for role, graph in graphs.items():
        request.progress(f"hlo: reading {role} ({len(graph.graph.nodes)} nodes)")
        programs[role] = load_program(graph, inputs, context)
    entries = _union_of_entries(programs)
    lowered: dict[str, Lowered] = {}
    for role, program in programs.items():
        request.progress(f"hlo: lowering {role}")
        lowered[role] = lower(program, entries, _first_outputs(request.aliases), context)
    return lowered


def write_artefacts(lowered: Mapping[str, Lowered], out_dir: Path) -> tuple[str, ...]:
    """Write each graph as `.stablehlo.mlir` and `.hlo.pb`, and what their parameters are. Returns the file names."""
    names: list[str] = []
    for role, module in lowered.items():
        (out_dir / f"{role}.stablehlo.mlir").write_text(module.stablehlo, encoding="utf-8")
        (out_dir / f"{role}.hlo.pb").write_bytes(module.hlo)
        names += [f"{role}.stablehlo.mlir", f"{role}.hlo.pb"]
    (out_dir / PARAMETERS).write_text(_parameters_json(lowered), encoding="utf-8")
    return (*names, PARAMETERS)


def _first_outputs(aliases: Sequence[tuple[str, int]]) -> dict[str, int]:
    """HLO aliases a parameter to one output: the first where a tensor is returned twice."""
    return dict(reversed(aliases))


def _union_of_entries(programs: Mapping[str, Program]) -> dict[str, Tensor]:
    union = {name: tensor for program in programs.values() for name, tensor in program.entries.items()}
    return dict(sorted(union.items()))


def _parameters_json(lowered: Mapping[str, Lowered]) -> str:
    document: dict[str, Any] = {"version": 1, "index_semantics": _INDEX_SEMANTICS}
    for role, module in lowered.items():
        outputs = [{"number": i, "shape": s, "dtype": d} for i, (s, d) in enumerate(module.outputs)]
        document[role] = {"parameters": [asdict(p) for p in module.parameters], "outputs": outputs}
    return json.dumps(document, indent=2, sort_keys=True) + "\n"
