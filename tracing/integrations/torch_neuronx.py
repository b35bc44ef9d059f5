"""`torch_neuronx.trace` with the passes in front of it.

    traced = trace_with_passes(model, inputs, input_output_aliases={model.k_cache: 1}, compiler_args="--target inf2")

torch_neuronx is looked for when it is needed: it is a closed wheel from Neuron's own index.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn
from torch.fx.passes.infra.pass_base import PassBase

from passes import DeadkvError, PassPipeline
from tracing.backends.inlining import inline_kernels
from tracing.backends.neuron_trace import load_trace, parameter_aliases, require_values, run_trace
from tracing.integrations.pruned import prune_model

_NO_ALIASES: Mapping[nn.Parameter, int] = MappingProxyType({})


def trace_with_passes(
    func: Callable[..., Any],
    example_inputs: Tensor | tuple[Tensor, ...],
    *_: object,
    input_output_aliases: Mapping[nn.Parameter, int] = _NO_ALIASES,
    compiler_workdir: str | None = None,
    compiler_args: str | Sequence[str] | None = None,
    partitioner_config: Any = None,
    inline_weights_to_neff: bool = True,
    cpu_backend: bool = False,
    passes: Sequence[str | PassBase] = ("prune-prefix-cache",),
    frontend: str = "make_fx",
) -> Any:
    """Trace `func` as `torch_neuronx.trace` does, with the same keyword arguments, after the passes have run on it.

    What is traced is a module with the parameters of `func`, the same objects under the same names, and not a lambda
    over it; the aliases are keyed by those objects. A kernel of this project is plain torch in it.

    Args:
        func: a module with its weights, or a function of tensors.
        example_inputs: a tensor or a tuple of tensors; shapes and dtypes are frozen.
        input_output_aliases: `{parameter: output index}`; only a module has parameters to alias.
        compiler_workdir, compiler_args, partitioner_config, inline_weights_to_neff, cpu_backend: as there.
        passes: passes to run, as objects or as text such as `prune-prefix-cache{policy=liveness}`.
        frontend: how the graph is captured, "make_fx", "export" or "dynamo".

    Returns:
        What `torch_neuronx.trace` returns, a `torch.jit.ScriptModule`.

    Raises:
        DeadkvError: torch_neuronx is missing or too old, an argument cannot be used, the model cannot be captured, or
            the tracer or the compiler fails (with its last lines).
        PruneVerificationError: a pruned graph is not provably equivalent.
    """
    if _:
        raise DeadkvError("trace_with_passes takes the model and its inputs by position, everything else by keyword")
    options = {
        "compiler_workdir": compiler_workdir,
        "compiler_args": compiler_args,
        "partitioner_config": partitioner_config,
        "inline_weights_to_neff": inline_weights_to_neff,
        "cpu_backend": cpu_backend,
    }
    pipeline = PassPipeline(passes)
    load_trace(("input_output_aliases", *options))
    inputs = _as_tuple(example_inputs)
    pruned = prune_model(func, inputs, pipeline, frontend=frontend, aliases=input_output_aliases)
    module = inline_kernels(pruned, target=None)
    declared = set(input_output_aliases.values())
    named = [(name, index) for name, index in pruned.meta["capture"].aliases if index in declared]
    aliases = parameter_aliases(module, named)
    return run_trace(module, inputs, {"input_output_aliases": aliases, **options})


def _as_tuple(example_inputs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
    if not isinstance(inputs, tuple):
        raise DeadkvError(f"example_inputs is a {type(inputs).__name__}: give a tensor or a tuple of tensors")
    require_values({str(position): tensor for position, tensor in enumerate(inputs)})
    return inputs
