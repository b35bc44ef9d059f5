"""The offending path of a refusal: from a node forward to the first output or effect that can tell the difference."""

from __future__ import annotations

from collections import deque
from typing import NoReturn

from torch.fx import Node

from passes.errors import PruneVerificationError
from passes.ops.schema import operand_nodes
from passes.regions.calls import RegionCall

Within = tuple[RegionCall, ...]
"""The calls that lead to a nested graph, outermost first."""


def reject(node: Node | None, reason: str, within: Within = (), user: Node | None = None) -> NoReturn:
    """Raises PruneVerificationError for `node`, with its path to the nearest output, out of the graphs around it.

    The path goes by way of `user`, one of the users of `node`, if it is given.
    """
    place = "".join(f" in %{call.node.name}" for call in reversed(within))
    if node is None:
        raise PruneVerificationError(f"prune not verified{place and ','}{place}: {reason}")
    path = " -> ".join(_steps([node, *path_to_output(user)] if user else path_to_output(node), within))
    raise PruneVerificationError(f"prune not verified: %{node.name}{place}: {reason}; path {path}")


def _steps(path: list[Node], within: Within) -> list[str]:
    """`%prior -> invoke_subgraph:%prior_1 -> %add -> %output -> %invoke_subgraph -> %output`."""
    steps = [f"%{step.name}" for step in path]
    start = path[0]
    for call in reversed(within):
        steps[0] = f"{call.node.name}:{steps[0]}"
        steps += [f"%{step.name}" for step in path_to_output(call.node)]
        start = _bound_to(start, call)
        steps = steps if start is call.node else [f"%{start.name}", *steps]
    return steps


def _bound_to(node: Node, call: RegionCall) -> Node:
    """The operand that `call` passes for a placeholder of its graphs; for any other node, the call itself."""
    for body in call.bodies:
        for placeholder, operand in zip(body.placeholders, call.operands, strict=True):
            if placeholder is node:
                return next(operand_nodes(operand.value), call.node)
    return call.node


def path_to_output(node: Node) -> list[Node]:
    """The shortest way from `node` along users to the output node, or as far as it goes if it does not get there."""
    came_from: dict[Node, Node | None] = {node: None}
    pending = deque([node])
    last = node
    while pending:
        last = pending.popleft()
        if last.op == "output":
            break
        for user in last.users:
            if user not in came_from:
                came_from[user] = last
                pending.append(user)
    end = last if last.op == "output" else node
    path = [end]
    while (previous := came_from[path[-1]]) is not None:
        path.append(previous)
    return path[::-1]
