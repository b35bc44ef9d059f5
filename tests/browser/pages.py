"""The pages that the browser tests open."""

from __future__ import annotations

from functools import lru_cache

from passes import PrunePrefixCache, register_contract
from tests.support.graphs import decoder
from tracing.graph import diff, document, render_html

LAYERS = 4


@lru_cache(maxsize=1)
def pruned() -> str:
    """A decoder of four layers, 11 nodes each, that lost five nodes of each to the pass: 47 -> 27."""
    before = decoder(LAYERS, prior="operand")
    with register_contract("deadkv_graph_test::attention_block_tkg", reads=lambda bound: set(bound) - {"K_prior"}):
        result = PrunePrefixCache(policy="liveness")(before)
    old, new = document(before), document(result.graph_module)
    return render_html(diff(old, new, result.report.to_dict()), old, new)


@lru_cache(maxsize=1)
def live() -> str:
    """The same decoder where the attention op may read the copy: nothing is removed, every site has a pin path."""
    before = decoder(LAYERS, prior="operand")
    result = PrunePrefixCache(policy="liveness")(before)
    old, new = document(before), document(result.graph_module)
    return render_html(diff(old, new, result.report.to_dict()), old, new)


@lru_cache(maxsize=1)
def changed() -> str:
    """Removed, rewired, changed and added nodes at once."""
    old, new = document(decoder(2, prior="operand")), document(decoder(3, prior="none", scale=2.0))
    return render_html(diff(old, new), old, new)
