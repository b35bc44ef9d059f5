"""Loops that torch's own tracers refuse: carries that are handed on as they are, or change places."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Node

from tests.cases.building import CaseBuilder, aten
from tests.cases.case import built


def counter(build: CaseBuilder) -> Node:
    return build.call(aten.full.default, [], 0, dtype=torch.int64)


# scan_carry
@built("scan_carry", "handed_on_as_it_is", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior = build.site(pool, table)
    body = build.traced("body", lambda h, k, row: (h + row, k, row * 2), x, prior, x.meta["val"][0])
    return build.item(build.scan(body, [x, prior], [x]), 0)


@built("scan_carry", "places_changed", goes=True, before=2)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    key, value = build.site(pool, table), build.site(pool, table)
    body = build.traced("body", lambda k, v, h, row: (v, k, h + row, row * 2), key, value, x, x.meta["val"][0])
    call = build.scan(body, [key, value, x], [x])
    return build.item(call, 2), build.item(call, 3)


@built("scan_carry", "twin_places_changed", goes=False, before=2)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    key, value = build.site(pool, table), build.site(pool, table)
    body = build.traced("body", lambda k, v, h, row: (v, k, h + row), key, value, x, x.meta["val"][0])
    call = build.scan(body, [key, value, x], [x])
    return build.item(call, 2), build.item(call, 0)


# while_carry
@built("while_carry", "handed_on_as_it_is", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior, start = build.site(pool, table), counter(build)
    condition = build.traced("condition", lambda i, h, k: i < 3, start, x, prior)
    body = build.traced("body", lambda i, h, k: (i + 1, h * 2, k), start, x, prior)
    return build.item(build.while_loop(condition, body, [start, x, prior]), 1)


@built("while_carry", "unread_constant", goes=True)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    prior, start = build.site(pool, table), counter(build)
    condition = build.traced("condition", lambda i, h, k: i < 3, start, x, prior)
    body = build.traced("body", lambda i, h, k: (i + 1, h * 2), start, x, prior)
    return build.item(build.while_loop(condition, body, [start, x], prior), 1)


@built("while_carry", "twin_read_by_the_condition_only", goes=False)
def _(build: CaseBuilder, x: Node, pool: Node, table: Node) -> object:
    def goes_on(i: Tensor, h: Tensor, k: Tensor) -> Tensor:
        return torch.logical_and(i < 3, k[0, 0, 0, 0] < 100)

    prior, start = build.site(pool, table), counter(build)
    condition = build.traced("condition", goes_on, start, x, prior)
    body = build.traced("body", lambda i, h, k: (i + 1, h * 2), start, x, prior)
    return build.item(build.while_loop(condition, body, [start, x], prior), 1)
