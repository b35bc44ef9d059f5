"""The case table: every row, form and twin on every capture level, against plain dead-code elimination."""

from __future__ import annotations

from pathlib import Path

import pytest

from passes.report import SiteReport
from tests.cases import CASES, Case
from tests.cases.case import PRUNE, ROWS
from tests.cases.counts import expected, torch_release
from tests.cases.measure import measure
from tests.cases.render import all_levels, markdown

DOCUMENT = Path(__file__).parent.parent / "docs" / "cases.md"


@pytest.mark.parametrize(
    ("case", "level"), [pytest.param(case, level, id=f"{case.id}-{level}") for case, level in all_levels()]
)
def test_case(case: Case, level: str) -> None:
    found = measure(case, level)
    assert found.counts == expected(case, level, torch_release())
    if case.pass_name == PRUNE:
        pruned = [site for site in found.sites if site.status == "pruned"]
        assert len(pruned) == case.before - case.left(level)
    for site in found.sites:
        check_site(site, case.policy)


def check_site(site: SiteReport, policy: str) -> None:
    assert site.status in ("pruned", "kept" if policy == "conservative" else "live")
    assert bool(site.pinned_by) == (site.status == "live")
    assert site.reason


@pytest.mark.parametrize("row", ROWS)
def test_every_row_has_three_forms_and_a_twin_that_stays(row: str) -> None:
    cases = [case for case in CASES if case.row == row]
    assert sum(case.goes and not case.is_twin for case in cases) >= 3
    assert any(case.is_twin and (not case.goes or case.after or row == "dead_inputs") for case in cases)


def test_every_case_is_in_a_row_and_has_an_id_of_its_own() -> None:
    assert {case.row for case in CASES} == ROWS.keys()
    ids = [f"{case.id}-{level}" for case, level in all_levels()]
    assert len(ids) == len(set(ids))


def test_the_document_is_what_the_table_says() -> None:
    assert DOCUMENT.read_text() == markdown(lambda case, level: expected(case, level, "2.13"), "2.13")
