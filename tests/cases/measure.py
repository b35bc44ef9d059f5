"""Runs one case at one level: how many gathers it has, plain dead-code elimination leaves, and the pass leaves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.fx import GraphModule

from passes import DedupPrefixCache, PrunePrefixCache, verify_prune
from passes.report import SiteReport
from tests.cases.building import build_case
from tests.cases.case import DEDUP, Body, Case
from tests.cases.counts import Counts
from tests.support.prunes import after_plain_dce, assert_same_behaviour, check_prune, gathers_left
from tracing import capture


@dataclass(frozen=True)
class Measured:
    """One case at one level: the counts, and the sites of the pass's report."""

    counts: Counts
    sites: tuple[SiteReport, ...]


def measure(case: Case, level: str) -> Measured:
    """Raises AssertionError if the pass changes what the graph computes, or anything else that it must not."""
    with process_group() if case.row == "collective" else nullcontext():
        module = CAPTURE[level](case)
        plain = after_plain_dce(module)
        pruned, sites = _run_pass(case, module)
        counts = Counts(
            before=gathers_left(module),
            plain=gathers_left(plain),
            plain_is_sound=_is_sound(module, plain),
            after=gathers_left(pruned),
            inputs=len(pruned.graph.find_nodes(op="placeholder")),
        )
    return Measured(counts, sites)


def example_inputs() -> tuple[Tensor, Tensor, Tensor]:
    """`x`, a pool with a NaN in it, and a block table."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 16, 8, generator=generator)
    pool = torch.randn(10, 4, 2, 8, generator=generator)
    pool[5, 1, 1, 3] = torch.nan
    table = torch.randperm(9, generator=generator)[:4].repeat(3, 1).to(torch.int32)
    return x, pool, table


CAPTURE: Mapping[str, Callable[[Case], GraphModule]] = {
    "fx": lambda case: torch.fx.symbolic_trace(case.body),
    "dynamo": lambda case: _captured_by_dynamo(case.body),
    "export": lambda case: capture(case.body, example_inputs(), frontend="export"),
    "make_fx": lambda case: capture(case.body, example_inputs(), frontend="make_fx"),
    "built": lambda case: build_case(case.body),
}


def _captured_by_dynamo(body: Body) -> GraphModule:
    with _regions_called_once():
        return capture(body, example_inputs(), frontend="dynamo")


def _regions_called_once() -> AbstractContextManager[Any]:
    """Dynamo of newer torch releases writes out a region that is called once, unless told otherwise."""
    option, config = "inline_single_use_invoke_subgraph", torch._dynamo.config
    return config.patch({option: False}) if hasattr(config, option) else nullcontext()


@contextmanager
def process_group() -> Iterator[None]:
    """A group of two ranks that never talk."""
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _run_pass(case: Case, module: GraphModule) -> tuple[GraphModule, tuple[SiteReport, ...]]:
    if case.pass_name == DEDUP:
        return _deduplicated(module), ()
    if case.options.get("shrink_inputs"):
        return _shrunk(case, module)
    result = check_prune(module, example_inputs(), policy=case.policy, **case.options)
    return result.graph_module, result.report.sites


def _deduplicated(module: GraphModule) -> GraphModule:
    dedup = DedupPrefixCache()
    result = dedup(module)
    dedup.verify(module, result)
    assert_same_behaviour(module, result.graph_module, example_inputs())
    assert not dedup(result.graph_module).modified
    return result.graph_module


def _shrunk(case: Case, module: GraphModule) -> tuple[GraphModule, tuple[SiteReport, ...]]:
    """What `check_prune` checks, of a run that may drop inputs."""
    code = module.code
    result = PrunePrefixCache(policy=case.policy, **case.options)(module)
    assert module.code == code
    verify_prune(module, result.graph_module, result.report)
    assert result.input_map is not None
    found = result.graph_module(*result.input_map.select(example_inputs()))
    torch.testing.assert_close(found, module(*example_inputs()), rtol=0, atol=0, equal_nan=True)
    return result.graph_module, result.report.sites


def _is_sound(before: GraphModule, after: GraphModule) -> bool:
    """Whether it computes and writes the same, on the example inputs, and sends and asserts as much."""
    if _effects(before) != _effects(after):
        return False
    try:
        assert_same_behaviour(before, after, example_inputs())
    except AssertionError:
        return False
    return True


def _effects(module: GraphModule) -> Counter[str]:
    targets = (str(node.target) for node in module.graph.nodes if node.op == "call_function")
    return Counter(target for target in targets if target.startswith(("_c10d_functional.", "aten._assert_async")))
