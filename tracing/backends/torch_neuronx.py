"""`torch_neuronx.trace` as a backend: the XLA-era route of the Neuron SDK, on a machine that has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from passes.errors import DeadkvError
from tracing.backends.base import BackendRequest, BackendResult
from tracing.backends.command import compile_options
from tracing.backends.inlining import inline_kernels
from tracing.backends.kernels import refuse_newer_kernels
from tracing.backends.neuron_trace import INSTALL_HINT, PACKAGE, parameter_aliases, require_values, run_trace
from tracing.backends.packages import installed
from tracing.backends.targets import get_target

TRACED_FILE, WORK_DIR = "after.pt", "compiler_workdir"


class TorchNeuronxBackend:
    """Traces the `after` graph with its real weights and saves the TorchScript module that holds the NEFF."""

    name = "torch-neuronx"
    install_hint = INSTALL_HINT
    needs_weights = True
    can_dry_run = False

    def available(self) -> bool:
        return installed(PACKAGE)

    def can_run(self) -> bool:
        return self.available()

    def run(self, request: BackendRequest) -> BackendResult:
        """Write `after.pt` and the compiler's own files under `compiler_workdir`. The request's timeout does not apply.

        Attention is plain torch on every target: torch_neuronx would run the Python implementation of the custom op,
        in which torch_xla 2.9 loses views (tracing/backends/xla/rewrites.py).

        Raises DeadkvError for weights or inputs without values, an alias that names no parameter, and a compiler error.
        """
        if not self.available():
            raise DeadkvError(f"backend {self.name!r} is not installed: {self.install_hint}")
        refuse_newer_kernels(request.after, get_target(request.target))
        module = inline_kernels(request.after, target=None)
        examples = request.named_inputs()
        inputs = {str(node.target): examples[str(node.target)] for node in module.graph.find_nodes(op="placeholder")}
        require_values(inputs)
        arguments = compile_options(request.target, request.compiler_args)
        request.progress(f"torch-neuronx: tracing and compiling ({' '.join(arguments)})")
        options = {
            "input_output_aliases": parameter_aliases(module, request.aliases),
            "compiler_workdir": str(request.out_dir / WORK_DIR),
            "compiler_args": list(arguments),
            "inline_weights_to_neff": False,
        }
        traced = run_trace(module, tuple(inputs.values()), options)
        _save(traced, request.out_dir / TRACED_FILE)
        return BackendResult(self.name, (TRACED_FILE,), None, None, None, f"compiled to {TRACED_FILE}")


def _save(traced: Any, path: Path) -> None:
    """TorchScript's writer reports a full disk as a RuntimeError."""
    try:
        traced.save(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[0]
        raise DeadkvError(f"cannot write {path.name}: {reason}; check the space of the output folder's disk") from error
