"""The tools that are compared. Nothing is imported before one is asked for."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from typing import Any

HERE = "tests.bench.capability"


@dataclass(frozen=True)
class Peer:
    """One tool.

    Attributes:
        key: its row.
        title: its column.
        function: `module:function` below this package, from a Subject to an Outcome.
        package: the distribution that it comes from.
        install: how to get that, if it is none that deadkv depends on.
        runs: whether its result is run, to see whether it is right.
    """

    key: str
    title: str
    function: str
    package: str
    install: str = "pip install 'deadkv[bench]'"
    runs: bool = True

    def version(self) -> str | None:
        """Of the package; None if it is not installed."""
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None

    def load(self) -> Callable[[Any], Any]:
        """The function."""
        found: Callable[[Any], Any] = pkgutil.resolve_name(f"{HERE}.{self.function}")
        return found


PEERS = (
    Peer("deadkv", "deadkv", "torch_peers:deadkv", "deadkv"),
    Peer("fx-dce", "FX DCE", "torch_peers:eliminate_dead_code", "torch"),
    Peer("fx-cse", "FX CSE", "torch_peers:common_subexpressions", "torch"),
    Peer("functionalize", "functionalize + DCE", "torch_peers:functionalized", "torch"),
    Peer("export", "export + decompositions", "torch_peers:exported", "torch"),
    Peer("aot", "AOTAutograd", "torch_peers:aot_autograd", "torch"),
    Peer("inductor", "Inductor post-grad", "torch_peers:inductor", "torch"),
    Peer("jax-dce", "JAX DCE", "jax_peers:jax_dce", "jax"),
    Peer("xla-cpu", "XLA:CPU", "jax_peers:xla_cpu", "jaxlib"),
    Peer("torch-mlir", "torch-mlir", "export_peers:torch_mlir", "torch-mlir", runs=False),
    Peer("onnxscript", "onnxscript", "export_peers:onnxscript", "onnxscript", runs=False),
    Peer("iree", "IREE", "jax_peers:iree", "iree-base-compiler", runs=False),
    Peer("torch-xla", "torch_xla", "xla_peer:torch_xla", "torch-xla", "pip install 'deadkv[xla]' (torch 2.9)", False),
)
BY_KEY = {peer.key: peer for peer in PEERS}
