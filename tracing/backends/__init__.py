"""The ways to hand a graph to a compiler, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from passes.errors import DeadkvError
from tracing.backends.base import TIME_LIMIT_S, Backend, BackendRequest, BackendResult
from tracing.backends.hlo import HloBackend
from tracing.backends.neuronx_cc import NeuronxCcBackend
from tracing.backends.targets import TARGETS, Target, get_target
from tracing.backends.torch_neuronx import TorchNeuronxBackend
from tracing.backends.xla import TorchXlaBackend

__all__ = [
    "BACKENDS",
    "TARGETS",
    "TIME_LIMIT_S",
    "Backend",
    "BackendRequest",
    "BackendResult",
    "Target",
    "get_backend",
    "get_target",
]

# In order of preference: `auto` takes the first that is installed.
_IN_ORDER: tuple[Backend, ...] = (TorchNeuronxBackend(), NeuronxCcBackend(), HloBackend(), TorchXlaBackend())
BACKENDS: Mapping[str, Backend] = MappingProxyType({backend.name: backend for backend in _IN_ORDER})


def get_backend(name: str = "auto", *, have_weights: bool = True, dry_run: bool = False) -> Backend:
    """The backend of that name, or for `auto` the best one that is installed and can do with the weights there are.

    A dry run needs no compiler: `auto` is then the one that writes the command for it.

    Raises DeadkvError for a name that is not in BACKENDS, with the install line for one that is not installed, and for
    one that cannot do without running the compiler in a dry run.
    """
    if name == "auto" and dry_run:
        name = NeuronxCcBackend.name
    if name == "auto":
        return _best_available(have_weights)
    if name not in BACKENDS:
        raise DeadkvError(f"unknown backend {name!r}: choose one of auto, {', '.join(BACKENDS)}")
    backend = BACKENDS[name]
    if not backend.can_run():
        raise DeadkvError(f"backend {name!r} is not installed: {backend.install_hint}")
    if dry_run and not backend.can_dry_run:
        raise DeadkvError(f"backend {name!r} compiles as it traces: choose --backend neuronx-cc for a dry run")
    return backend


def _best_available(have_weights: bool) -> Backend:
    for backend in BACKENDS.values():
        if backend.available() and (have_weights or not backend.needs_weights):
            return backend
    raise DeadkvError(f"no backend is installed: {BACKENDS['hlo'].install_hint}")
