"""Bars of the bytes that the prefix copies move a step, layer by layer: numbers only, the template draws them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tracing.graph.reasons import KEPT, Reasons
from tracing.graph.sizes import bytes_text

WIDTH, HEIGHT = 1000, 100  # units of the drawing, which is stretched to its place
_GAP = 0.25  # of a layer's width


@dataclass(frozen=True)
class Bar:
    """One layer: the outer rectangle is what it moved before, the inner one what it still moves."""

    x: str
    width: str
    before_y: str
    before_height: str
    after_y: str
    after_height: str
    label: str


@dataclass(frozen=True)
class Chart:
    """One graph, or one bucket of a model: all charts of a page have one scale."""

    title: str
    total: str
    scale: str
    first: str
    last: str
    bars: tuple[Bar, ...]


Moved = dict[int | None, tuple[int, int]]


def charts(graph: Reasons, buckets: Sequence[tuple[int, Reasons]] = ()) -> list[Chart]:
    """A chart for each bucket, or one of `graph` if there are none; none for reports that know no bytes."""
    named = [(f"bucket {size}", found) for size, found in buckets] or [("", graph)]
    moved = [(title, _by_layer(found)) for title, found in named]
    top = max((before for _, layers in moved for before, _ in layers.values()), default=0)
    return [_chart(title, layers, top) for title, layers in moved if layers and top]


def _by_layer(reasons: Reasons) -> Moved:
    """Bytes before and after per layer, in order; sites of no layer last."""
    found: Moved = {}
    for site in reasons.sites:
        before, after = found.get(site.layer, (0, 0))
        size = site.bytes or 0
        found[site.layer] = before + size, after + size * (site.status in KEPT)
    return dict(sorted(found.items(), key=lambda entry: (entry[0] is None, entry[0] or 0)))


def _chart(title: str, layers: Moved, top: int) -> Chart:
    slot = WIDTH / len(layers)
    bars = [_bar(index * slot, slot, layer, sizes, top) for index, (layer, sizes) in enumerate(layers.items())]
    before, after = (sum(sizes[side] for sizes in layers.values()) for side in (0, 1))
    names = [_name(layer) for layer in layers]
    return Chart(title, _change(before, after), bytes_text(top), names[0], names[-1], tuple(bars))


def _bar(x: float, slot: float, layer: int | None, sizes: tuple[int, int], top: int) -> Bar:
    before, after = (HEIGHT * size / top for size in sizes)
    return Bar(
        x=_unit(x + slot * _GAP / 2),
        width=_unit(slot * (1 - _GAP)),
        before_y=_unit(HEIGHT - before),
        before_height=_unit(before),
        after_y=_unit(HEIGHT - after),
        after_height=_unit(after),
        label=f"{_name(layer)}: {_change(*sizes)}",
    )


def _name(layer: int | None) -> str:
    return "no layer" if layer is None else f"layer {layer}"


def _change(before: int, after: int) -> str:
    if before == after:
        return f"{bytes_text(before)} a step, unchanged"
    return f"{bytes_text(before)} a step -> {bytes_text(after) if after else '0'}"


def _unit(found: float) -> str:
    return f"{found:.2f}"
