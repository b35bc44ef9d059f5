"""The verifier on nested graphs, markers and contracted operators: what may change with them, and what may not.

Every pruned graph here is made by hand, so that the verifier is tested without the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from torch.fx import GraphModule

from passes import PrunePrefixCache, PruneVerificationError, register_contract, register_marker, verify_prune
from passes.verify import correspondence, judgement
from tests.by_hand.calls import invoke_shared
from tests.by_hand.edits import Edit
from tests.by_hand.graphs import inputs
from tests.by_hand.markers import contracted, prune_contracted
from tests.by_hand.right import CASES, pruned
from tests.by_hand.tampers import TAMPERS
from tests.by_hand.wrong import WRONG
from tests.support.prunes import assert_same_behaviour
from tests.support.regions import node, sharing_copy

all_reduce = torch.ops._c10d_functional.all_reduce.default


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with ExitStack() as stack:
        for registration in (
            register_marker("verifylib::mark"),
            register_marker("verifylib::mark_pair"),
            register_contract("verifylib::fill", reads={"x"}),
        ):
            stack.callback(registration.remove)
        yield


@pytest.mark.parametrize("name", CASES)
def test_a_right_prune_is_accepted_and_runs_the_same(name: str) -> None:
    before, after = pruned(name)
    verify_prune(before, after)
    extra = (torch.tensor(0),) if name == "while_loop" else ()
    assert_same_behaviour(before, after, (*inputs(), *extra))


@pytest.mark.parametrize("name", CASES)
def test_a_graph_is_verified_against_itself(name: str) -> None:
    before = CASES[name].before()
    verify_prune(before, sharing_copy(before))


@pytest.mark.parametrize(
    ("name", "tamper", "message"), [pytest.param(c, t, m, id=f"{c}-{i}") for c, i, t, m in TAMPERS]
)
def test_a_wrong_prune_is_rejected(name: str, tamper: Edit, message: str) -> None:
    before, after = pruned(name)
    tamper(after)
    with pytest.raises(PruneVerificationError, match=message):
        verify_prune(before, after)


@pytest.mark.parametrize(("before", "prune", "message"), [pytest.param(*case[1:], id=case[0]) for case in WRONG])
def test_what_is_right_elsewhere_is_rejected_here(before: Callable[[], GraphModule], prune: Edit, message: str) -> None:
    module = before()
    after = sharing_copy(module)
    prune(after)
    with pytest.raises(PruneVerificationError, match=message):
        verify_prune(module, after)


def test_a_collective_stays_whatever_its_contract_says() -> None:
    before = contracted()
    with register_contract("_c10d_functional::all_reduce", reads={"input"}):
        reduced = node(before, "fill")
        reduced.target, reduced.args = all_reduce, (node(before, "permute"), "sum", "ranks")
        after = sharing_copy(before)
        prune_contracted(after)
        with pytest.raises(PruneVerificationError, match="%fill: it is a collective"):
            verify_prune(before, after)


def test_a_graph_is_judged_once_however_many_calls_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[GraphModule] = []

    def correspond(before: GraphModule, after: GraphModule, within: object) -> object:
        judged.append(before)
        return correspondence.correspond(before, after, within)  # type: ignore[arg-type]

    monkeypatch.setattr(judgement, "correspond", correspond)
    before, after = pruned("invoke_shared")
    verify_prune(before, after)
    assert judged == [before.region]


def test_the_report_of_the_pass_must_say_what_changed_in_regions() -> None:
    before = invoke_shared()
    result = PrunePrefixCache(policy="liveness")(before)
    report = result.report
    assert report.summary["gathers_after"] == 0 and len(report.regions) == 2
    verify_prune(before, result.graph_module, report)
    first = report.regions[0]
    for wrong, message in (
        (replace(report, regions=report.regions[1:]), "%invoke_subgraph: its graph region changed, but the report"),
        (replace(report, regions=(*report.regions, first)), "says that region changed with invoke_subgraph, but"),
        (replace(report, regions=(replace(first, operands=()), *report.regions[1:])), "wrong about the inputs"),
        (replace(report, regions=(replace(first, results=(1,)), *report.regions[1:])), "wrong about the results"),
        (replace(report, regions=(replace(first, becomes="else"), *report.regions[1:])), "wrong about the path"),
        (replace(report, regions=(replace(first, removed=()), *report.regions[1:])), "was removed, but the report"),
    ):
        with pytest.raises(PruneVerificationError, match=message):
            verify_prune(before, result.graph_module, wrong)
