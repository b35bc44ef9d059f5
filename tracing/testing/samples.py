"""Sample calls of an operator: given in Python, read from a JSON file, or those of this project's own operator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph
from torch.utils import _pytree as pytree

from passes.errors import DeadkvError
from passes.ops.schema import Call, resolve
from passes.ops.signature import signature
from tracing.decoder.attention_samples import attention_samples


@dataclass(frozen=True)
class Sample:
    """Arguments of one call by name; what is left out has its default. `overload` is one of the operator's."""

    arguments: Mapping[str, Any]
    overload: str | None = None


OWN_SAMPLES = {"deadkv::attention_block_tkg": attention_samples}


def find_samples(
    op: str, samples: Sequence[Sample | Mapping[str, Any] | Sequence[Any]] | None
) -> list[tuple[OpOverload, Mapping[str, Any]]]:
    """The overload and the arguments of each sample. Raises DeadkvError for an unknown operator or without a sample."""
    name, _, wanted = op.partition(".")
    overloads = _overloads(name)
    if samples is None and name in OWN_SAMPLES:
        samples = [Sample(arguments, overload) for overload, arguments in OWN_SAMPLES[name]()]
    named = [_named(sample, overloads, wanted) for sample in samples or ()]
    found = [(overload, arguments) for overload, arguments in named if wanted in ("", overload._overloadname)]
    if not found:
        raise DeadkvError(f"{op}: there is no sample to check it on: give sample inputs")
    return found


def _overloads(name: str) -> dict[str, OpOverload]:
    namespace, _, base = name.partition("::")
    packet = (
        getattr(getattr(torch.ops, namespace), base, None) if namespace.isidentifier() and base.isidentifier() else None
    )
    if packet is None:
        raise DeadkvError(
            f"unknown operator {name!r}: load the module that defines it, and write it as namespace::name"
        )
    return {overload: getattr(packet, overload) for overload in packet.overloads()}


def _named(
    sample: Sample | Mapping[str, Any] | Sequence[Any], overloads: Mapping[str, OpOverload], wanted: str
) -> tuple[OpOverload, Mapping[str, Any]]:
    if not isinstance(sample, Sample):
        arguments = (
            sample if isinstance(sample, Mapping) else _by_position(sample, overloads[wanted or next(iter(overloads))])
        )
        sample = Sample(arguments, wanted or None)
    name = sample.overload or next(iter(overloads))
    if name not in overloads:
        raise DeadkvError(f"the operator has no overload {name!r}: it has {', '.join(overloads)}")
    _check_names(overloads[name], sample.arguments)
    return overloads[name], sample.arguments


def _by_position(values: Sequence[Any], overload: OpOverload) -> dict[str, Any]:
    positional = signature(overload).positional
    if len(values) > len(positional):
        raise DeadkvError(f"{overload}: a sample has {len(values)} arguments, at most {len(positional)} go by position")
    return dict(zip(positional, values, strict=False))


def _check_names(overload: OpOverload, arguments: Mapping[str, Any]) -> None:
    known = signature(overload).parameters
    if unknown := [name for name in arguments if name not in known]:
        raise DeadkvError(f"{overload}: a sample names unknown argument {unknown[0]!r}; it has {', '.join(known)}")
    if missing := [name for name, found in known.items() if found.required and name not in arguments]:
        raise DeadkvError(f"{overload}: a sample lacks the argument {missing[0]!r}")


def bound_call(overload: OpOverload, arguments: Mapping[str, Any]) -> tuple[Call, dict[str, Any]]:
    """The call as a graph would hold it, one input for each tensor, and the operands that hold tensors, by name."""
    graph, mode = Graph(), FakeTensorMode()

    def traced(name: str, value: Any) -> Any:
        def placeholder(tensor: Tensor) -> Any:
            node = graph.placeholder(name)
            node.meta["val"] = mode.from_tensor(tensor)
            return node

        return pytree.tree_map_only(Tensor, placeholder, value)

    node = graph.call_function(overload, (), {name: traced(name, value) for name, value in arguments.items()})
    call = resolve(node)
    assert call is not None
    tensors = {n: v for n, v in arguments.items() if any(isinstance(x, Tensor) for x in pytree.tree_leaves(v))}
    return call, tensors
