"""Helpers for tests of code that uses the passes.

from tracing.testing import assert_pruned, check_contract

def test_the_contract_of_my_attention() -> None:
    check_contract("mylib::attention", [{"x": torch.randn(4, 8), "prior": torch.randn(4, 8), "table": None}])

def test_no_live_bhsd_in_my_tkg_graph() -> None:
    assert_pruned(capture(model, example_inputs), ops={"aten.index_select.default": 0})
"""

from tracing.testing.contract_check import check_contract, examine_contract
from tracing.testing.flaws import ContractCheck, ContractViolation, Flaw
from tracing.testing.golden import GoldenMismatch, check_golden
from tracing.testing.pruned import NotPruned, Pruned, assert_pruned
from tracing.testing.sample_files import load_module, load_samples
from tracing.testing.samples import Sample

__all__ = [
    "ContractCheck",
    "ContractViolation",
    "Flaw",
    "GoldenMismatch",
    "NotPruned",
    "Pruned",
    "Sample",
    "assert_pruned",
    "check_contract",
    "check_golden",
    "examine_contract",
    "load_module",
    "load_samples",
]
