"""Two graph documents as modules that can be held against each other: one fake mode, shared parameters."""

from __future__ import annotations

from torch import nn
from torch.fx import GraphModule

from tracing.graph.document import GraphDoc
from tracing.graph.fake_values import FakeValues
from tracing.graph.to_fx import graph_module, set_path


def paired_modules(before: GraphDoc, after: GraphDoc) -> tuple[GraphModule, GraphModule]:
    """Both graphs as modules. What is one parameter by its name, or is tied to it, is one object in both.

    A document holds only the parameters that some node reads, so those of `before` that no node of `after` reads any
    more are registered in `after` too: a pruned module keeps them.
    """
    values = FakeValues()
    old, new = graph_module(before, values), graph_module(after, values)
    known = dict(old.named_parameters(remove_duplicate=False))
    shared = dict(new.named_parameters(remove_duplicate=False))
    by_storage = {_storage(found): known[name] for name, found in shared.items() if name in known}
    for name, found in shared.items():
        same = known.get(name, by_storage.get(_storage(found)))
        if same is not None and same.shape == found.shape and same.dtype == found.dtype:
            set_path(new, name, same)
    for name in [name for name in known if name not in shared]:
        set_path(new, name, known[name])
    return old, new


def _storage(parameter: nn.Parameter) -> int:
    return int(parameter.untyped_storage()._cdata)
