"""The graphs that the peers are given: one for each case of the case table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.fx import GraphModule
from torch.utils import _pytree as pytree

from tests.cases import CASES, Case
from tests.cases.case import ROWS
from tests.cases.counts import torch_release
from tests.cases.measure import CAPTURE, example_inputs
from tests.support.regions import sharing_copy

LEVELS = ("make_fx", "export", "dynamo", "built", "fx")
"""A case is given at the first of these levels at which it can be written."""


@dataclass(frozen=True)
class Subject:
    """One case as a graph with real inputs."""

    case: Case

    @property
    def id(self) -> str:
        """Of the case."""
        return self.case.id

    @property
    def level(self) -> str:
        """At which the graph was captured."""
        return next(level for level in LEVELS if level in self.case.levels)

    @property
    def needed(self) -> int:
        """Gathers that must stay: what the pass leaves, or plain dead-code elimination where that is sound."""
        left = self.case.left(self.level)
        plain = self.case.left_by_plain_dce(self.level, torch_release())
        return left if self.level in self.case.unsound else min(left, plain)

    @cached_property
    def inputs(self) -> tuple[Tensor, ...]:
        """`x`, the pool and the block table."""
        return example_inputs()

    def graph(self) -> GraphModule:
        """A copy of the captured graph, for a tool that edits it."""
        return sharing_copy(self.captured)

    @cached_property
    def captured(self) -> GraphModule:
        """The graph, which returns a tuple of tensors and numbers."""
        torch._dynamo.reset()
        module = CAPTURE[self.level](self.case)
        output = module.graph.output_node()
        output.args = (tuple(pytree.tree_leaves(_plain(output.args[0]))),)
        module.graph._codegen = torch.fx.graph.CodeGen()
        module.recompile()
        return module


def _plain(value: object) -> object:
    """FX's immutable containers as plain ones, which the pytree library knows."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def subjects() -> Iterator[Subject]:
    """All of them, in the order of the case table."""
    order = list(ROWS)
    yield from map(Subject, sorted(CASES, key=lambda case: order.index(case.row)))
