"""Two graph documents as modules that can be held against each other: one fake mode, shared parameters."""

from __future__ import annotations

from torch.fx import GraphModule

from tracing.graph.document import GraphDoc
from tracing.graph.fake_values import FakeValues
from tracing.graph.to_fx import graph_module


def paired_modules(before: GraphDoc, after: GraphDoc) -> tuple[GraphModule, GraphModule]:
    """Both graphs as modules. A parameter of the same name, shape and dtype is the same object in both."""
    values = FakeValues()
    old, new = graph_module(before, values), graph_module(after, values)
    known = dict(old.named_parameters(remove_duplicate=False))
    for name, parameter in list(new.named_parameters(remove_duplicate=False)):
        same = known.get(name)
        if same is not None and same.shape == parameter.shape and same.dtype == parameter.dtype:
            owner, _, leaf = name.rpartition(".")
            new.get_submodule(owner).register_parameter(leaf, same)
    return old, new
