"""Runs a graph's HLO on the CPU, to check it against torch. Importable without JAX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.fx import GraphModule

from tracing.backends.hlo.requirements import require_packages


@dataclass(frozen=True)
class Execution:
    """`outputs` are the graph's flat outputs; `written` the new values of tensors that the graph writes in place."""

    outputs: tuple[Tensor, ...]
    written: dict[str, Tensor]


def execute(
    gm: GraphModule,
    inputs: Sequence[Tensor],
    parameters: Mapping[str, Tensor] | None = None,
    *,
    target: str = "inf2",
) -> Execution:
    """Run the HLO that the graph becomes for `target`, compiled by XLA for the CPU.

    `inputs` are the placeholders in order; `parameters` are values by name, the graph module's own where absent.
    Tensors come back in the dtypes that torch gives them, and nothing is changed in place. Raises DeadkvError if JAX or
    a value is missing, for an op without a lowering, and for a kernel, which only its device runs.
    """
    require_packages()
    from tracing.backends.hlo.cpu import run_graph

    return Execution(*run_graph(gm, inputs, parameters or {}, target))
