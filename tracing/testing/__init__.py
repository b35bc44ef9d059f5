"""Helpers for tests of code that uses the passes.

from tracing.testing import check_contract

def test_the_contract_of_my_attention() -> None:
    check_contract("mylib::attention", [{"x": torch.randn(4, 8), "prior": torch.randn(4, 8), "table": None}])
"""

from tracing.testing.contract_check import check_contract, examine_contract
from tracing.testing.flaws import ContractCheck, ContractViolation, Flaw
from tracing.testing.sample_files import load_module, load_samples
from tracing.testing.samples import Sample

__all__ = [
    "ContractCheck",
    "ContractViolation",
    "Flaw",
    "Sample",
    "check_contract",
    "examine_contract",
    "load_module",
    "load_samples",
]
