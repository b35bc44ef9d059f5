"""The garbage collector during a capture: paused, and then as it was found."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from passes import DeadkvError
from tracing import capture
from tracing.collection import collection_paused


@pytest.fixture(autouse=True)
def collector() -> Iterator[None]:
    """Puts the process's collector back, whatever a test does."""
    was_enabled = gc.isenabled()
    gc.enable()
    yield
    (gc.enable if was_enabled else gc.disable)()


class Watching(nn.Module):
    """Notes whether the collector is on while it is traced."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(gc.isenabled())
        return x + 1


def test_no_collection_starts_while_a_model_is_traced() -> None:
    model = Watching()
    capture(model, (torch.zeros(2),))
    assert model.seen == [False]
    assert gc.isenabled()


def test_the_collector_goes_on_after_a_model_that_cannot_be_traced() -> None:
    with pytest.raises(DeadkvError):
        capture(lambda x: x.view(3), (torch.zeros(2),))
    assert gc.isenabled()


def test_a_collector_that_was_off_stays_off() -> None:
    gc.disable()
    with collection_paused():
        capture(Watching(), (torch.zeros(2),))
    assert not gc.isenabled()
