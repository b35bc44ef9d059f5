"""The example inputs, matched with the signature of `forward` and named by it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from passes.errors import DeadkvError
from tracing.capture.fake import stand_in

CONSTANT_TYPES = (type(None), bool, int, float, complex, str, torch.dtype, torch.device)


@dataclass(frozen=True)
class Inputs:
    """The flat inputs of a model: their names, the stand-ins of the tensors, other values as they were given."""

    names: tuple[str, ...]
    leaves: tuple[object, ...]
    spec: pytree.TreeSpec

    @property
    def args(self) -> tuple[Any, ...]:
        """The positional arguments for the model."""
        return tuple(pytree.tree_unflatten(self.leaves, self.spec))

    def tensors(self) -> Iterator[tuple[int, Tensor]]:
        """Position and stand-in of each input that is a tensor."""
        return ((i, leaf) for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor))


def bind_inputs(model: Callable[..., Any], example_inputs: Sequence[Any], mode: FakeTensorMode) -> Inputs:
    """Match `example_inputs` with the parameters of `forward`, flatten containers and make the stand-ins.

    An input is named after its parameter; a leaf of a container also after its place, such as `past_0`.

    Raises:
        DeadkvError: the inputs do not fit the signature, or one is neither a tensor nor a constant.
    """
    if not isinstance(example_inputs, (tuple, list)):
        raise DeadkvError(f"example_inputs is a {type(example_inputs).__name__}; give a tuple of positional inputs")
    named = [leaf for name, value in _arguments(model, example_inputs) for leaf in _leaves(name, value)]
    names = tuple(name for name, _ in named)
    repeated = [name for i, name in enumerate(names) if name in names[:i]]
    if repeated:
        raise DeadkvError(f"two inputs would both be called {repeated[0]!r}; rename a parameter of forward")
    leaves = tuple(_stand_in(mode, name, value) for name, value in named)
    return Inputs(names, leaves, pytree.tree_structure(tuple(example_inputs)))


def _arguments(model: Callable[..., Any], example_inputs: Sequence[Any]) -> list[tuple[str, Any]]:
    forward = model.forward if isinstance(model, nn.Module) else model
    where = f"{type(model).__name__}.forward" if isinstance(model, nn.Module) else getattr(model, "__name__", "model")
    try:
        signature = inspect.signature(forward)
        bound = signature.bind(*example_inputs)
    except ValueError as error:
        raise DeadkvError(f"{where} has no signature to name its inputs by; wrap it in a function") from error
    except TypeError as error:
        message = f"example_inputs ({len(example_inputs)} given) do not fit {where}{signature}: {error}"
        raise DeadkvError(message) from error
    return list(bound.arguments.items())


def _leaves(name: str, value: object) -> Iterator[tuple[str, object]]:
    for path, leaf in pytree.tree_leaves_with_path(value):
        place = re.sub(r"\W+", "_", pytree.keystr(path)).strip("_")
        yield (f"{name}_{place}" if place else name), leaf


def _stand_in(mode: FakeTensorMode, name: str, value: object) -> object:
    if isinstance(value, Tensor):
        return stand_in(mode, value, f"input {name!r}")
    if isinstance(value, CONSTANT_TYPES):
        return value
    raise DeadkvError(f"input {name!r} is a {type(value).__name__}; give tensors, numbers, strings or None")
