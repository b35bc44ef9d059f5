"""What a torch release cannot do, and so no test of ours can ask of it."""

from __future__ import annotations

import pytest
import torch

from tracing.backends.packages import installed
from tracing.decoder import Variant

RELEASE = tuple(int(part) for part in torch.__version__.split(".")[:2])
DYNAMO_TRACES_SCAN = RELEASE >= (2, 13)  # it does in 2.13.0 and does not in 2.9.1

HAS_TORCH_XLA = installed("torch_xla")
needs_torch_xla = pytest.mark.skipif(
    not HAS_TORCH_XLA, reason="torch_xla has no release for this torch; `make torch29` runs these tests with 2.9"
)


def skip_what_torch_cannot_trace(variant: Variant, frontend: str) -> None:
    """Skips a test of a scan on Dynamo's frontend where Dynamo cannot trace the body; capture says so in one line."""
    if variant.scan and frontend == "dynamo" and not DYNAMO_TRACES_SCAN:
        pytest.skip(f"Dynamo in torch {torch.__version__} cannot trace the body of a scan over modules")
