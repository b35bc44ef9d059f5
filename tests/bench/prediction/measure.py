"""Both figures of one geometry; nothing is run and no weights are made."""

from __future__ import annotations

import torch

from passes import PrunePrefixCache
from tests.bench.prediction.rows import LAYERS, Geometry
from tests.bench.routes import native
from tracing.capture import capture
from tracing.decoder import build_decoder


def measure(geometry: Geometry) -> dict[str, int]:
    """Bytes a step: predicted for all sites, XLA's count of the compiled modules before and after, and the size of the
    pools' reserved blocks, which no gather reads.
    """
    native.library()
    from tests.bench.routes.xla import compile_graph

    decoder = build_decoder(
        geometry.model, geometry.variant, layers=LAYERS, batch=geometry.batch, bucket=geometry.bucket,
        dtype=getattr(torch, geometry.dtype),
    )  # fmt: skip
    before = capture(decoder, decoder.example_inputs(), aliases=decoder.aliases())
    predicted = PrunePrefixCache().explain(before).summary["bytes_before"]
    after = PrunePrefixCache()(before).graph_module
    counted = [compile_graph(graph, decoder.example_inputs())[1]["bytes"] for graph in (before, after)]
    config = decoder.config
    block = config.block_size * config.kv_heads * config.head_dim * config.dtype.itemsize
    return {
        "predicted": predicted,
        "counted_before": counted[0],
        "counted_after": counted[1],
        "reserved": 2 * LAYERS * block,
    }
