"""Isolation: Dynamo remembers shapes across tests in one process, and then traces later ones as dynamic."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch

from passes.registration import DEFAULT_CONTRACTS
from tests.support.commands import Run, run_deadkv


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """Each test starts with an empty Dynamo cache."""
    torch._dynamo.reset()
    yield


@pytest.fixture
def own_contracts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves only the project's own contracts registered: those of other tests' operators are local functions."""
    for name in ("by_op", "markers"):
        table = getattr(DEFAULT_CONTRACTS, name)
        monkeypatch.setattr(DEFAULT_CONTRACTS, name, {op: c for op, c in table.items() if op.startswith("deadkv::")})


@pytest.fixture
def deadkv(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one command in this process and returns its exit code."""
    return partial(run_deadkv, monkeypatch)
