"""How the layers of a variant are held, and how they are run."""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from torch import Tensor, nn

from tracing.decoder.config import DecoderConfig
from tracing.decoder.inline import run_inline
from tracing.decoder.kv_cache import KeyValue, LayerCache
from tracing.decoder.layer import DecoderLayer
from tracing.decoder.markers import run_marked
from tracing.decoder.regional import run_regional
from tracing.decoder.scan import StackedLayers, run_scan
from tracing.decoder.step import Step
from tracing.decoder.variants import Variant

Run = Callable[[nn.Module, Tensor, Step, Sequence[LayerCache]], tuple[Tensor, list[KeyValue]]]

RUNS: Mapping[str, Run] = MappingProxyType(
    {"inline": run_inline, "marked": run_marked, "regional": run_regional, "scan": run_scan}
)
"""By `Variant.structure`: the hidden state after all layers, and the new K and V of those the pools lack."""


def build_layers(config: DecoderConfig, variant: Variant) -> nn.ModuleList | StackedLayers:
    """The layers of a decoder: a list, or for a scan one stack."""
    if variant.scan:
        return StackedLayers(config, variant)
    return nn.ModuleList(DecoderLayer(config, variant, layer) for layer in range(config.layers))
