"""What a diff removed, layer by layer."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass

from tracing.graph.chains import Chain, ranges
from tracing.graph.diff import GraphDiff
from tracing.graph.document import Node
from tracing.graph.reasons import Site
from tracing.graph.sizes import bytes_text
from tracing.graph.view import spine_text

_NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class LayerRow:
    """Layers in which the same was removed."""

    layers: str
    nodes: int
    chains: tuple[str, ...]
    size: str
    reasons: tuple[str, ...]


def layer_rows(diff: GraphDiff) -> list[LayerRow]:
    """What was removed, layer by layer; neighbouring layers that lost the same are one row."""
    layers: dict[int, list[tuple[Chain, str]]] = {}
    sites = diff.reasons.by_node()
    nodes = diff.before.by_name
    for folded in diff.removed_folds:
        for chain in folded.chains:
            layer = _layer(chain, sites, nodes)
            if layer is not None:
                layers.setdefault(layer, []).append((chain, spine_text(chain, nodes)))
    rows: dict[Hashable, list[int]] = {}
    for layer in sorted(layers):
        rows.setdefault(_layer_key(layers[layer], sites), []).append(layer)
    return [_layer_row(numbers, layers[numbers[0]], sites) for numbers in rows.values()]


def _layer(chain: Chain, sites: dict[str, Site], nodes: dict[str, Node]) -> int | None:
    """By the report; else the first number in the name of a parameter that the chain or a neighbour of it reads."""
    told = next((sites[name].layer for name in chain.nodes if name in sites), None)
    if told is not None:
        return told
    return next((int(n) for fqn in _parameters(chain, nodes) for n in _NUMBER.findall(fqn)[:1]), None)


def _parameters(chain: Chain, nodes: dict[str, Node]) -> Iterator[str]:
    yield from chain.parameters
    for name in chain.reads:
        if nodes[name].op == "get_attr":
            yield nodes[name].target


def _layer_key(chains: list[tuple[Chain, str]], sites: dict[str, Site]) -> Hashable:
    return tuple((line, chain.bytes) for chain, line in chains), _reasons(chains, sites)


def _reasons(chains: list[tuple[Chain, str]], sites: dict[str, Site]) -> tuple[str, ...]:
    found = (sites[name].reason for chain, _ in chains for name in chain.nodes if name in sites)
    return tuple(dict.fromkeys(reason for reason in found if reason))


def _layer_row(numbers: list[int], chains: list[tuple[Chain, str]], sites: dict[str, Site]) -> LayerRow:
    sizes = [chain.bytes for chain, _ in chains if chain.bytes is not None]
    counts = Counter(line for _, line in chains)
    return LayerRow(
        layers=ranges(numbers),
        nodes=sum(len(chain.nodes) for chain, _ in chains),
        chains=tuple(line if count == 1 else f"{count} x {line}" for line, count in counts.items()),
        size=bytes_text(max(sizes)) if sizes else "",
        reasons=_reasons(chains, sites),
    )
