"""Runs two graphs on the same values and compares all that they leave behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from passes import DeadkvError
from passes.shrink import Inputs, match_inputs
from tracing.equality import same


def first_difference(before: GraphModule, after: GraphModule, inputs: Sequence[Tensor]) -> str | None:
    """The first output, input, parameter or buffer that is not bit-equal after a run of each graph, or None.

    Inputs that `after` dropped are left out of its run. Inputs, parameters and buffers are left as they were.

    Raises:
        DeadkvError: a graph does not run on these inputs.
    """
    kept = match_inputs(Inputs.of(before.graph).names, after)
    state = dict((*before.named_parameters(), *before.named_buffers()))
    old = _outcome("before", before, list(inputs), list(inputs), state)
    new = _outcome("after", after, list(inputs), list(kept.select(inputs)), state)
    if old.keys() != new.keys():
        return "the number of outputs"
    return next((what for what, value in old.items() if not same(value, new[what])), None)


def _outcome(
    when: str, gm: GraphModule, inputs: list[Tensor], given: list[Tensor], state: Mapping[str, Tensor]
) -> dict[str, Any]:
    tensors = {f"input {index}": value for index, value in enumerate(inputs) if isinstance(value, Tensor)}
    tensors.update((f"parameter {name}", value) for name, value in state.items())
    if any(value.is_meta for value in tensors.values()):
        raise DeadkvError("the graphs cannot be run: parameters or inputs are on meta, without values")
    with _restored(tensors), torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            results = pytree.tree_leaves(gm(*given))
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DeadkvError(f"the graph {when} does not run on these inputs: {reason[:300]}") from error
        found = {f"output {index}": value for index, value in enumerate(results)}
        return {name: _copied(value) for name, value in {**found, **tensors}.items()}


def _copied(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, Tensor) else value


@contextmanager
def _restored(tensors: Mapping[str, Tensor]) -> Iterator[None]:
    """Puts back what was written to `tensors`."""
    saved = {name: value.detach().clone() for name, value in tensors.items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in tensors.items():
                if not same(value, saved[name]):
                    value.copy_(saved[name])
