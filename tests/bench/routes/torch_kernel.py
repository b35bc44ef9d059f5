"""The C++ attention kernel as a torch operator, and graphs that call it in place of `deadkv::attention_block_tkg`."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule

from tests.bench.routes.native import attend
from tracing.backends.kernels import bind_operands
from tracing.decoder import attention_op as _attention_op  # noqa: F401  (defines the operator)

_NAME = "deadkv_bench::attention_block_tkg"
REPLACED = torch.ops.deadkv.attention_block_tkg.default

torch.library.define(
    _NAME, str(REPLACED._schema).removeprefix(REPLACED._schema.name), tags=(torch.Tag.pt2_compliant_tag,)
)
KERNEL = torch.ops.deadkv_bench.attention_block_tkg.default


def _attend(*args: Any, **kwargs: Any) -> Any:
    return attend(**bind_operands(KERNEL, args, kwargs))


torch.library.impl(_NAME, "CPU", _attend)
torch.library.register_fake(_NAME, REPLACED)


def call_kernel(gm: GraphModule) -> None:
    """Makes a graph, and those nested in it, call the C++ kernel."""
    for module in gm.modules():
        if isinstance(module, GraphModule):
            for node in module.graph.find_nodes(op="call_function", target=REPLACED):
                node.target = KERNEL
            module.recompile()
