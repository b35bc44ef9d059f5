"""The offending path of a refusal: from a node forward to the first output or effect that can tell the difference."""

from __future__ import annotations

from collections import deque
from typing import NoReturn

from torch.fx import Node

from passes.errors import PruneVerificationError


def reject(node: Node | None, reason: str) -> NoReturn:
    """Raises PruneVerificationError for `node`, with its path to the nearest output."""
    if node is None:
        raise PruneVerificationError(f"prune not verified: {reason}")
    path = " -> ".join(f"%{step.name}" for step in path_to_output(node))
    raise PruneVerificationError(f"prune not verified: %{node.name}: {reason}; path {path}")


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
