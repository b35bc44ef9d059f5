"""Policies: which of the sites that are proven dead are removed."""

from passes.policy.gates import GATES, Gate, GateCheck
from passes.policy.policies import POLICIES, Decision, Policy, policy_named

__all__ = ["GATES", "POLICIES", "Decision", "Gate", "GateCheck", "Policy", "policy_named"]
