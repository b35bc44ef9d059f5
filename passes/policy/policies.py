"""The two policies: `conservative` asks pull request 155's gates, `liveness` removes whatever is proven dead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from passes.context import TkgContext
from passes.errors import DeadkvError
from passes.policy.evidence import Evidence
from passes.policy.gates import GATES, Gate, GateCheck


@dataclass(frozen=True)
class Decision:
    """Whether a policy lets a dead site go, and what its gates found."""

    allowed: bool
    checks: tuple[GateCheck, ...]

    @property
    def held_by(self) -> GateCheck | None:
        """The first gate that holds the site, or None."""
        return None if self.allowed else next(check for check in self.checks if not check.passed)


@dataclass(frozen=True)
class Policy:
    """A named set of gates."""

    name: str
    gates: tuple[Gate, ...]

    def decide(self, found: Evidence, context: TkgContext | None) -> Decision:
        """Asks every gate about one site that is proven dead."""
        checks = tuple(gate.check(found, context) for gate in self.gates)
        return Decision(all(check.passed for check in checks), checks)


POLICIES: Mapping[str, Policy] = {
    policy.name: policy for policy in (Policy("conservative", GATES), Policy("liveness", ()))
}


def policy_named(name: str) -> Policy:
    """The policy of that name. Raises DeadkvError, listing the known ones, for any other name."""
    if name not in POLICIES:
        raise DeadkvError(f"unknown policy {name!r}: choose one of {', '.join(POLICIES)}")
    return POLICIES[name]
