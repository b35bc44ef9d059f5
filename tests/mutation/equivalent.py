"""Survivors that no test can kill, each with the reason."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutation.mutants import Mutant


@dataclass(frozen=True)
class Argued:
    """Mutants of one file whose changed line holds `after`, and why they are the original in other words."""

    path: str
    after: str
    reason: str


ARGUED = (
    Argued("demand/factories.py", "list(range(result.dim())) >= order", "no permutation sorts before 0, 1, 2, ..."),
    Argued("demand/shapes.py", "expression.exp >= 0", "SymPy has no power of 0: it is 1"),
    Argued("demand/regions.py", "if carried <= results:", "demand only grows from round to round"),
    Argued("frames.py", "len(self.call.bodies) <= 1", "a call with a frame below it has at least one graph"),
    Argued("ops/effects.py", 'rsplit("::", 1)[+1]', "a qualified name has two parts: the last is the second"),
    Argued("ops/schema.py", 'rsplit("::", 1)[+1]', "a qualified name has two parts: the last is the second"),
    Argued("pins.py", "assert frame.call is not None or", "an assertion of what holds for every frame below another"),
    Argued("plan.py", "self.results and self.calls", "a graph that loses a result also loses a node or an input"),
    Argued("regions/elements.py", "call.op != GETITEM and not", "only getitem takes what is below a container"),
    Argued("removal.py", "frame.parent is None and frame.call", "the outermost frame has neither, any other has both"),
    Argued("regions/surgery.py", "place[:+1]", "only markers of tensors are fixed: their places have two parts"),
    Argued("regions/surgery.py", "place[+1]", "only markers of tensors are fixed: their places have two parts"),
    Argued("sites/contradictions.py", "if seen[name] <= what", "pools come before the table: seen is a pool"),
    Argued("sites/contradictions.py", "len(names) is not len(shown)", "no more are shown than there are"),
    Argued("sites/origin.py", "origin.block_dim % 1", "a pool is stacked once: 1 - 1 is 1 % 1"),
    Argued("storage.py", "members[ -1]", "any member stands for its class"),
    Argued("calls.py", "nodes[ -1]", "calls of one target have one name"),
    Argued("calls.py", "at[ -1]", "a submodule's name is unknown: its calls are looked at in vain"),
    Argued("sites/source.py", "element.leaves[-1]", "there is one leaf"),
    Argued("sites/source.py", "element.leaves[ -1]", "there is one leaf"),
)


def argued(mutant: Mutant) -> str:
    """Why no test can tell this mutant from the original; empty if nothing is said of it."""
    found = (a for a in ARGUED if mutant.path.endswith(a.path) and a.after in mutant.after)
    return next((a.reason for a in found), "")
