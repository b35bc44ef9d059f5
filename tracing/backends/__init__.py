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
BACKENDS: Mapping[str, Backend] = MappingProxyType(
    {backend.name: backend for backend in (TorchNeuronxBackend(), NeuronxCcBackend(), HloBackend())}
)


def get_backend(name: str = "auto", *, have_weights: bool = True) -> Backend:
    """The backend of that name, or for `auto` the best one that is installed and can do with the weights there are.

    Raises DeadkvError for a name that is not in BACKENDS, and with the install line for one that is not installed.
    """
    if name == "auto":
        return _best_available(have_weights)
    if name not in BACKENDS:
        raise DeadkvError(f"unknown backend {name!r}: choose one of auto, {', '.join(BACKENDS)}")
    backend = BACKENDS[name]
    if not backend.can_run():
        raise DeadkvError(f"backend {name!r} is not installed: {backend.install_hint}")
    return backend


def _best_available(have_weights: bool) -> Backend:
    for backend in BACKENDS.values():
        if backend.available() and (have_weights or not backend.needs_weights):
            return backend
    raise DeadkvError(f"no backend is installed: {BACKENDS['hlo'].install_hint}")
