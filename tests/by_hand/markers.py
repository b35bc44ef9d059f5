"""Markers and contracted operators, before and after."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from tests.by_hand.graphs import drop_site, finish, renumber, start
from tests.by_hand.ops import verifylib
from tests.support.regions import erase, set_args

aten = torch.ops.aten


# Markers.


def marker() -> GraphModule:
    build, x, y, prior = start()
    return finish(build, build.call(verifylib.mark.default, [prior, x, y], 7))


def prune_marker(module: GraphModule) -> None:
    set_args(module, "mark", ["x", "y"], 7)
    renumber(module, "mark")
    drop_site(module)


def fixed_marker() -> GraphModule:
    build, x, y, prior = start()
    call = build.call(verifylib.mark_pair.default, prior, build.call(aten.add.Tensor, x, y))
    build.item(call, 0)
    return build.module(build.call(aten.neg.default, build.item(call, 1)))


def prune_fixed_marker(module: GraphModule) -> None:
    erase(module, "getitem")
    set_args(module, "mark_pair", "add", "add")
    drop_site(module)


# A contracted operator that writes only the site.


def contracted() -> GraphModule:
    build, x, y, prior = start()
    build.call(verifylib.fill.default, prior, x)
    return build.module(build.call(aten.add.Tensor, x, y))


def prune_contracted(module: GraphModule) -> None:
    erase(module, "fill")
    drop_site(module)
