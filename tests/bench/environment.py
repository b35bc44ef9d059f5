"""On what a row was measured: machine, versions, and the sources of the pass and of the benchmark."""

from __future__ import annotations

import hashlib
import inspect
import os
import platform
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tests.bench.benchmark import Benchmark

ROOT = Path(__file__).parents[2]
PACKAGES = "torch jax jaxlib numpy onnx onnxscript torch-mlir iree-base-compiler iree-turbine torch-xla triton".split()
"""Those whose version may change a figure, in the order of the page."""


@dataclass(frozen=True)
class Environment:
    """A row is measured again where any of these differs.

    Attributes:
        cpu: model of the processor.
        cores: logical cores that this process may run on.
        memory_gb: physical memory in 10^9 bytes.
        system: operating system, architecture and C library.
        versions: of Python and of each installed package of PACKAGES.
        sources: SHA-256 of the sources of `passes`, `tracing` and of the benchmark's folder, 16 digits.
    """

    cpu: str
    cores: int
    memory_gb: int
    system: str
    versions: dict[str, str]
    sources: str

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self)


def environment(benchmark: Benchmark) -> Environment:
    """Of this process, for one benchmark."""
    return Environment(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        memory_gb=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        system=f"{platform.system()} {platform.machine()}, {' '.join(filter(None, platform.libc_ver()))}",
        versions=_versions(),
        sources=_sources(benchmark),
    )


def _cpu() -> str:
    listing = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*:\s*(.+)$", listing.read_text(), re.MULTILINE) if listing.exists() else None
    return named[1].strip() if named else platform.processor() or "unknown"


@cache
def _versions() -> dict[str, str]:
    installed = ((package, _version(package)) for package in PACKAGES)
    return {"python": platform.python_version(), **{package: found for package, found in installed if found}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _sources(benchmark: Benchmark) -> str:
    digest = hashlib.sha256()
    for path in _files(ROOT / "passes", ROOT / "tracing", Path(inspect.getfile(type(benchmark))).parent):
        digest.update(f"{path.relative_to(ROOT).as_posix()}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _files(*folders: Path) -> Iterable[Path]:
    """Sources, but for those that only say how rows are shown."""
    found = (path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".cc"))
    return sorted(path for path in found if path.name != "section.py")
