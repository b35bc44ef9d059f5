"""A context that says what the graph refutes is refused: which of the two is wrong, only its author can know."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from torch.fx import Node

from passes import metadata
from passes.context import TkgContext
from passes.errors import DeadkvError


@dataclass(frozen=True)
class Claims:
    """A context beside what the graph itself shows.

    Attributes:
        context: the context.
        nodes: every input, and every parameter that is read, by name.
        parameters: names of all parameters and buffers, read or not.
        attention_tables: what block-TKG attention takes as block table, as far as that can be seen.
    """

    context: TkgContext
    nodes: Mapping[str, Node]
    parameters: Collection[str]
    attention_tables: Collection[str]

    @property
    def names(self) -> tuple[tuple[str, str], ...]:
        """(what it is, name) of each input or parameter that the context names."""
        table = self.context.block_table
        tables = () if table is None else (("block table", table),)
        return (*(("pool", name) for name in self.context.pools), *tables)


def check_claims(claims: Claims) -> None:
    """Raises DeadkvError for the first rule that the context breaks."""
    for rule in _RULES:
        if (flaw := rule(claims)) is not None:
            raise DeadkvError(flaw)


def check_pools_are_used(context: TkgContext, attention_pools: Collection[str], gathered: Collection[str]) -> None:
    """Raises DeadkvError for a pool of the context that has no part in a graph whose attention shows its pools.

    A pool that attention reads need not be gathered: its gather may have been pruned.
    """
    unused = [name for name in context.pools if name not in {*gathered, *attention_pools}]
    if unused and attention_pools:
        raise DeadkvError(
            f"the context names the pool {unused[0]!r}, which is not gathered by the block table and is not among the "
            f"caches that block-TKG attention reads: {_listed(attention_pools)}"
        )


def _missing(claims: Claims) -> str | None:
    for what, name in claims.names:
        if name not in claims.nodes and name not in claims.parameters:
            return f"the context names the {what} {name!r}, but the graph has no input or parameter of that name"
    return None


def _named_twice(claims: Claims) -> str | None:
    seen: dict[str, str] = {}
    for what, name in claims.names:
        if name in seen:
            twice = "the same pool twice" if seen[name] == what else f"one tensor as {seen[name]} and as {what}"
            return f"the context names {twice}: {name!r}"
        seen[name] = what
    return None


def _table_of_floats(claims: Claims) -> str | None:
    name = claims.context.block_table
    node = claims.nodes.get(name) if name is not None else None
    tensor = None if node is None else metadata.fake(node)
    if tensor is None or not (tensor.dtype.is_floating_point or tensor.dtype.is_complex):
        return None
    return f"the context names the block table {name!r}, which holds {tensor.dtype}: a block table holds integers"


def _another_table(claims: Claims) -> str | None:
    name = claims.context.block_table
    if name is None or not claims.attention_tables or name in claims.attention_tables:
        return None
    given = _listed(claims.attention_tables)
    return f"the context names the block table {name!r}, but block-TKG attention is given {given}"


def _listed(names: Collection[str]) -> str:
    shown = [repr(name) for name in list(names)[:3]]
    return f"{', '.join(shown)}{', ...' if len(names) > len(shown) else ''}"


_RULES: tuple[Callable[[Claims], str | None], ...] = (_missing, _named_twice, _table_of_floats, _another_table)
