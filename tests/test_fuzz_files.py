"""Damaged and made-up graph files through all that deadkv does with a file: one line or a result, never a traceback.

The suite takes the same few each time. DEADKV_FUZZ_FILES=100000 takes so many, other ones each time or those of
--hypothesis-seed=N; -s shows the figures.
"""

from __future__ import annotations

import os
import resource
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.hostile import damaged, damaged_bytes, free_json, use
from tracing.graph.escape import json_text

ASKED = os.environ.get("DEADKV_FUZZ_FILES")
MAX_MEMORY_KB = 4 * 2**20
contents = st.one_of(damaged(), damaged(), damaged(), damaged_bytes(), free_json.map(json_text))


class Figures:
    """What became of the inputs, and what the worst of them took."""

    def __init__(self) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0

    def use(self, content: bytes | str) -> None:
        start = time.perf_counter()
        self.outcomes[use(content)] += 1
        self.slowest = max(self.slowest, time.perf_counter() - start)

    def peak_kb(self) -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module")
def figures() -> Iterator[Figures]:
    found = Figures()
    yield found
    print(f"\n{dict(found.outcomes)}, slowest {found.slowest:.1f} s, peak memory {found.peak_kb() // 1024} MB")


@settings(
    deadline=None,
    max_examples=int(ASKED or 200),
    derandomize=ASKED is None,
    database=None,
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
@given(content=contents)
def test_no_file_ends_in_a_traceback(figures: Figures, content: bytes | str) -> None:
    figures.use(content)
    assert figures.peak_kb() < MAX_MEMORY_KB
