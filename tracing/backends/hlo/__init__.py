"""The embedded backend: an aten graph as StableHLO text and as the binary HLO module that the Neuron compiler takes.

This file, `execute` and `requirements` import without JAX and protobuf; the rest is imported when it is used.
"""

from __future__ import annotations

from tracing.backends.base import BackendRequest, BackendResult
from tracing.backends.command import HLO_FILE, neuronx_cc_command, write_command
from tracing.backends.hlo.requirements import INSTALL_HINT, missing_package, require_packages

__all__ = ["HloBackend"]


class HloBackend:
    """Writes the HLO of both graphs and the command line that would compile the second one."""

    name = "hlo"
    install_hint = INSTALL_HINT
    needs_weights = False
    can_dry_run = True

    def available(self) -> bool:
        return missing_package() is None

    def can_run(self) -> bool:
        return self.available()

    def run(self, request: BackendRequest) -> BackendResult:
        """Write `{before,after}.stablehlo.mlir`, `{before,after}.hlo.pb`, `parameters.json` and `command.txt`.

        There is no command where the HLO holds a stand-in for a kernel, which no compiler takes. Raises DeadkvError for
        an op without a lowering, an alias that does not fit, an unknown target or missing packages.
        """
        require_packages()
        from tracing.backends.hlo.artefacts import lower_request, write_artefacts
        from tracing.backends.hlo.proto import kernel_stand_ins

        command = neuronx_cc_command(request.target, request.compiler_args)
        lowered = lower_request(request)
        artefacts = write_artefacts(lowered, request.out_dir)
        stand_ins = kernel_stand_ins(lowered["after"].hlo)
        if stand_ins:
            message = f"{HLO_FILE} shows {stand_ins} kernel call(s) as stand-in custom calls and cannot be compiled"
            return BackendResult(self.name, artefacts, None, None, None, message)
        artefacts = (*artefacts, write_command(command, request.out_dir))
        return BackendResult(self.name, artefacts, command, None, None, "HLO written; compile it with the command")
