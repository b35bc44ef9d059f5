"""Errors a user can act on: one clear line each, which the command line prints before it exits with 2."""


class DeadkvError(Exception):
    """Something the user gave cannot be used. The message says what, where and what to do."""


class PruneVerificationError(DeadkvError):
    """A pruned graph is not provably the graph it came from. The message names the offending path."""
