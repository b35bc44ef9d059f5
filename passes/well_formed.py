"""Whether a graph is in order: what `Graph.lint` asks of one, as far as the pass builds on it."""

from __future__ import annotations

from torch.fx import Graph, GraphModule, Node

from passes.errors import DeadkvError


def require_well_formed(module: object) -> None:
    """Raises DeadkvError for anything but a GraphModule with unique names in which each value is made before its use.

    `Graph.lint` looks up every attribute too, which costs half as much as dead-code elimination; it is run for its
    message, on a graph that is out of order.
    """
    if not isinstance(module, GraphModule):
        raise DeadkvError(f"expected a torch.fx GraphModule, got {type(module).__name__}: capture the model first")
    if _is_in_order(module.graph):
        return
    try:
        module.graph.lint()
        reason = "its nodes are not in topological order, or two have one name"
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
    raise DeadkvError(f"the graph is not well formed: {reason}")


def _is_in_order(graph: Graph) -> bool:
    made: set[Node] = set()
    for node in graph.nodes:
        if not made.issuperset(node._input_nodes):
            return False
        made.add(node)
    return len({node.name for node in graph.nodes}) == len(made)
