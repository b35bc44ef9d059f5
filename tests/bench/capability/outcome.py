"""What a peer makes of a graph, and whether that still does what the graph did."""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from tests.bench.capability.subjects import Subject

Run = Callable[..., Any]
_EFFECT = re.compile(r"(?:_c10d_functional\.|aten\._(?:functional_)?(?=assert_async))(\w+?)_?\.")
"""The operators with an effect, whether functional, in place or neither."""


@dataclass(frozen=True)
class Outcome:
    """What is left of one graph.

    Attributes:
        left: number of gathers.
        sound: whether it computes and writes the same; None if it was not run.
        effects: operations that other ranks or the user wait for; None if they were not counted.
    """

    left: int
    sound: bool | None = None
    effects: Counter[str] | None = None

    def is_wrong(self, subject: Subject) -> bool:
        """It was run and does something else, or lacks an effect."""
        return self.sound is False or self.effects not in (None, effects_of(subject.captured))


def is_sound(subject: Subject, changed: Run) -> bool:
    """Whether `changed` returns what the graph does, and leaves its inputs and parameters as the graph does."""
    before, after = (_state(run, subject.inputs) for run in (subject.captured, changed))
    return len(before) == len(after) and all(map(_same, before, after))


def _state(run: Run, inputs: Sequence[Tensor]) -> list[Any]:
    fresh = copy.deepcopy(list(inputs))
    with torch.no_grad():
        outputs = pytree.tree_leaves(run(*fresh))
    return [*outputs, *fresh]


def same_values(before: Iterable[Any], after: Iterable[Any]) -> bool:
    """Whether two runs returned the same values."""
    old, new = list(before), list(after)
    return len(old) == len(new) and all(map(_same, old, new))


def _same(one: Any, other: Any) -> bool:
    if not isinstance(one, Tensor):
        return bool(one == other)
    return one.shape == other.shape and torch.allclose(one.double(), other.double(), 1e-4, 1e-4, equal_nan=True)


def effects_of(module: GraphModule) -> Counter[str]:
    """Collectives and asserts on data, in a graph and those below it."""
    graphs = [found.graph for found in module.modules() if isinstance(found, GraphModule)]
    targets = (str(node.target) for graph in graphs for node in graph.nodes if node.op == "call_function")
    return Counter(found[1] for target in targets if (found := _EFFECT.match(target)))
