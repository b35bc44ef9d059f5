"""The demand lattice, and what a rule of the analysis says about one call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from torch.fx import Node

from passes.rewrites import Rewrite


class Demand(IntEnum):
    """What is still needed of a value: nothing, its shape and dtype, or its elements. Ordered; join is `max`."""

    NONE = 0
    SHAPE = 1
    DATA = 2


Uses = Sequence[tuple[Node, Demand]]
"""What a call demands of each of its operands; an operand may appear more than once."""


@dataclass(frozen=True)
class Transfer:
    """What a call demands of its operands, given what is demanded of its result.

    Attributes:
        uses: demand on each operand.
        rewrites: how to cut the operands that are demanded less than DATA out of the call. A rule that cannot say
            how must demand DATA.
        refusals: of operands that are not read, why they are demanded all the same, for the report.
    """

    uses: Uses
    rewrites: tuple[Rewrite, ...] = ()
    refusals: Mapping[Node, str] = field(default_factory=dict)
