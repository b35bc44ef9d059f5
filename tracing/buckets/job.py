"""What there is to compile for each bucket, and what came of it. All of it can be sent to another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.fx.passes.infra.pass_base import PassBase

from tracing.backends import TIME_LIMIT_S


@dataclass(frozen=True)
class BucketModel:
    """The model of one bucket, with the example inputs and aliases that `compile_tkg` takes."""

    model: Callable[..., Any]
    example_inputs: Sequence[Tensor]
    aliases: Mapping[nn.Parameter, int] | None = None


@dataclass(frozen=True)
class Job:
    """How every bucket is compiled: `build` makes its model, the rest are options of `compile_tkg`."""

    build: Callable[[int], BucketModel]
    passes: tuple[str | PassBase, ...] = ("prune-prefix-cache",)
    backend: str = "auto"
    target: str = "inf2"
    frontend: str = "make_fx"
    compiler_args: tuple[str, ...] = ()
    timeout_s: float | None = TIME_LIMIT_S
    dry_run: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of one bucket.

    Attributes:
        bucket: its size in tokens.
        error: why it failed, in one line, or None.
        summary: the summary of its pruning report, or None where it failed or nothing was pruned.
        backend: what its backend wrote and ran, as JSON values, or None where it failed.
        worker: number of the process that compiled it.
        memory_bytes: resident memory of that process afterwards, or None where the system does not say.
    """

    bucket: int
    error: str | None
    summary: Mapping[str, int | None] | None = None
    backend: Mapping[str, Any] | None = None
    worker: int = 0
    memory_bytes: int | None = None


def bucket_folder(bucket: int) -> Path:
    """The folder of a bucket, relative to the output folder."""
    return Path(f"bucket-{bucket}")
