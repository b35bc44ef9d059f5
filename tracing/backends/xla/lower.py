"""Lowers one graph with torch_xla: `python -m tracing.backends.xla.lower FOLDER`, once in the life of a process.

The graph runs on placeholders, XLA tensors without a buffer, so that neither inputs nor weights are allocated or read.
What it returns is lowered by LoweringContext, which keeps what the results depend on and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch_xla
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree
from torch_xla.core.xla_builder import create_placeholder_tensor

import tracing.decoder  # noqa: F401 - registers the operators of the reference decoder
from passes.errors import DeadkvError
from tracing.backends.inlining import inline_kernels
from tracing.backends.targets import get_target
from tracing.backends.xla.job import ERROR_FILE, GRAPH_FILE, MODULE_FILE, Constant, Facts, Held, Job, Spec
from tracing.backends.xla.rewrites import on_xla
from tracing.capture.memory import memory_of
from tracing.graph import graph_module, load

_NO_LOWERING = "it has no XLA lowering, and would run on the CPU in the middle of the graph"


def main(folder: Path) -> int:
    """Lower the job in `folder`: `module.pb` and `facts.json`, or `error` with one line. Returns the exit code."""
    try:
        module, facts = lower(graph_module(load(folder / GRAPH_FILE)), Job.read(folder))
    except DeadkvError as error:
        (folder / ERROR_FILE).write_text(str(error), encoding="utf-8")
        return 2
    (folder / MODULE_FILE).write_bytes(module)
    facts.write(folder)
    return 0


def lower(gm: GraphModule, job: Job) -> tuple[bytes, Facts]:
    """The serialized HloModuleProto as LoweringContext writes it, and what its parameters and outputs are.

    Raises DeadkvError, naming op and node, for one without a lowering, and for an output that is no tensor.
    """
    gm = inline_kernels(gm, get_target(job.target))
    held = [*_inputs(job.inputs), *_take_parameters(gm)]
    by_name = {item.spec.name: item for item in held}
    given = [None if spec is None else by_name[spec.name].working for spec in job.inputs]
    torch_xla._XLAC._set_allow_execution(False)
    with torch.no_grad():
        outputs = _Runner(on_xla(gm)).run(*given)
    results = [_result(index, value) for index, value in enumerate(pytree.tree_leaves(outputs))]
    written = [item for item in held if item.working._version and not set(item.names) & set(job.aliased)]
    results += [item.working for item in written]
    context = torch_xla._XLAC.lowering.LoweringContext()
    context.build(results)
    numbered = tuple(item.held(context.tensor_parameter_id(item.data)) for item in held)
    constants = tuple(_constants(context, {item.number for item in numbered}))
    facts = Facts(
        numbered,
        constants,
        tuple(_spec(str(index), result) for index, result in enumerate(results)),
        tuple(item.spec.name for item in written),
    )
    return context.hlo(), facts


@dataclass(frozen=True)
class _Placeholder:
    """An input or parameter: `data` stays what the caller passes, `working` is what the graph reads and writes."""

    spec: Spec
    kind: str
    names: tuple[str, ...]
    data: Tensor
    working: Tensor

    @classmethod
    def of(cls, spec: Spec, kind: str, names: Sequence[str]) -> _Placeholder:
        try:
            data = create_placeholder_tensor(spec.shape, getattr(torch, spec.dtype))
        except KeyError as error:
            raise DeadkvError(
                f"torch_xla has no placeholders of dtype {spec.dtype}, which {spec.name!r} has: choose --backend hlo"
            ) from error
        return cls(spec, kind, tuple(names), data, data.clone())

    def held(self, number: int) -> Held:
        return Held(self.spec, self.kind, number, self.names)


def _inputs(specs: Sequence[Spec | None]) -> Iterator[_Placeholder]:
    for spec in specs:
        if spec is not None:
            yield _Placeholder.of(spec, "input", (spec.name,))


def _take_parameters(gm: GraphModule) -> list[_Placeholder]:
    """Puts a placeholder in place of each parameter, one for all names of a tied one; sorted by first name."""
    names: dict[Any, list[str]] = {}
    parameters = dict(gm.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        names.setdefault(memory_of(parameter), []).append(name)
    made = [_Placeholder.of(_spec(tied[0], parameters[tied[0]]), "parameter", tied) for tied in names.values()]
    for item in made:
        for name in item.names:
            path, _, leaf = name.rpartition(".")
            owner = gm.get_submodule(path)
            del owner._parameters[leaf]
            owner.register_buffer(leaf, item.working)
    return sorted(made, key=lambda item: item.spec.name)


def _spec(name: str, tensor: Tensor) -> Spec:
    return Spec(name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))


def _result(index: int, value: object) -> Tensor:
    if not isinstance(value, Tensor):
        raise DeadkvError(f"output {index} of the graph is {value!r}, not a tensor: HLO returns tensors only")
    return value


def _constants(context: Any, known: set[int]) -> Iterator[Constant]:
    """The numbers among the parameters: torch_xla makes one of every Python number but 0 and 1."""
    for number, tensor in sorted(context.device_parameter_id_tensor_mapping().items()):
        if number not in known:
            yield Constant(number, str(tensor.dtype).removeprefix("torch."), tensor.cpu().item())


class _Runner(Interpreter):
    """Runs a graph, and says of an error at which node it happened."""

    def run_node(self, n: Node) -> Any:
        try:
            return super().run_node(n)
        except Exception as error:  # whatever the ops of someone else's graph raise
            said = next(iter(str(error).strip().splitlines()), type(error).__name__)
            reason = _NO_LOWERING if "Unexpected execution" in said else said
            raise DeadkvError(f"torch_xla cannot lower {n.target} (node {n.name}): {reason}") from error


if __name__ == "__main__":
    status = main(Path(sys.argv[1]))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # torch_xla's threads may outlive the interpreter and end it by a signal
