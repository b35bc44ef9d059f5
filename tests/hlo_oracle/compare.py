"""Compares calls with torch, and counts what is equal, refused and wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.utils import _pytree as pytree

from tests.support.lowering import Case, check, run_lowerings
from tracing.backends.hlo.arrays import UnsupportedUseError

_AT_ONCE = 60
"""Calls in one XLA program: more compile slower than they save."""


@dataclass
class Outcome:
    """What became of some calls.

    Attributes:
        equal: calls whose results are torch's.
        refused: calls that were refused in one line.
        wrong: one line for each other call.
        overloads: the overloads that were called.
    """

    equal: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    overloads: set[Any] = field(default_factory=set)

    def add(self, other: Outcome) -> None:
        self.equal += other.equal
        self.refused += other.refused
        self.wrong += other.wrong
        self.overloads |= other.overloads


def compare(calls: Sequence[Case]) -> Outcome:
    """Runs `calls` as torch and as HLO."""
    outcome = Outcome(overloads={call.op for call in calls})
    for start in range(0, len(calls), _AT_ONCE):
        some = calls[start : start + _AT_ONCE]
        for call, results in zip(some, run_lowerings(some), strict=True):
            _judge(call, results, outcome)
    return outcome


def _judge(call: Case, results: Any, outcome: Outcome) -> None:
    try:
        check(call, results)
        outcome.equal += 1
    except UnsupportedUseError:
        outcome.refused += 1
    except Exception as error:
        shown = pytree.tree_map_only(torch.Tensor, lambda t: f"{t.dtype}{list(t.shape)}", (call.args, call.kwargs))
        outcome.wrong.append(f"{call.label} {shown}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
