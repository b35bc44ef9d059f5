"""One graph while it is drawn: its nodes, what may be used next, and which values are meant to end dead.

A graph has two lanes. Values of the main lane reach outputs and writes; those of the side lane, where gathers start,
are handed to the main lane only by calls that may not need their elements. In some graphs picks leak now and then from
one lane to the other, so that neither the pass nor the verifier can go by the lane.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.node import map_arg

Item = TypeVar("Item")
MAX_ELEMENTS, MAX_RANK = 600, 6
_NAMES = "add add_1 body body_pruned body_pruned_1 getitem x view_1 empty zeros sym_size scan cond permute".split()
"""Names that other nodes, bodies and copies of bodies want as well."""


class UnfitError(Exception):
    """What was drawn is no call that can be made; the step ends with what it has made so far."""


class Choices:
    """Draws numbers from a seed. Each step draws from a seed of its own, so that it can be left out alone."""

    def __init__(self, seed: int, dropped: Collection[str] = ()) -> None:
        self.seed, self.dropped = seed, dropped
        self.taken: list[str] = []
        self._random = random.Random(f"{seed}")

    @contextmanager
    def step(self, key: str) -> Iterator[None]:
        """Draws what is drawn in a block from the seed of the step `key`."""
        self.taken.append(key)
        outer, self._random = self._random, random.Random(f"{self.seed}/{key}")
        try:
            yield
        finally:
            self._random = outer

    def number(self, low: int, high: int) -> int:
        """A number from `low` to `high`. It costs one draw whatever the bounds, so that later draws stay the same."""
        return low + int(self._random.random() * (high - low + 1))

    def one_of(self, items: Sequence[Item]) -> Item:
        """One of the items; UnfitError if there is none."""
        if not items:
            raise UnfitError
        return items[self.number(0, len(items) - 1)]

    def chance(self, one_in: int) -> bool:
        return self.number(1, one_in) == 1

    def some_of(self, items: Sequence[Item], most: int) -> list[Item]:
        """One to `most` of the items, in any order, some perhaps twice."""
        return [self.one_of(items) for _ in range(self.number(1, most))]


class Draft:
    """A graph of which every value was computed on fake tensors."""

    def __init__(self, choose: Choices, mode: FakeTensorMode, depth: int = 0, key: str = "") -> None:
        self.choose, self.mode, self.depth, self.key = choose, mode, depth, key
        self.steps = 0
        self.graph, self.root = Graph(), nn.Module()
        self.pools: list[Node] = []
        self.tables: list[Node] = []
        self.indices: list[Node] = []
        self.values: list[Node] = []
        self.sizes: list[Node] = []
        self.bodies: list[Any] = []
        self.returned: list[Node] = []
        self.side: set[Node] = set()
        self.on_side = False
        self.leak = 16

    # Nodes

    def placeholder(self, name: str, value: Any) -> Node:
        node = self.graph.placeholder(name)
        node.meta["val"] = value
        return node

    def attribute(self, path: str, value: Any = None) -> Node:
        node = self.graph.get_attr(path)
        if value is not None:
            node.meta["val"] = value
        return node

    def call(self, target: Any, *args: Any, **kwargs: Any) -> Node:
        """A call of a function or, if `target` is a string, of a tensor's method. UnfitError if none can be made."""
        op = "call_method" if isinstance(target, str) else "call_function"
        value = self._compute(target, args, kwargs)
        name = self.choose.one_of(_NAMES) if self.choose.chance(12) else None
        node = self.graph.create_node(op, target, args, kwargs, name=name)
        node.meta["val"] = value
        return node

    def _compute(self, target: Any, args: Any, kwargs: Any) -> Any:
        given, named = map_arg((args, kwargs), lambda node: node.meta["val"])
        try:
            with self.mode:
                return (
                    getattr(given[0], target)(*given[1:], **named)
                    if isinstance(target, str)
                    else target(*given, **named)
                )
        except (RuntimeError, TypeError, IndexError, ValueError, NotImplementedError) as error:
            raise UnfitError from error

    def spell(self, spellings: Sequence[Any], *args: Any, **kwargs: Any) -> Node:
        """A call in one of its spellings: an overload, a function or the name of a method."""
        return self.call(self.choose.one_of(spellings), *args, **kwargs)

    def add(self, node: Node) -> Node:
        """Offers a node for later use, in the lane of the step, unless it is too large or no tensor."""
        value = node.meta["val"]
        if isinstance(value, Tensor) and value.numel() <= MAX_ELEMENTS and value.dim() <= MAX_RANK:
            self.values.append(node)
            if self.on_side:
                self.side.add(node)
        return node

    # Picks

    def pick(self, accept: Callable[[Tensor], bool] = lambda value: True) -> Node:
        """A value of the step's lane; on the side lane it may be of either."""
        either = self.on_side or self.choose.chance(self.leak)
        return self.latest([n for n in self.values if (either or n not in self.side) and accept(n.meta["val"])])

    def pick_target(self) -> Node:
        """A value to write in place: no two of its elements share memory."""
        lane = self.on_side != self.choose.chance(self.leak)
        return self.latest([n for n in self.values if (n in self.side) == lane and _is_writable(n.meta["val"])])

    def pick_unread(self, accept: Callable[[Tensor], bool] = lambda value: True) -> Node:
        """A value whose elements the step will probably not need."""
        side = [n for n in self.values if n in self.side and accept(n.meta["val"])]
        return self.latest(side) if side and not self.choose.chance(4) else self.pick(accept)

    def latest(self, nodes: Sequence[Node]) -> Node:
        """One of the nodes, half of the time one of the last few."""
        return self.choose.one_of(nodes[-6:] if self.choose.number(0, 1) else nodes)

    # Steps

    @contextmanager
    def lane(self, on_side: bool) -> Iterator[None]:
        """Makes the nodes of a block in one lane."""
        previous, self.on_side = self.on_side, on_side
        try:
            yield
        finally:
            self.on_side = previous

    def take(self, steps: Sequence[Callable[[Any], object]]) -> None:
        """Takes one of the steps; one that cannot be finished leaves what it made, unused."""
        key, self.steps = f"{self.key}{self.steps}", self.steps + 1
        if key in self.choose.dropped:
            return
        with self.choose.step(key), self.lane(self.choose.chance(2)), suppress(UnfitError):
            self.choose.one_of(steps)(self)

    def finish(self, results: Any) -> GraphModule:
        """Ends the graph with these results."""
        self.graph.output(results)
        return GraphModule(self.root, self.graph)

    def size(self) -> int:
        """Nodes drawn so far, nested graphs included."""
        bodies = (m for m in self.root.modules() if isinstance(m, GraphModule))
        return len(self.graph.nodes) + sum(len(body.graph.nodes) for body in bodies)


def _is_writable(value: Tensor) -> bool:
    return all(stride != 0 or size <= 1 for size, stride in zip(value.shape, value.stride(), strict=True))


def is_float(value: Tensor) -> bool:
    return value.is_floating_point()


def is_number(value: Tensor) -> bool:
    return value.dtype is not torch.bool
