"""Lowers a decoder's forward on the xla device as NxD V1 does it: `python -m tests.support.lazy_forward plain|pruned`.

Prints the number of nodes that ran as a graph (0 for the plain module) and the hash of what LoweringContext wrote.
"""

from __future__ import annotations

import hashlib
import os
import sys

os.environ["PJRT_DEVICE"] = "CPU"

import torch
import torch_xla

from tests.support.fakes.neuronx_distributed_inference import ModelWrapper
from tracing.integrations.nxd import TOKEN_GENERATION, PrunedForward, with_passes_nxd


def main(pruned: bool) -> None:
    wrapper = ModelWrapper(TOKEN_GENERATION, "base", (64,))
    instance = wrapper.get_model_instance()
    builder_view = with_passes_nxd(instance) if pruned else instance
    builder_view.load_module()
    module, _ = builder_view.get(0)
    module.to("xla")
    inputs = tuple(tensor.to("xla") for tensor in wrapper.input_generator()[0])
    with torch.no_grad():
        outputs = module(*inputs)
    context = torch_xla._XLAC.lowering.LoweringContext()
    context.build(list(outputs))
    forward = module.forward
    graphs = list(forward.graphs.values()) if isinstance(forward, PrunedForward) else []
    nodes = sum(len(graph.graph.nodes) for graph in graphs)
    print(f"{nodes} {hashlib.sha256(context.hlo()).hexdigest()}", flush=True)
    os._exit(0)  # torch_xla's threads may outlive the interpreter


if __name__ == "__main__":
    main(sys.argv[1] == "pruned")
