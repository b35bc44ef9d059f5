"""Gathers of one case at one level: before, after plain dead-code elimination, after the pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from tests.cases.case import Case


@dataclass(frozen=True)
class Counts:
    """What a case measures, or must measure.

    Attributes:
        before: number of gathers.
        plain: number of gathers after plain dead-code elimination.
        plain_is_sound: what plain dead-code elimination left computes and does what the graph did.
        after: number of gathers after the pass.
        inputs: number of inputs after the pass.
    """

    before: int
    plain: int
    plain_is_sound: bool
    after: int
    inputs: int


def torch_release() -> str:
    """Such as "2.9"."""
    return ".".join(torch.__version__.split(".")[:2])


def expected(case: Case, level: str, release: str) -> Counts:
    """What the table promises for a torch release."""
    plain = case.left_by_plain_dce(level, release)
    return Counts(case.before, plain, level not in case.unsound, case.left(level), case.inputs)
