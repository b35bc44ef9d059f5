"""Layers between boundary markers, as NxDI traces them under `layer_boundary_markers`.

A marker is an operator that passes its tensors on and stands in the graph where a module starts or ends; NxDI wraps
every layer in two of them (torch_neuronx's ModuleMarkerStart and ModuleMarkerEnd). A layer then gathers its own
prefix, and the gathered K and V leave it through the end marker, where nothing reads them.

torch does not let a custom operator return its operands, so `deadkv::module_marker` returns fresh copies.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from passes import register_marker
from tracing.decoder.kv_cache import KeyValue, LayerCache
from tracing.decoder.step import Step

_NAME = "deadkv::module_marker"

torch.library.define(_NAME, "(Tensor[] lanes, str name) -> Tensor[]", tags=(torch.Tag.pt2_compliant_tag,))


def _copies(lanes: Sequence[Tensor], name: str) -> list[Tensor]:
    return [lane.clone() for lane in lanes]


def _copies_fake(lanes: Sequence[Tensor], name: str) -> list[Tensor]:
    return [torch.empty_like(lane) for lane in lanes]


torch.library.impl(_NAME, "default", _copies)
torch.library.register_fake(_NAME, _copies_fake)
register_marker(_NAME)


def run_marked(
    layers: nn.Module, hidden: Tensor, step: Step, caches: Sequence[LayerCache]
) -> tuple[Tensor, list[KeyValue]]:
    """The hidden state `[B, S, H]` after all layers, and each layer's new K and V in BHSD if the pools lack them."""
    new_key_values: list[KeyValue] = []
    for index, (layer, cache) in enumerate(zip(layers.children(), caches, strict=True)):
        (hidden,) = _mark(f"layers.{index}.start", hidden)
        past = None if cache.gather is None else cache.gather()
        hidden, new_key_value = layer(hidden, step, cache._replace(past=past))
        hidden, *lanes = _mark(f"layers.{index}.end", hidden, *(new_key_value or ()), *(past or ()))
        if new_key_value is not None:
            new_key_values.append((lanes[0], lanes[1]))
    return hidden, new_key_values


def _mark(name: str, *lanes: Tensor) -> Any:
    return torch.ops.deadkv.module_marker.default(list(lanes), name)
