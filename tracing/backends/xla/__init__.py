"""The HLO that stock torch_xla makes of a graph: the lowering that torch_neuronx.trace is built on, without a device.

Each graph is lowered in a process of its own, since LoweringContext numbers what it meets from counters of the process.
This process imports neither torch_xla nor, until it is needed, protobuf.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from passes.errors import DeadkvError
from tracing.backends.base import BackendRequest, BackendResult
from tracing.backends.command import HLO_FILE, neuronx_cc_command, write_command
from tracing.backends.kernels import refuse_newer_kernels
from tracing.backends.packages import installed
from tracing.backends.process import ProcessTimeoutError, run_logged
from tracing.backends.targets import get_target
from tracing.backends.xla.job import ERROR_FILE, GRAPH_FILE, MODULE_FILE, Facts, Job, Spec

PARAMETERS_FILE = "parameters.json"
_LOG_FILE, _LAST_LINES = "log", 5
_PACKAGES = ("torch_xla", "google.protobuf")
# Source locations in the HLO would differ between two graphs that compute the same; no device is used.
_ENVIRONMENT = {"PJRT_DEVICE": "CPU", "XLA_IR_DEBUG": "0", "XLA_HLO_DEBUG": "0"}


class TorchXlaBackend:
    """Writes the HLO of both graphs as torch_xla lowers them, and the command line that would compile the second."""

    name = "torch-xla"
    install_hint = "pip install 'deadkv[xla]' with torch 2.9 (torch_xla has no release for later ones)"
    needs_weights = False
    can_dry_run = True

    def available(self) -> bool:
        return all(installed(package) for package in _PACKAGES)

    def can_run(self) -> bool:
        return self.available()

    def run(self, request: BackendRequest) -> BackendResult:
        """Write `before.hlo.pb`, `after.hlo.pb`, `parameters.json` and `command.txt`.

        There is no command where the HLO holds a stand-in for a kernel, which no compiler takes. Raises DeadkvError for
        an op without an XLA lowering, an alias that does not fit, an unknown target or a missing package.
        """
        if not self.available():
            raise DeadkvError(f"backend {self.name!r} is not installed: {self.install_hint}")
        from tracing.backends.hlo.proto import kernel_stand_ins

        refuse_newer_kernels(request.after, get_target(request.target))
        command = neuronx_cc_command(request.target, request.compiler_args)
        found = {"before": _lowered(request, "before")}
        found["after"] = found["before"] if request.after is request.before else _lowered(request, "after")
        for role, (module, _) in found.items():
            (request.out_dir / f"{role}.hlo.pb").write_bytes(module)
        described = {role: description for role, (_, description) in found.items()}
        _write_parameters(described, request.out_dir / PARAMETERS_FILE)
        artefacts: tuple[str, ...] = ("before.hlo.pb", "after.hlo.pb", PARAMETERS_FILE)
        stand_ins = kernel_stand_ins(found["after"][0])
        if stand_ins:
            message = f"{HLO_FILE} shows {stand_ins} kernel call(s) as stand-in custom calls and cannot be compiled"
            return BackendResult(self.name, artefacts, None, None, None, message)
        artefacts = (*artefacts, write_command(command, request.out_dir))
        return BackendResult(self.name, artefacts, command, None, None, _message(found["before"][0], found["after"][0]))


def _message(before: bytes, after: bytes) -> str:
    same = "both graphs lower to the same HLO" if before == after else f"HLO {len(before)} -> {len(after)} bytes"
    return f"{same}; compile it with the command"


def _lowered(request: BackendRequest, role: str) -> tuple[bytes, dict[str, Any]]:
    """The finished module of one graph, and what is written about it."""
    from tracing.backends.xla.module import all_aliases, finish, parameter_numbers

    graph = request.before if role == "before" else request.after
    request.progress(f"torch-xla: lowering {role} ({len(graph.graph.nodes)} nodes)")
    aliases = dict(reversed(request.aliases))  # HLO aliases a parameter to one output: the first
    raw, facts = _run(request, graph, aliases)
    numbers, aliased = parameter_numbers(facts), all_aliases(facts, aliases)
    description = {
        "lowering_context": {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()},
        "parameters": [
            {
                "number": numbers.get(held.spec.name),
                "kind": held.kind,
                **asdict(held.spec),
                "alias": aliased.get(held.spec.name),
            }
            for held in facts.held
        ],
        "outputs": [{"number": i, "shape": s.shape, "dtype": s.dtype} for i, s in enumerate(facts.outputs)],
    }
    return finish(raw, facts, aliases), description


def _write_parameters(described: Mapping[str, Any], path: Path) -> None:
    path.write_text(json.dumps({"version": 1, **described}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _run(request: BackendRequest, graph: GraphModule, aliases: Mapping[str, int]) -> tuple[bytes, Facts]:
    """What a process of its own lowers `graph` to."""
    from tracing.graph import document, dumps

    with tempfile.TemporaryDirectory(prefix="deadkv-torch-xla-") as name:
        folder = Path(name)
        (folder / GRAPH_FILE).write_text(dumps(document(graph)), encoding="utf-8")
        Job(request.target, _inputs(request, graph), tuple(aliases)).write(folder)
        _lower_in_process(request, folder)
        return (folder / MODULE_FILE).read_bytes(), Facts.read(folder)


def _lower_in_process(request: BackendRequest, folder: Path) -> None:
    """Raises DeadkvError with what the process reports, or with its last lines if it dies."""
    command = (sys.executable, "-m", "tracing.backends.xla.lower", str(folder))
    environment = {**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        code, tail = run_logged(
            command, folder, folder / _LOG_FILE, lambda line: None, request.timeout_s,
            keep=_LAST_LINES, environment=environment,
        )  # fmt: skip
    except ProcessTimeoutError as error:
        raise DeadkvError(f"torch_xla did not lower the graph within {request.timeout_s:g} s: allow more") from error
    error_file = folder / ERROR_FILE
    if error_file.is_file():
        raise DeadkvError(error_file.read_text(encoding="utf-8"))
    if code != 0:
        raise DeadkvError(f"torch_xla failed with exit code {code}; its last lines: {' | '.join(tail) or 'none'}")


def _inputs(request: BackendRequest, graph: GraphModule) -> tuple[Spec | None, ...]:
    examples = request.named_inputs()
    names = [str(node.target) for node in graph.graph.find_nodes(op="placeholder")]
    return tuple(_spec(name, examples[name]) for name in names)


def _spec(name: str, value: object) -> Spec | None:
    if not isinstance(value, Tensor):
        return None
    if any(isinstance(size, torch.SymInt) for size in value.shape):
        raise DeadkvError(f"input {name!r} has the symbolic shape {tuple(value.shape)}: HLO needs a fixed one")
    return Spec(name, tuple(value.shape), str(value.dtype).removeprefix("torch."))
