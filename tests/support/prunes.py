"""The one assertion of the pass's tests: what must hold of every run on every graph."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from passes import PrunePrefixCache, PruneResult, verify_prune
from tests.support.regions import sharing_copy


def check_prune(module: GraphModule, inputs: Sequence[Any] | None, **options: Any) -> PruneResult:
    """Runs the pass and checks everything that must hold whatever it did; returns its result for further checks.

    As `check_run`, and the result prunes no further and computes and writes bit for bit what the graph before does (if
    `inputs` are given).
    """
    result = check_run(module, **options)
    assert not PrunePrefixCache(**options)(result.graph_module).modified
    if inputs is not None:
        assert_same_behaviour(module, result.graph_module, inputs)
    return result


def check_run(module: GraphModule, **options: Any) -> PruneResult:
    """Runs the pass. The given graph is untouched; the result lints, verifies and keeps the interface."""
    code_before = module.print_readable(print_output=False)
    result = PrunePrefixCache(**options)(module)
    assert module.print_readable(print_output=False) == code_before
    result.graph_module.graph.lint()
    verify_prune(module, result.graph_module, result.report)
    assert result.modified == bool(result.report.removed or result.report.regions)
    assert_same_interface(module, result.graph_module)
    return result


def assert_same_interface(before: GraphModule, after: GraphModule) -> None:
    """Inputs, parameter names and parameter objects are the same.

    A changed copy of a nested graph, beside the original, holds the same parameters under its own path as well.
    """
    names = [[n.name for n in m.graph.find_nodes(op="placeholder")] for m in (before, after)]
    assert names[0] == names[1]
    assert _tensors(before, remove_duplicate=True) == _tensors(after, remove_duplicate=True)
    old, new = (_tensors(module, remove_duplicate=False) for module in (before, after))
    kept = [(name, tensor) for name, tensor in new if (name, tensor) in old]
    assert kept == old
    assert {tensor for _, tensor in new} == {tensor for _, tensor in old}


def _tensors(module: GraphModule, remove_duplicate: bool) -> list[tuple[str, int]]:
    """Name and identity of each parameter and buffer, in order."""
    found = (
        *module.named_parameters(remove_duplicate=remove_duplicate),
        *module.named_buffers(remove_duplicate=remove_duplicate),
    )
    return [(name, id(tensor)) for name, tensor in found]


def assert_same_behaviour(before: GraphModule, after: GraphModule, inputs: Sequence[Any]) -> None:
    """Outputs and mutated inputs and parameters are bit-equal, NaNs included."""
    states = [_run(module, inputs) for module in (before, after)]
    for old, new in zip(*states, strict=True):
        assert type(old) is type(new)
        if isinstance(old, Tensor):
            assert old.dtype == new.dtype and old.shape == new.shape and old.stride() == new.stride()
            torch.testing.assert_close(new, old, rtol=0, atol=0, equal_nan=True)
        else:
            assert old == new


def _run(module: GraphModule, inputs: Sequence[Any]) -> list[Any]:
    saved = {name: value.detach().clone() for name, value in module.named_parameters()}
    fresh = copy.deepcopy(list(inputs))
    torch.default_generator.manual_seed(0)
    with torch.no_grad():
        outputs = pytree.tree_leaves(module(*fresh))
        written = [value.detach().clone() for value in module.parameters()]
        for name, value in module.named_parameters():
            value.copy_(saved[name])
    return [*outputs, *fresh, *written]


def gathers_left(module: GraphModule) -> int:
    """Sites that the pass still finds in a graph."""
    return int(PrunePrefixCache(policy="liveness").explain(module).summary["gathers_before"] or 0)


def after_plain_dce(module: GraphModule) -> GraphModule:
    """A copy of the graph, nested ones included, after `Graph.eliminate_dead_code`."""
    copied = sharing_copy(module)
    copied.graph.eliminate_dead_code()
    copied.recompile()
    return copied
