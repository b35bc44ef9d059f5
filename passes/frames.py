"""Frames: one for each time that a graph is entered, as if every nested graph were written out where it is called.

A graph that sixteen layers share has sixteen frames, and a site in it is sixteen sites: each layer has its own pool,
and what one layer's call needs another's may not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.fx import Node

from passes import metadata
from passes.demand.result import DemandResult
from passes.facts import GraphFacts
from passes.regions.calls import RegionCall


@dataclass(frozen=True, eq=False)
class Frame:
    """One entry of a graph.

    Attributes:
        facts: facts of the graph.
        parent: the frame of the call; None for the outermost graph.
        call: the call; None for the outermost graph.
        body: which of the call's graphs this is.
        children: by call of nested graphs, the frame of each of its graphs.
    """

    facts: GraphFacts
    parent: Frame | None = None
    call: RegionCall | None = None
    body: int = 0
    children: dict[Node, tuple[Frame, ...]] = field(default_factory=dict)

    @property
    def path(self) -> tuple[str, ...]:
        """Names of the calls from the outermost graph to this one; of a call of several graphs also which."""
        if self.parent is None or self.call is None:
            return ()
        step = self.call.node.name
        return (*self.parent.path, step if len(self.call.bodies) == 1 else f"{step}.{self.call.bodies[self.body].path}")

    @property
    def prefix(self) -> str:
        """Attribute path of the graph's module in the outermost one, with a dot at its end; empty for the outermost."""
        if self.parent is None or self.call is None:
            return ""
        return f"{self.parent.prefix}{self.call.bodies[self.body].path}."

    def name(self, node: Node) -> str:
        """Name of a node of this frame, such as `add` or `invoke_subgraph_3/add`."""
        return "/".join((*self.path, node.name))

    def operand(self, placeholder: Node) -> Any:
        """What the call gives for `placeholder`, a value of the parent frame."""
        assert self.call is not None
        return self.call.operands[self._number(placeholder)].value

    def is_slice(self, placeholder: Node) -> bool:
        """Whether `placeholder` holds one slice of what the call gives, another in each round."""
        return self.call is not None and self._number(placeholder) in self.call.mapped

    def _number(self, placeholder: Node) -> int:
        assert self.call is not None
        return self.call.bodies[self.body].placeholders.index(placeholder)

    def rounds(self) -> int | None:
        """How often the graph runs each time that the outermost one does; None if that is not known."""
        if self.parent is None or self.call is None:
            return 1
        outer = self.parent.rounds()
        return None if outer is None else _rounds(self.call, outer)


def _rounds(call: RegionCall, outer: int) -> int | None:
    if call.kind == "while_loop":
        return None
    if not call.mapped:
        return outer
    scanned = call.operands[call.mapped[0]].value
    tensor = metadata.fake(scanned) if isinstance(scanned, Node) else None
    length = None if tensor is None else tensor.shape[0]
    return outer * length if isinstance(length, int) else None


def frame_tree(facts: GraphFacts) -> Frame:
    """The frame of the outermost graph, with those of all nested ones below it."""
    return _grow(Frame(facts))


def _grow(frame: Frame) -> Frame:
    for node in frame.facts.regions:
        if (found := frame.facts.region(node)) is not None:
            frame.children[node] = tuple(
                _grow(Frame(body, frame, found.call, index)) for index, body in enumerate(found.bodies)
            )
    return frame


def outermost(frame: Frame, node: Node) -> Node:
    """The node of the outermost graph that `node` is, or through which its frame is entered."""
    if frame.parent is None or frame.call is None:
        return node
    return outermost(frame.parent, frame.call.node)


def walk(frame: Frame) -> Iterator[Frame]:
    """`frame` and every frame below it, callers first, in graph order."""
    yield frame
    for bodies in frame.children.values():
        for body in bodies:
            yield from walk(body)


def demand_in(root: Frame, demand: DemandResult) -> Mapping[Frame, DemandResult]:
    """The demand in every frame that the demand in the outermost one, which may be that in a part of it, leads to."""
    found = {root: demand}
    for frame in walk(root):
        regions = found[frame].regions if frame in found else {}
        for node, bodies in frame.children.items():
            if node in regions:
                found.update(zip(bodies, regions[node].bodies, strict=True))
    return found
