"""The Neuron compiler's command line: HLO in, NEFF out. It runs on any x86 host; no device is needed."""

from __future__ import annotations

import shutil
import signal
import tempfile
from pathlib import Path

from passes.errors import DeadkvError
from tracing.backends.base import BackendRequest, BackendResult
from tracing.backends.command import COMMAND_FILE, COMPILER, COMPILER_LOG, HLO_FILE, NEFF_FILE
from tracing.backends.compiler_output import LAST_LINES, one_line
from tracing.backends.hlo import HloBackend
from tracing.backends.process import ProcessStartError, ProcessTimeoutError, run_logged

OUTPUT_LOG = "neuronx-cc.output.txt"
_FULL_BELOW = 1 << 20  # bytes
# Why the kernel, and not the compiler, ends the process (torch-neuronx explains the same three).
_SIGNALS: dict[int, str] = {
    signal.SIGKILL: "the system killed it, usually because memory ran out: use a host with more memory",
    signal.SIGABRT: "it aborted on an internal check: report it to the Neuron team with the log",
    signal.SIGSEGV: "it crashed: report it to the Neuron team with the log",
}


class NeuronxCcBackend:
    """Writes the HLO through the hlo backend and compiles the `after` graph where `neuronx-cc` is on the PATH."""

    name = "neuronx-cc"
    install_hint = (
        "install neuronx-cc from the Neuron package index (https://pip.repos.neuron.amazonaws.com); "
        "the HLO needs pip install 'deadkv[hlo]'"
    )
    needs_weights = False
    can_dry_run = True

    def available(self) -> bool:
        return self.can_run() and shutil.which(COMPILER) is not None

    def can_run(self) -> bool:
        return HloBackend().available()

    def run(self, request: BackendRequest) -> BackendResult:
        """Write what the hlo backend writes, then `after.neff` and the compiler's output.

        Where the compiler is not installed, and in a dry run, the command is all that is written beside the HLO.

        Raises DeadkvError for a graph with a kernel stand-in or a kernel that the target's cores do not run, a compiler
        that fails, and one that runs out of time.
        """
        written = HloBackend().run(request)
        if written.command is None:
            raise DeadkvError(
                f"{written.message} for {request.target}: choose --backend hlo to look at the graph, or --target inf2, "
                "where attention is plain HLO"
            )
        if request.dry_run or not self.available():
            reason = "dry run" if request.dry_run else f"{COMPILER} is not on the PATH"
            message = f"{reason}: run the command in {written.artefacts[-1]} where the compiler is"
            return BackendResult(self.name, written.artefacts, written.command, None, None, message)
        return _compiled(request, written)


def _compiled(request: BackendRequest, written: BackendResult) -> BackendResult:
    command, folder = written.command or (), request.out_dir
    try:
        code, tail = run_logged(command, folder, folder / OUTPUT_LOG, request.log, request.timeout_s, keep=LAST_LINES)
    except ProcessTimeoutError as error:
        reason = f"did not end within {request.timeout_s:g} s and was stopped; allow more with --timeout"
        raise DeadkvError(f"{COMPILER} {reason}; {_kept(folder)}") from error
    except ProcessStartError as error:
        raise DeadkvError(f"{COMPILER} cannot be started: {error}; check the installation on the PATH") from error
    if code != 0:
        raise DeadkvError(f"{COMPILER} {_failure(code, tail)}{_full_disk(folder)}; {_kept(folder)}")
    if not (folder / NEFF_FILE).is_file():
        raise DeadkvError(f"{COMPILER} reported success but wrote no {NEFF_FILE}; {_kept(folder)}")
    logs = [name for name in (OUTPUT_LOG, COMPILER_LOG) if (folder / name).is_file()]
    artefacts = (*written.artefacts, NEFF_FILE, *logs)
    return BackendResult("neuronx-cc", artefacts, command, code, OUTPUT_LOG, f"compiled {HLO_FILE} to {NEFF_FILE}")


def _failure(code: int, tail: tuple[str, ...]) -> str:
    reason = f"ended by signal {-code}" if code < 0 else f"failed with exit code {code}"
    explanation = f" ({_SIGNALS[-code]})" if -code in _SIGNALS else ""
    return f"{reason}{explanation}; its last lines: {one_line(tail)}"


def _full_disk(folder: Path) -> str:
    free = shutil.disk_usage(folder).free
    return f"; the disk of {folder.parent.parent} is full" if free < _FULL_BELOW else ""


def _kept(folder: Path) -> str:
    """Copies what a failure is studied with to a folder that outlives the output folder, and says where it is."""
    try:
        kept = Path(tempfile.mkdtemp(prefix="deadkv-neuronx-cc-"))
        for name in (OUTPUT_LOG, COMPILER_LOG, COMMAND_FILE, HLO_FILE):
            if (folder / name).is_file():
                shutil.copy(folder / name, kept)
    except OSError as error:
        return f"its log could not be kept ({error.strerror})"
    return f"log, command and HLO are kept in {kept}"
