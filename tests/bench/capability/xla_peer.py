"""torch_xla: the HLO of its lazy graph, which holds what the outputs and the written tensors reach."""

from __future__ import annotations

import torch
from torch.utils import _pytree as pytree

from tests.bench.capability.gathers import in_hlo
from tests.bench.capability.outcome import Outcome
from tests.bench.capability.subjects import Subject


def torch_xla(subject: Subject) -> Outcome:
    """Runs the graph on lazy tensors."""
    import torch_xla as package

    module = subject.graph()
    if any(str(node.target).startswith("caselib.") for node in module.graph.nodes):
        raise RuntimeError("torch_xla runs the body of a Python operator: there is no opaque kernel to see through")
    device = package.device()
    inputs = [tensor.to(device) for tensor in subject.inputs]
    package.sync()
    with torch.no_grad():
        outputs = pytree.tree_leaves(module.to(device)(*inputs))
    lazy = [value for value in (*outputs, *inputs) if isinstance(value, torch.Tensor)]
    return Outcome(in_hlo(package._XLAC._get_xla_tensors_hlo(lazy)))
