"""What lowering depends on beside the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tracing.backends.hlo.kernels import KernelReferences
from tracing.backends.kernels import KERNELS, Kernel, kernel_of
from tracing.backends.targets import Target


@dataclass(frozen=True)
class LoweringContext:
    """`kernels` is keyed by the op's qualified name; `references` carries traces over from one graph to the next."""

    target: Target
    kernels: Mapping[str, Kernel] = field(default_factory=lambda: KERNELS)
    references: KernelReferences = field(default_factory=KernelReferences)

    def kernel(self, op: Any) -> Kernel | None:
        return kernel_of(op, self.kernels)
