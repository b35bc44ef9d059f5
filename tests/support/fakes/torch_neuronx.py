"""A stand-in for `torch_neuronx`: `trace` by its API reference, `xla_impl.trace.generate_hlo` as NxD calls it.

Nothing is compiled. A traced module runs once, as the real tracer runs it once on lazy tensors, and what a compiler
would have been given is recorded.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree


@dataclass
class Traced:
    """The ScriptModule: it runs what was traced, with the weights it was traced with."""

    func: Any
    inputs: tuple[Tensor, ...]
    outputs: Any
    aliases: dict[Any, int]
    options: dict[str, Any]

    def __call__(self, *inputs: Tensor) -> Any:
        assert [(t.shape, t.dtype) for t in inputs] == [(t.shape, t.dtype) for t in self.inputs], "shapes are frozen"
        with torch.no_grad():
            return self.func(*inputs)

    def save(self, path: str) -> None:
        Path(path).write_bytes(b"TorchScript")


@dataclass
class Calls:
    """What the stand-in was called with, in order."""

    traced: list[Traced] = field(default_factory=list)


def _trace(calls: Calls) -> Any:
    def trace(
        func: Any,
        example_inputs: Any,
        *_: Any,
        input_output_aliases: Any = {},  # noqa: B006 - the documented signature
        compiler_workdir: str | None = None,
        compiler_args: str | list[str] | None = None,
        partitioner_config: Any = None,
        inline_weights_to_neff: bool = True,
        cpu_backend: bool = False,
    ) -> Traced:
        assert not _, "all options are keyword-only"
        inputs = (example_inputs,) if isinstance(example_inputs, Tensor) else example_inputs
        assert isinstance(inputs, tuple) and all(type(t) is Tensor for t in inputs), "a tensor or a tuple of tensors"
        assert compiler_args is None or isinstance(compiler_args, str) or all(isinstance(a, str) for a in compiler_args)
        assert compiler_workdir is None or isinstance(compiler_workdir, str)
        assert not cpu_backend or "--target" in str(compiler_args), "without a device the target must be given"
        with torch.no_grad():
            outputs = func(*inputs)
        check_aliases(func, input_output_aliases, outputs)
        options = {
            "compiler_workdir": compiler_workdir,
            "compiler_args": compiler_args,
            "partitioner_config": partitioner_config,
            "inline_weights_to_neff": inline_weights_to_neff,
            "cpu_backend": cpu_backend,
        }
        calls.traced.append(Traced(func, inputs, outputs, dict(input_output_aliases), options))
        return calls.traced[-1]

    return trace


def check_aliases(func: Any, aliases: Mapping[Any, int], outputs: Any) -> None:
    """As torch-neuronx 1.13 does it: each key is a named parameter of the module, by storage and by value."""
    if not aliases:
        return
    assert isinstance(func, nn.Module), "explicit aliases need a module"
    parameters = [parameter for _, parameter in func.named_parameters()]
    flat = pytree.tree_leaves(outputs)
    for state, index in aliases.items():
        same = [p for p in parameters if p.data_ptr() == state.data_ptr() and torch.equal(p, state)]
        assert same, f"the state aliased to output {index} is not a parameter of the traced module"
        assert type(index) is int and 0 <= index < len(flat), f"there is no output {index}"
        assert (flat[index].shape, flat[index].dtype) == (state.shape, state.dtype), f"output {index} does not fit"


@dataclass
class HloArtifacts:
    """What `generate_hlo` returns, as far as NxD reads it."""

    outputs: Any
    weight_name_to_idx: dict[str, int]
    aliases: dict[str, int]
    num_inputs: int


def generate_hlo(
    func: Any,
    example_inputs: Any,
    input_output_aliases: Mapping[Any, int] | None = None,
    *,
    inline_weights_to_neff: bool = True,
    return_weights: bool = True,
    output_aliased_tensor: bool = True,
    cpu_backend: bool = False,
    preserve_parameters: bool = True,
    enable_aliasing: bool = False,
    treat_inputs_as_kwargs: bool = False,
) -> HloArtifacts:
    """Runs `func` once and reads its parameters by name, and its aliases: those given, or those that it writes."""
    parameters = dict(func.named_parameters())
    versions = {name: parameter._version for name, parameter in parameters.items()}
    with torch.no_grad():
        outputs = func(**example_inputs) if treat_inputs_as_kwargs else func(*example_inputs)
    if input_output_aliases:
        check_aliases(func, input_output_aliases, outputs)
    names = {id(parameter): name for name, parameter in parameters.items()}
    aliases = {names[id(state)]: index for state, index in (input_output_aliases or {}).items()}
    if enable_aliasing:
        written = [name for name, parameter in parameters.items() if parameter._version != versions[name]]
        aliases |= {name: index for index, name in enumerate(written, start=len(pytree.tree_leaves(outputs)))}
    return HloArtifacts(outputs, {name: i for i, name in enumerate(parameters)}, aliases, len(example_inputs))


@contextlib.contextmanager
def installed(**replaced: Any) -> Iterator[Calls]:
    """The stand-in under the name `torch_neuronx`; `replaced` are attributes to be different, None to be missing."""
    calls = Calls()
    module = types.ModuleType("torch_neuronx")
    module.__spec__ = ModuleSpec("torch_neuronx", None)
    for name, value in {"trace": _trace(calls), **replaced}.items():
        if value is not None:
            setattr(module, name, value)
    before = sys.modules.get("torch_neuronx")
    sys.modules["torch_neuronx"] = module
    try:
        yield calls
    finally:
        del sys.modules["torch_neuronx"]
        if before is not None:
            sys.modules["torch_neuronx"] = before


def documented_keywords() -> set[str]:
    """The keyword arguments of `trace` by its API reference."""
    return {name for name, p in inspect.signature(_trace(Calls())).parameters.items() if p.kind is p.KEYWORD_ONLY}
