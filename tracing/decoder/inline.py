"""The layers one after another, in the decoder's own graph."""

from collections.abc import Sequence

from torch import Tensor, nn

from tracing.decoder.kv_cache import KeyValue, LayerCache
from tracing.decoder.step import Step


def run_inline(
    layers: nn.Module, hidden: Tensor, step: Step, caches: Sequence[LayerCache]
) -> tuple[Tensor, list[KeyValue]]:
    """The hidden state `[B, S, H]` after all layers, and each layer's new K and V in BHSD if the pools lack them."""
    new_key_values: list[KeyValue] = []
    for layer, cache in zip(layers.children(), caches, strict=True):
        hidden, new_key_value = layer(hidden, step, cache)
        if new_key_value is not None:
            new_key_values.append(new_key_value)
    return hidden, new_key_values
