"""An identifier of invoke_subgraph stands for one graph: backends compile the first they meet and reuse it."""

from __future__ import annotations

from collections.abc import Iterator

from torch.fx import GraphModule

from passes.calls import CallIndex
from passes.regions.calls import bind_region, may_call_graphs
from passes.verify.correspondence import Correspondence, correspond
from passes.verify.trail import reject


def check_identifiers(pair: Correspondence) -> None:
    """Rejects an identifier that stands for two different graphs after, and did not before."""
    if not _calls_graphs(pair):
        return
    ambiguous = set(_ambiguous(pair.before))
    for identifier in _ambiguous(pair.after):
        if identifier not in ambiguous:
            reject(None, f"the identifier {identifier} stands for two different graphs")


def _calls_graphs(pair: Correspondence) -> bool:
    """Whether a call after may call graphs: what calls none before, and is not new or changed, calls none after."""
    changed = (*pair.inserted, *(new for _, new in pair.edited))
    return bool(pair.calls.matching(may_call_graphs)) or any(
        may_call_graphs((node.op, node.target)) for node in changed
    )


def _ambiguous(module: GraphModule) -> Iterator[str]:
    first: dict[str, GraphModule] = {}
    for identifier, body in _identified(module):
        known = first.setdefault(identifier, body)
        if known is not body and not _is_same_graph(known, body):
            yield identifier


def _identified(module: GraphModule) -> Iterator[tuple[str, GraphModule]]:
    """Identifier and graph of each invoke_subgraph in `module` and in the graphs it calls, each graph visited once."""
    pending, seen = [module], {module}
    while pending:
        found = pending.pop()
        for node in CallIndex(found.graph).matching(may_call_graphs):
            call = bind_region(node, found)
            for body in () if call is None else call.bodies:
                identifier = node.args[1] if call is not None and call.kind == "invoke_subgraph" else None
                if isinstance(identifier, str):
                    yield identifier, body.module
                if body.module not in seen:
                    seen.add(body.module)
                    pending.append(body.module)


def _is_same_graph(one: GraphModule, other: GraphModule) -> bool:
    pair = correspond(one, other)
    if pair.removed or pair.inserted or pair.edited:
        return False
    calls = ((bind_region(old, one), bind_region(new, other)) for old, new in pair.kept.items())
    return all(
        a.module is b.module or _is_same_graph(a.module, b.module)
        for was, now in calls
        if was is not None and now is not None
        for a, b in zip(was.bodies, now.bodies, strict=False)
    )
