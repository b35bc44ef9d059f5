"""Stand-ins for NxD: `ModelBuilder` V1 with `BaseModelInstance`, and the functional API V2.

They follow neuronx_distributed 0.18 (trace/model_builder.py, trace/functions.py) as far as a model instance or a model
can tell the difference: what is called, with which arguments, and what is checked.
"""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tests.support.fakes.torch_neuronx import HloArtifacts, generate_hlo


class BaseModelInstance:
    """As NxD's: makes a module, and gives it out once a bucket with the aliases of its states."""

    def __init__(self, module_cls: Callable[[], nn.Module], input_output_aliases: Any) -> None:
        self.module_cls = module_cls
        self.input_output_aliases = input_output_aliases
        self.module: Any = None

    def load_module(self) -> None:
        self.module = self.module_cls()

    def get(self, bucket_rank: int | None, **kwargs: Any) -> tuple[nn.Module, Mapping[Any, int]]:
        return self.module, self.input_output_aliases


@dataclass
class Submodel:
    """What was added under a key."""

    model_instance: Any
    example_inputs: list[tuple[Tensor, ...]]
    bucket_config: Any
    compiler_args: Any
    priority_model_idx: int | None


@dataclass
class ModelBuilder:
    """The V1 builder. `trace` returns what was traced, by key and bucket; weights are sharded from the first key."""

    router: Any
    tp_degree: int
    checkpoint_loader: Callable[[], Mapping[str, Tensor]]
    start_rank_id: int = 0
    pp_degree: int = 1
    ep_degree: int = 1
    local_ranks_size: int | None = None
    world_size: int | None = None
    compiler_workdir: str | None = None
    debug: bool = False
    logical_nc_config: int = 1
    submodels: dict[str, Submodel] = field(default_factory=dict, init=False)

    def add(
        self,
        key: str,
        model_instance: Any,
        example_inputs: list[tuple[Tensor, ...]],
        compiler_args: str | None = None,
        bucket_config: Any = None,
        priority_model_idx: int | None = None,
    ) -> ModelBuilder:
        assert all(isinstance(inputs, tuple) for inputs in example_inputs), "a tuple of tensors a bucket"
        self.submodels[key] = Submodel(model_instance, example_inputs, bucket_config, compiler_args, priority_model_idx)
        return self

    def trace(
        self, initialize_model_weights: bool = True, dry_run: bool = False, disable_fail_fast: bool = False
    ) -> dict[str, list[HloArtifacts]]:
        return {key: self._generate_hlo(key) for key in self.submodels}

    def _generate_hlo(self, key: str) -> list[HloArtifacts]:
        submodel = self.submodels[key]
        submodel.model_instance.load_module()
        several = len(submodel.example_inputs) > 1
        made: list[HloArtifacts] = []
        for rank, inputs in enumerate(submodel.example_inputs):
            func, aliases = submodel.model_instance.get(rank)
            assert isinstance(func, nn.Module)
            made.append(
                generate_hlo(
                    func,
                    inputs,
                    aliases,
                    inline_weights_to_neff=False,
                    return_weights=False,
                    output_aliased_tensor=False,
                    cpu_backend=True,
                    preserve_parameters=several,
                )
            )
        return made

    def shard_checkpoint(self, supported: tuple[type[nn.Module], ...] = (nn.Linear, nn.Embedding)) -> dict[str, Tensor]:
        """The weights of the first key's module, on meta: those it names, and of those the layers that are split."""
        instance = next(iter(self.submodels.values())).model_instance
        with torch.device("meta"):
            instance.load_module()
            model, _ = instance.get(0)
        checkpoint = dict(self.checkpoint_loader())
        split = [f"{name}.weight" for name, module in model.named_modules() if isinstance(module, supported)]
        assert split, "there is no layer to split: the module has none of the sharded classes"
        return {name: checkpoint[name] for name in model.state_dict() if name in checkpoint}


@dataclass(frozen=True)
class TraceArtifacts:
    """What the V2 `trace` returns, as far as a caller reads it."""

    hlo: HloArtifacts
    weight_name_to_idx: dict[str, int]
    provided_args: tuple[str, ...]
    model_params: tuple[str, ...]


def trace(
    model: Any,
    args: tuple[Tensor, ...] | Tensor | None = None,
    kwargs: dict[str, Tensor] | None = None,
    spmd: bool = True,
    preserve_parameters: bool = True,
    weights_to_skip_layout_optimization: set[str] | None = None,
) -> TraceArtifacts:
    """`neuronx_distributed.trace.functions.trace`: explicit parameter names, tensors only, automatic aliases."""
    if not spmd:
        raise NotImplementedError("MPMD tracing is not currently supported")
    given = _named(model, (args,) if isinstance(args, Tensor) else args or (), kwargs or {})
    made = generate_hlo(
        model,
        given,
        inline_weights_to_neff=False,
        return_weights=False,
        cpu_backend=True,
        preserve_parameters=preserve_parameters,
        enable_aliasing=True,
        treat_inputs_as_kwargs=True,
    )
    names = tuple(name for name, _ in model.named_parameters())
    return TraceArtifacts(made, made.weight_name_to_idx, tuple(given), names)


def _named(model: Any, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    parameters = inspect.signature(model.forward if isinstance(model, nn.Module) else model).parameters
    if not parameters:
        raise ValueError("the model must take at least one input")
    for parameter in parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise NotImplementedError("*args and **kwargs are not supported: name every input")
        if parameter.default not in (parameter.empty, None):
            raise ValueError(f"default of {parameter.name} must be None")
    given = OrderedDict([*zip(parameters, args, strict=False), *kwargs.items()])
    for name, parameter in parameters.items():
        if name not in given and parameter.default is parameter.empty:
            raise ValueError(f"input {name} is missing")
        if name in given and not isinstance(given[name], Tensor):
            raise ValueError(f"input {name} must be a tensor")
    assert set(given) <= set(parameters), "an input that forward does not take"
    return given
