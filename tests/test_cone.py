"""Kernels that ignore the site: whether they run is found without the whole graph, and must be found right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.fx import GraphModule, Node

from passes import PrunePrefixCache
from tests.cases.ops import attend
from tests.fuzz.test_cone import check_cone
from tests.support.builder import GraphBuilder

aten = torch.ops.aten
LIVENESS = PrunePrefixCache(policy="liveness")


class Step:
    """A site and what a kernel needs beside it."""

    def __init__(self) -> None:
        self.build = GraphBuilder()
        self.x = self.build.input("x", 3, 2, 16, 8)
        self.table = self.build.input("active_block_table", 3, 4, dtype=torch.int32)
        self.pool = self.build.parameter("past_key_values.0", 10, 4, 2, 8)
        self.site = self.build.site(self.pool, self.table)

    def kernel(self, x: Node, *, reads: bool = False) -> Node:
        return self.build.call(attend, x, self.pool, None if reads else self.table, self.site)

    def twice(self, x: Node) -> Node:
        return self.build.call(aten.mul.Tensor, x, 2)


def needed() -> tuple[GraphModule, str]:
    step = Step()
    return step.build.module(step.twice(step.kernel(step.x))), "severed"


def unused() -> tuple[GraphModule, str]:
    step = Step()
    step.twice(step.kernel(step.x))
    return step.build.module(step.x), "erased"


def of_known_size() -> tuple[GraphModule, str]:
    step = Step()
    size = step.build.call(aten.sym_size.int, step.kernel(step.x), 0)
    return step.build.module(step.x, size), "erased"


def ignored_by_the_next() -> tuple[GraphModule, str]:
    """The result of the first kernel is what the second, which is needed, does not read."""
    step = Step()
    first = step.kernel(step.x)
    second = step.build.call(attend, step.x, step.pool, step.table, first)
    return step.build.module(second), "erased"


def beside_a_dead_kernel() -> tuple[GraphModule, str]:
    """The first kernel is needed; the second, the last of what reads it, is not."""
    step = Step()
    first = step.kernel(step.x)
    result = step.twice(first)
    step.twice(step.kernel(first))
    return step.build.module(result), "severed"


def written_out_beside_a_dead_kernel() -> tuple[GraphModule, str]:
    """The first kernel is needed by an effect; the second, the last of what reads it, is not."""
    step = Step()
    first = step.kernel(step.x)
    step.build.call(aten.copy_.default, step.build.parameter("written", 3, 2, 16, 8), first)
    step.twice(step.kernel(first))
    return step.build.module(step.x), "severed"


def read_by_another() -> tuple[GraphModule, str]:
    step = Step()
    ignoring = step.kernel(step.x)
    reading = step.kernel(ignoring, reads=True)
    return step.build.module(step.twice(step.twice(reading))), "kept"


CASES = (
    needed,
    unused,
    of_known_size,
    ignored_by_the_next,
    beside_a_dead_kernel,
    written_out_beside_a_dead_kernel,
    read_by_another,
)


@pytest.mark.parametrize("case", CASES)
def test_a_kernel_that_ignores_the_site(case: Callable[[], tuple[GraphModule, str]]) -> None:
    module, outcome = case()
    check_cone(module)
    report = LIVENESS(module).report
    (site,) = report.sites
    assert (site.status == "live") == (outcome == "kept")
    assert ("attend" in report.removed) == (outcome == "erased")
    assert ("attend" in {rewrite.node for rewrite in report.rewritten}) == (outcome == "severed")
