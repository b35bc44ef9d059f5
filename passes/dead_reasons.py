"""Why a dead site is dead: what it is given to, and why that does not need it, in one line."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping

from torch.fx import Node

from passes.frames import Frame
from passes.ops.names import spelling
from passes.ops.schema import operand_nodes
from passes.pins import Demands
from passes.regions.calls import RegionCall
from passes.rewrites import Rewrite
from passes.sites import Site

_LOOK_AHEAD = 64
"""How many dead nodes behind a site are looked at: a reason must not cost a walk over the graph."""

_BY_KIND: Mapping[str, str] = {
    "call_module": "submodule {body} does not read its input {input}",
    "invoke_subgraph": "region {body} does not read its input {input}",
    "cond": "neither branch of a cond ({body}) reads its input {input}",
    "while_loop": "no round of a while_loop ({body}) needs its input {input}",
    "scan": "no round of a scan ({body}) reads its input {input}",
    "marker": "nothing reads lane {index} of {op}",
}
_BY_RULE: Mapping[str, str] = {
    "shape_only": "{op} reads only its shape, which is known",
    "like_factory": "{op} needs only its shape, which is known",
    "expand_as": "{op} needs only its shape, which is known",
    "opaque_operand": "{op} does not read {operand} ({contract})",
    "assert_only": "{op} asserts only what the trace has proven",
}
"""Reasons name operators and graphs, not nodes, so that the sites of identical layers have one and the same."""


def dead_reason(site: Site, demands: Demands) -> str:
    """`nothing uses it`, or `region repeated_subgraph0 does not read its input prior`."""
    if not any(user not in site.chain for node in site.chain for user in node.users):
        return "nothing uses it"
    reason = next(_reasons(site.frame, site.gather, demands), None)
    return "what is computed from it has no effect" if reason is None else reason


def _reasons(frame: Frame, gather: Node, demands: Demands) -> Iterator[str]:
    """Why each live user in reach does not need the site, nearest first."""
    pending = deque([(frame, gather)])
    seen = {(frame, gather)}
    while pending and len(seen) < _LOOK_AHEAD:
        frame, node = pending.popleft()
        for user in node.users:
            if user.op != "output" and demands[frame].is_live(user):
                yield from _cut(frame, node, user, demands)
                continue
            if user.op == "output":
                following = list(_taken_by_caller(frame, node))
                if not following and frame.call is not None:
                    yield f"nothing takes that result of {frame.call.bodies[frame.body].path}"
            else:
                following = [(frame, user)]
            pending.extend(place for place in following if place not in seen)
            seen.update(following)


def _taken_by_caller(frame: Frame, node: Node) -> Iterator[tuple[Frame, Node]]:
    """What takes, in the caller, a result of the nested graph that holds `node`."""
    assert frame.call is not None and frame.parent is not None
    results = frame.call.bodies[frame.body].results
    leaves = {index for index, (_, value) in enumerate(results) if node in operand_nodes(value)}
    facts = frame.parent.facts
    for taken in facts.taken[frame.call.node]:
        if leaves.intersection(facts.elements[taken].leaves):
            yield frame.parent, taken


def _cut(frame: Frame, node: Node, user: Node, demands: Demands) -> Iterator[str]:
    region = frame.facts.region(user)
    if region is not None:
        yield from _unread_operands(region.call, node)
        return
    for rewrite in demands[frame].rewrites.get(user, ()):
        if node in rewrite.severs:
            yield _BY_RULE[rewrite.rule].format(op=spelling(user), **_of_contract(frame, user, rewrite))


def _unread_operands(call: RegionCall, node: Node) -> Iterator[str]:
    for index, operand in enumerate(call.operands):
        if node in operand_nodes(operand.value):
            body = call.bodies[-1] if call.bodies else None
            names = {} if body is None else {"body": body.path, "input": body.placeholders[index].name}
            yield _BY_KIND[call.kind].format(op=spelling(call.node), index=index, **names)


def _of_contract(frame: Frame, user: Node, rewrite: Rewrite) -> Mapping[str, str]:
    """The operand that `rewrite` cuts out of a call with a contract, and the kind of contract."""
    bound = frame.facts[user].contract
    if bound is None:
        return {}
    call = bound.call
    severed = set(rewrite.severs)
    names = (name for name, value in call.bound.items() if severed.intersection(operand_nodes(value)))
    kind = "inferred contract" if bound.contract.inferred else "contract"
    return {"operand": next(names, "it"), "contract": f"{kind} of {call.op.removeprefix('function:')}"}
