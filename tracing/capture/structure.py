"""The containers that a model returns its outputs in, which a captured graph, with its flat list, does not keep."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from passes.errors import DeadkvError
from tracing.capture.errors import one_line
from tracing.capture.fake import fake_state, new_fake_mode, swapped
from tracing.capture.inputs import bind_inputs
from tracing.capture.traced import Subject

_CONTAINERS = (list, tuple, dict)


def output_structure(model: Callable[..., Any], example_inputs: Sequence[Any]) -> pytree.TreeSpec:
    """What `model` returns for such inputs, without the leaves; found by one run on stand-ins.

    Raises:
        DeadkvError: the inputs do not fit, or the model cannot be run.
    """
    mode = new_fake_mode()
    state = fake_state(model, mode)
    subject = Subject(model, state, bind_inputs(model, example_inputs, mode), stack_traces=False)
    with swapped(model, state), one_line("make_fx", subject.run):
        return pytree.tree_structure(subject.run())


def restore_structure(module: GraphModule, structure: pytree.TreeSpec) -> None:
    """Has a captured graph return its flat outputs in the model's containers; edits it in place.

    Raises:
        DeadkvError: a container is no list, tuple or dict, which a graph could not return.
    """
    output = module.graph.output_node()
    flat: Any = output.args[0]
    restored = pytree.tree_unflatten(list(flat), structure)
    _check(restored)
    output.args = (restored,)
    module.recompile()


def _check(value: object) -> None:
    if isinstance(value, _CONTAINERS):
        if type(value) not in _CONTAINERS:
            raise DeadkvError(f"the model returns a {type(value).__name__}: return tensors in tuples, lists or dicts")
        for item in value.values() if isinstance(value, dict) else value:
            _check(item)
