"""Which layer of the model each node belongs to, as far as names and the report tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from tracing.graph.document import GraphDoc, Node
from tracing.graph.reasons import Site

_LAYER = re.compile(r"(?:^|[._])(?:layers?|blocks?|h)[._](\d{1,9})(?:[._]|$)")
_STORED = ("get_attr", "placeholder")


def cache_layers(sites: Iterable[Site]) -> dict[str, int]:
    """The layer of each cache by the report: `past_key_values.31` does not say it in its name."""
    return {site.cache: site.layer for site in sites if site.layer is not None}


def node_layers(doc: GraphDoc, caches: Mapping[str, int]) -> dict[str, int]:
    """The layer of each node by name; nodes of no layer are left out.

    A parameter or input has the layer in its name (`layers.3.`, `h.3.`) or its cache's. Whatever is computed has the
    last layer that it is computed from, since each layer reads the one before. The output has none.
    """
    layers: list[int | None] = []
    own = doc.forms.spread(lambda form: _own(form.node, caches))
    for layer, reads in zip(own[:-1], doc.forms.reads, strict=False):
        if layer is None:
            layer = max([known for read in reads if (known := layers[read]) is not None], default=None)
        layers.append(layer)
    return {node.name: layer for node, layer in zip(doc.nodes, layers, strict=False) if layer is not None}


def _own(node: Node, caches: Mapping[str, int]) -> int | None:
    if node.op not in _STORED:
        return None
    if node.target in caches:
        return caches[node.target]
    named = _LAYER.search(node.target)
    return None if named is None else int(named[1])
