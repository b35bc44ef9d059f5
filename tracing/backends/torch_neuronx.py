"""`torch_neuronx.trace`: the XLA-era route of the Neuron SDK, on a machine that has it.

torch-neuronx is a closed wheel from Neuron's own index, so it is looked for at run time. The call follows its API
reference (api-torch-neuronx-trace): all options by keyword, aliases as {Parameter: output index}, and the module itself
rather than a lambda, because the aliases are looked up among its named parameters.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

from passes.errors import DeadkvError
from tracing.backends.base import BackendRequest, BackendResult
from tracing.backends.command import compile_options
from tracing.backends.inlining import inline_kernels
from tracing.backends.packages import installed
from tracing.backends.targets import get_target

TRACED_FILE, WORK_DIR = "after.pt", "compiler_workdir"


class TorchNeuronxBackend:
    """Traces the `after` graph with its real weights and saves the TorchScript module that holds the NEFF."""

    name = "torch-neuronx"
    install_hint = (
        "on a Neuron machine, pip install --extra-index-url https://pip.repos.neuron.amazonaws.com 'deadkv[neuron]'"
    )
    needs_weights = True

    def available(self) -> bool:
        return installed("torch_neuronx")

    def can_run(self) -> bool:
        return self.available()

    def run(self, request: BackendRequest) -> BackendResult:
        """Write `after.pt` and the compiler's own files under `compiler_workdir`. The request's timeout does not apply.

        Raises DeadkvError for weights or inputs without values, an alias that names no parameter, and a compiler error.
        """
        if not self.available():
            raise DeadkvError(f"backend {self.name!r} is not installed: {self.install_hint}")
        module = inline_kernels(request.after, get_target(request.target))
        examples = request.named_inputs()
        inputs = {str(node.target): examples[str(node.target)] for node in module.graph.find_nodes(op="placeholder")}
        _require_values({**dict(module.named_parameters()), **dict(module.named_buffers()), **inputs})
        options = compile_options(request.target, request.compiler_args)
        request.progress(f"torch-neuronx: tracing and compiling ({' '.join(options)})")
        trace = importlib.import_module("torch_neuronx").trace
        try:
            traced = trace(
                module,
                tuple(inputs.values()),
                input_output_aliases=_aliases(module, request.aliases),
                compiler_workdir=str(request.out_dir / WORK_DIR),
                compiler_args=list(options),
                inline_weights_to_neff=False,
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[0]
            raise DeadkvError(f"torch_neuronx.trace failed: {reason}") from error
        _save(traced, request.out_dir / TRACED_FILE)
        return BackendResult(self.name, (TRACED_FILE,), None, None, None, f"compiled to {TRACED_FILE}")


def _save(traced: Any, path: Path) -> None:
    """TorchScript's writer reports a full disk as a RuntimeError."""
    try:
        traced.save(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise DeadkvError(f"cannot write {path.name}: {reason}; check the space of the output folder's disk") from error


def _require_values(tensors: Mapping[str, Any]) -> None:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise DeadkvError(f"torch-neuronx takes tensors only, but input {name!r} is {tensor!r}")
        if tensor.is_meta or isinstance(tensor, FakeTensor):
            raise DeadkvError(f"torch-neuronx needs real tensors, but {name!r} has no values: load the weights first")


def _aliases(module: nn.Module, aliases: tuple[tuple[str, int], ...]) -> dict[nn.Parameter, int]:
    parameters = dict(module.named_parameters(remove_duplicate=False))
    for name, index in aliases:
        if name not in parameters:
            raise DeadkvError(f"alias {name!r} -> output {index}: the graph has no parameter of that name")
    return {parameters[name]: index for name, index in aliases}
