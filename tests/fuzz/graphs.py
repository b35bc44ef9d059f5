"""Whole graphs of a drawn size, what they return, and what tracing recorded of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule, Node

from tests.fuzz import calls, regions, sizes, sources, tensors, views, writes
from tests.fuzz.draft import Choices, Draft

LARGE, SMALL = 200, 24
_FLAT = (*sources.STEPS, *tensors.STEPS, *views.STEPS, *writes.STEPS, *sizes.STEPS, *calls.STEPS)
_RANDOM = {tensors.random, tensors.dropout}
_FUNCTIONAL = tuple(
    step
    for step in (*sources.STEPS, *tensors.STEPS, *views.STEPS, *sizes.STEPS, calls.blend, calls.twins)
    if step not in _RANDOM
)
_REGIONS = regions.region_steps(_FLAT, _FUNCTIONAL)
_LEAKS = (6, 20, 100, 100_000)
"""One pick in so many may be of the other lane; one of these for each graph."""
_KEYS = ("val", "val", "example_value")


@dataclass(frozen=True)
class Recipe:
    """What makes a graph: the same recipe makes the same graph in every process.

    Attributes:
        seed: what everything is drawn from.
        most: about how many nodes it has at most, those of nested graphs included.
        dropped: steps that are left out, by key; a failure is minimized by leaving steps out.
    """

    seed: int
    most: int = LARGE
    dropped: frozenset[str] = frozenset()

    def build(self) -> GraphModule:
        """A random graph that is well formed and runs on `example_inputs`."""
        return self._draw()[0]

    def steps(self) -> list[str]:
        """Keys of the steps it takes: `3` of the graph itself, `3.1` of a nested graph that step 3 made."""
        return self._draw()[1]

    def _draw(self) -> tuple[GraphModule, list[str]]:
        choose = Choices(self.seed, self.dropped)
        draft = Draft(choose, FakeTensorMode())
        sources.draw_inputs(draft)
        draft.leak = choose.one_of(_LEAKS)
        draft.take([sources.gather])
        steps = choose.one_of([_FLAT, (*_FLAT, *_REGIONS), (*_FLAT, *_REGIONS * 4)])
        goal = choose.number(draft.size() + 3, choose.one_of([min(SMALL, self.most), self.most // 2, self.most]))
        count = choose.number(1, goal // 2)
        while draft.size() < goal and draft.steps < count:
            draft.take(steps)
        module = draft.finish(_outputs(draft))
        _record(choose, module)
        return module, choose.taken


def _outputs(draft: Draft) -> Any:
    """Outputs in some containers: values, mostly of the main lane, inputs and views of them, sizes, one thing twice."""
    choose = draft.choose
    main = [node for node in draft.values if node not in draft.side]
    chosen: list[Any] = [*choose.some_of(main[-16:], 6), *draft.returned]
    if choose.chance(2):
        chosen += [node for node in main if not node.users][-16:]
    if choose.chance(3):
        chosen += choose.some_of([*draft.values, *draft.sizes, *draft.pools], 2)
    shapes = [tuple(chosen), chosen, {"first": chosen[0], "rest": [*chosen, None]}]
    return choose.one_of(shapes if draft.returned else [*shapes, chosen[0]])


def _record(choose: Choices, module: GraphModule) -> None:
    """Leaves what was recorded where one tracer would, or, now and then, forgets some of it."""
    key, forgets = choose.one_of(_KEYS), choose.chance(8)
    for node in _nodes(module):
        value = node.meta.pop("val", None)
        if value is not None and not (forgets and choose.chance(2)):
            node.meta[key] = value


def _nodes(module: GraphModule) -> list[Node]:
    found = [inner for inner in module.modules() if isinstance(inner, GraphModule)]
    return [node for inner in found for node in inner.graph.nodes]
