"""The call of `torch_neuronx.trace`, for the backend and for `trace_with_passes`.

torch-neuronx is a closed wheel from Neuron's own index, so it is looked for at run time. The call follows its API
reference (api-torch-neuronx-trace): all options by keyword, aliases as {Parameter: output index}, and the module itself
rather than a lambda, because the aliases are looked up among its named parameters.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from passes.errors import DeadkvError
from tracing.backends.command import COMPILER_LOG
from tracing.backends.compiler_output import LAST_LINES, one_line
from tracing.backends.packages import installed

PACKAGE = "torch_neuronx"
INSTALL_HINT = (
    "on a Neuron machine, pip install --extra-index-url https://pip.repos.neuron.amazonaws.com 'deadkv[neuron]'"
)
_UPGRADE = "pip install --upgrade --extra-index-url https://pip.repos.neuron.amazonaws.com torch-neuronx"


def load_trace(options: Iterable[str]) -> Callable[..., Any]:
    """`torch_neuronx.trace`.

    Raises DeadkvError, with the install line, where the package is missing, where it is the placeholder that public
    indices hold under that name, and where it is too old to take all of `options`.
    """
    if not installed(PACKAGE):
        raise DeadkvError(f"torch_neuronx is not installed: {INSTALL_HINT}")
    trace = getattr(importlib.import_module(PACKAGE), "trace", None)
    if trace is None:
        raise DeadkvError(
            f"torch_neuronx {_version()} has no trace: it is not the wheel of Neuron's index; {INSTALL_HINT}"
        )
    taken = inspect.signature(trace).parameters
    unknown = [name for name in options if name not in taken]
    if unknown and not any(parameter.kind is parameter.VAR_KEYWORD for parameter in taken.values()):
        raise DeadkvError(f"torch_neuronx {_version()} is too old: its trace takes no {', '.join(unknown)}; {_UPGRADE}")
    found: Callable[..., Any] = trace
    return found


def run_trace(module: nn.Module, inputs: tuple[Tensor, ...], options: Mapping[str, Any]) -> Any:
    """What `torch_neuronx.trace(module, inputs, **options)` returns.

    Raises DeadkvError for a missing or old package, for weights or inputs without values, and with the last lines of
    what the tracer or the compiler says when it fails.
    """
    trace = load_trace(options)
    require_values({**dict(module.named_parameters()), **dict(module.named_buffers())})
    try:
        return trace(module, inputs, **options)
    except Exception as error:  # torch_neuronx documents none of what it raises
        raise DeadkvError(f"torch_neuronx.trace failed: {_failure(error, options.get('compiler_workdir'))}") from error


def require_values(tensors: Mapping[str, Any]) -> None:
    """Raises DeadkvError for anything but a tensor with values."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise DeadkvError(f"torch_neuronx.trace takes tensors only, but input {name!r} is {tensor!r}")
        if tensor.is_meta or isinstance(tensor, FakeTensor):
            raise DeadkvError(
                f"torch_neuronx.trace needs real tensors, but {name!r} has no values: load the weights first"
            )


def parameter_aliases(module: nn.Module, aliases: Iterable[tuple[str, int]]) -> dict[nn.Parameter, int]:
    """`{parameter of module: output index}` for aliases by name.

    Raises DeadkvError for a name that is not a parameter: torch_neuronx looks the keys up by storage among
    `named_parameters()`.
    """
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, index in aliases:
        if name not in parameters:
            raise DeadkvError(f"alias {name!r} -> output {index}: the graph has no parameter of that name")
    return {parameters[name]: index for name, index in aliases}


def _failure(error: Exception, workdir: str | Path | None) -> str:
    said = (str(error) or type(error).__name__).strip().splitlines()
    log = Path(workdir) / COMPILER_LOG if workdir is not None else None
    if log is None or not log.is_file():
        return one_line(said[-LAST_LINES:])
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return f"{one_line(said[-LAST_LINES:])}; last lines of {log}: {one_line(lines[-LAST_LINES:])}"


def _version() -> str:
    try:
        return metadata.version("torch-neuronx")
    except metadata.PackageNotFoundError:
        return "(version unknown)"
