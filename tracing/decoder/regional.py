"""One region for all layers: each layer is a call of one shared graph, torch's `invoke_subgraph`.

`torch.compile` makes such regions from functions marked with `torch.compiler.nested_compile_region`, so that a
compiler sees one layer once. Dynamo hands a region what its body uses. The other tracers do not know the mark; for
them the operator is called with all of a layer's arguments, whether the body uses them or not.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch._higher_order_ops.invoke_subgraph import invoke_subgraph
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from tracing.decoder.kv_cache import KeyValue, LayerCache
from tracing.decoder.operands import flat_tensors
from tracing.decoder.step import Step

_IDENTIFIER = "subgraph_0"  # calls of the same identifier share a body; Dynamo's first region has this name too


def run_regional(
    layers: nn.Module, hidden: Tensor, step: Step, caches: Sequence[LayerCache]
) -> tuple[Tensor, list[KeyValue]]:
    """The hidden state `[B, S, H]` after all layers, and each layer's new K and V in BHSD if the pools lack them."""
    new_key_values: list[KeyValue] = []
    for layer, cache in zip(layers.children(), caches, strict=True):
        hidden, new_key_value = _call(layer, hidden, step, cache)
        if new_key_value is not None:
            new_key_values.append(new_key_value)
    return hidden, new_key_values


def _call(layer: nn.Module, hidden: Tensor, step: Step, cache: LayerCache) -> Any:
    if torch.compiler.is_dynamo_compiling():
        return _marked_layer(layer, hidden, step, cache)
    if get_proxy_mode() is None:
        return _layer(layer, hidden, step, cache)
    return _region(layer, hidden, step, cache)


def _layer(layer: nn.Module, hidden: Tensor, step: Step, cache: LayerCache) -> Any:
    return layer(hidden, step, cache)


_marked_layer = torch.compiler.nested_compile_region(_layer)


def _region(layer: nn.Module, hidden: Tensor, step: Step, cache: LayerCache) -> tuple[Tensor, KeyValue | None]:
    weights: dict[str, Tensor] = dict(layer.named_parameters())
    operands, rebuild = flat_tensors((hidden, weights, step, cache))

    def body(*tensors: Tensor) -> tuple[Tensor, ...]:
        hidden, weights, step, cache = rebuild(tensors)
        out, new_key_value = torch.func.functional_call(layer, weights, (hidden, step, cache))
        return (out, *(new_key_value or ()))

    out, *new = invoke_subgraph(body, _IDENTIFIER, *operands)  # type: ignore[arg-type]  # the tracer makes its graph
    return out, (new[0], new[1]) if new else None
