"""What a check of a contract finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class ContractViolation(AssertionError):  # noqa: N818 - it is an assertion about the contract
    """A contract says what its operator does not do."""


@dataclass(frozen=True)
class Flaw:
    """One way in which a contract is wrong.

    Attributes:
        sample: index of the sample that shows it.
        operand: the operand that the contract is wrong about.
        kind: "read" (called unread, but read), "written" (not listed as written, but written) or "stand-in".
        given: the poison or stand-in that was given; None for "written".
        difference: the first result that differs, or what the operator raised.
    """

    sample: int
    operand: str
    kind: str
    given: str | None
    difference: str

    def __str__(self) -> str:
        """One line."""
        text = {
            "read": f"{self.operand} is called unread, but with {self.given} in it {self.difference}",
            "written": f"{self.operand} is not listed as written, but the operator writes it",
            "stand-in": f"with {self.given} in place of {self.operand} {self.difference}",
        }
        return f"sample {self.sample}: {text[self.kind]}"


@dataclass(frozen=True)
class ContractCheck:
    """What was checked.

    Attributes:
        op: the operator.
        samples: number of samples.
        unread: for each operand that some sample's contract calls unread, in how many samples.
        flaws: what is wrong, one of a kind for each operand.
    """

    op: str
    samples: int
    unread: Mapping[str, int]
    flaws: tuple[Flaw, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.flaws

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        flaws = [{**vars(flaw), "message": str(flaw)} for flaw in self.flaws]
        return {"op": self.op, "ok": self.ok, "samples": self.samples, "unread": dict(self.unread), "flaws": flaws}
