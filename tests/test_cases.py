"""The case table: every row, form and twin on every capture level, against plain dead-code elimination."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor
from torch.fx import GraphModule

from tests.cases.table import CASES, Case
from tests.support.prunes import after_plain_dce, check_prune, gathers_left
from tracing import capture


def example_inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 2, 16, 8, generator=generator)
    pool = torch.randn(10, 4, 2, 8, generator=generator)
    pool[5, 1, 1, 3] = torch.nan
    table = torch.randperm(9, generator=generator)[:4].repeat(3, 1).to(torch.int32)
    return x, pool, table


CAPTURE: Mapping[str, Callable[[Case], GraphModule]] = {
    "fx": lambda case: torch.fx.symbolic_trace(case.body),
    "dynamo": lambda case: capture(case.body, example_inputs(), frontend="dynamo"),
    "export": lambda case: capture(case.body, example_inputs(), frontend="export"),
    "make_fx": lambda case: capture(case.body, example_inputs(), frontend="make_fx"),
}


@pytest.mark.parametrize(
    ("case", "level"), [pytest.param(case, level, id=f"{case.id}-{level}") for case in CASES for level in case.levels]
)
def test_case(case: Case, level: str) -> None:
    module = CAPTURE[level](case)
    goes = case.goes and not (case.static and level == "fx")
    assert gathers_left(module) == 1
    assert gathers_left(after_plain_dce(module)) == expected_of_plain_dce(case, level)
    result = check_prune(module, example_inputs(), policy=case.policy)
    (site,) = result.report.sites
    assert site.status == ("pruned" if goes else "kept" if case.policy == "conservative" else "live")
    assert gathers_left(result.graph_module) == (0 if goes else 1)
    assert bool(site.pinned_by) == (site.status == "live")
    assert site.reason


def expected_of_plain_dce(case: Case, level: str) -> int:
    return case.plain.get(level, case.plain.get("*", 0 if case.goes else 1))


def test_every_row_has_a_case_that_goes_and_a_twin_that_stays() -> None:
    rows = {case.row for case in CASES}
    for row in rows:
        assert any(not case.goes for case in CASES if case.row == row), row
    assert {case.row for case in CASES if case.goes} == rows
