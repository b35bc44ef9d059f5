"""What every test starts from: one thread, a young heap, and a Dynamo that has met no shape yet."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from functools import partial

import pytest
import torch
import torch._dynamo
from hypothesis import HealthCheck, settings

from passes.registration import DEFAULT_CONTRACTS
from tests.support.commands import Run, run_deadkv

# How long an example takes depends on the machine and its load.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


XLA_FLAGS = "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"


def pytest_configure() -> None:
    """One thread a process, as the workers share the cores; and XLA, whose programs run once here, optimizes little."""
    torch.set_num_threads(1)
    os.environ.update(OMP_NUM_THREADS="1", JAX_DISABLE_MOST_OPTIMIZATIONS="1", XLA_FLAGS=XLA_FLAGS)


@pytest.fixture(autouse=True, scope="session")
def quick_dynamo() -> Iterator[None]:
    """Dynamo does without what it ends each compilation with: a collection, and timing its guards on empty caches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch._dynamo.config, "run_gc_after_compile", False)
        patch.setattr("torch._dynamo.guards.profile_guard_manager", lambda *_: 0.0)
        yield


def pytest_collection_finish() -> None:
    """Tracing makes many small objects: the collector goes through them less often, and not through the imports."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000)


@pytest.fixture(autouse=True)
def fresh_dynamo() -> Iterator[None]:
    """Each test starts with an empty Dynamo cache: what it remembers of shapes makes later ones dynamic."""
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
