"""Isolation: Dynamo remembers shapes across tests in one process, and then traces later ones as dynamic."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """Each test starts with an empty Dynamo cache."""
    torch._dynamo.reset()
    yield
