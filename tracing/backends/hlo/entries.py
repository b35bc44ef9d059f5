"""The tensors a GraphModule holds, and which of them its graph uses."""

from __future__ import annotations

from collections.abc import Iterator
from operator import attrgetter

from torch import Tensor, nn
from torch.fx import GraphModule


def entry_names(gm: nn.Module) -> dict[int, str]:
    """id of each parameter and buffer -> its name; the first one where it is registered under several."""
    names: dict[int, str] = {}
    for name, tensor in (
        *gm.named_parameters(remove_duplicate=False),
        *gm.named_buffers(remove_duplicate=False),
    ):
        names.setdefault(id(tensor), name)
    return names


def used_entries(gm: GraphModule) -> dict[str, Tensor]:
    """The parameters and buffers the graph reads, by name, sorted by name.

    A tensor attribute that is not registered is no entry: it is lowered as a literal.
    """
    names = entry_names(gm)
    used = {names[id(tensor)]: tensor for tensor in _referenced(gm) if id(tensor) in names}
    return dict(sorted(used.items()))


def _referenced(gm: GraphModule) -> Iterator[Tensor]:
    for node in gm.graph.nodes:
        if node.op not in ("get_attr", "call_module"):
            continue
        value = attrgetter(node.target)(gm)
        if isinstance(value, nn.Module):
            yield from value.parameters()
            yield from value.buffers()
        elif isinstance(value, Tensor):
            yield value
