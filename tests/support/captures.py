"""The tiny decoder's variants and their graphs: captured once for all tests of a process, which only read them."""

from __future__ import annotations

from functools import cache

from torch.fx import GraphModule

from tests.support.releases import skip_what_torch_cannot_trace
from tracing import capture
from tracing.decoder import Decoder, build_decoder, random_caches, random_weights


@cache
def tiny_decoder(variant: str) -> Decoder:
    """Two layers, two sequences of 64 tokens, random weights and pools."""
    decoder = build_decoder("tiny", variant, batch=2, bucket=64, device="cpu")
    random_weights(decoder, seed=0)
    random_caches(decoder, seed=1)
    return decoder


@cache
def tiny_graph(variant: str, frontend: str) -> GraphModule:
    """Its graph as a frontend captures it; the test is skipped where this torch cannot."""
    decoder = tiny_decoder(variant)
    skip_what_torch_cannot_trace(decoder.variant, frontend)
    return capture(decoder, decoder.example_inputs(), frontend=frontend, aliases=decoder.aliases())
