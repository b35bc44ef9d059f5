"""Verification of saved graphs: parameters that the pruned graph no longer reads, and those of copied regions."""

from __future__ import annotations

import torch
from torch.fx import GraphModule

from passes import PrunePrefixCache, verify_prune
from tests.support.builder import decode_graph
from tests.test_regions import Decode, X
from tracing.graph import document, paired_modules

aten = torch.ops.aten


def verify_saved(module: GraphModule) -> None:
    result = PrunePrefixCache(policy="liveness")(module)
    assert result.modified
    verify_prune(*paired_modules(document(module), document(result.graph_module)))


def test_a_pool_that_lost_its_last_read_is_still_a_parameter() -> None:
    verify_saved(decode_graph())


def test_parameters_of_a_copied_region_are_those_of_the_original() -> None:
    build = Decode()
    inner = build.nested()
    x, prior = inner.input("x", *X), inner.input("prior", *X)
    scaled = inner.call(aten.mul.Tensor, x, inner.parameter("weight", 8))
    build.body("sub", inner.returning((scaled, inner.call(aten.neg.default, prior))))
    first, second = build.call_module("sub", build.x, build.prior), build.call_module("sub", build.x, build.x)
    verify_saved(build.returning((build.item(first, 0), build.item(second, 0), build.item(second, 1))))
