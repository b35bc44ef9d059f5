"""Which values are pools and which is the block table: by the context, by the attention op's operands, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch.fx import Graph, Node

from passes.context import TkgContext
from passes.contracts import ATTENTION_BLOCK_TKG
from passes.errors import DeadkvError
from passes.facts import GraphFacts
from passes.ops.schema import Call

POOL_NAME = re.compile(r"past_key_values(?:_parameters)?[._](\d+)_?$")
TABLE_NAME = re.compile(r"block_table_?(_\d+)?$")


@dataclass(frozen=True)
class Pool:
    """A layer's K or V block cache, however many nodes read it.

    Attributes:
        name: fully qualified name of the parameter, or name of the input.
        layer: layer number, from 0.
        role: "K" or "V".
    """

    name: str
    layer: int
    role: str


@dataclass(frozen=True)
class Anchors:
    """The pools and block tables of a graph, by the name under which nodes refer to them.

    Attributes:
        pools: name to pool.
        tables: names of the block tables.
        nodes: name to the first node of every input and parameter.
        attention: name of a pool to the block-TKG attention calls that read it.
        source: what the pools and tables were found by.
    """

    pools: Mapping[str, Pool] = field(default_factory=dict)
    tables: frozenset[str] = frozenset()
    nodes: Mapping[str, Node] = field(default_factory=dict)
    attention: Mapping[str, tuple[Call, ...]] = field(default_factory=dict)
    source: str = "nothing"

    @property
    def table_nodes(self) -> tuple[Node, ...]:
        """The inputs that hold a block table, in graph order."""
        return tuple(node for name, node in self.nodes.items() if name in self.tables)


def find_anchors(facts: GraphFacts, context: TkgContext | None) -> Anchors:
    """The pools and tables of the graph. Raises DeadkvError if the context names one that the graph does not have."""
    attention = tuple(_attention_calls(facts))
    names = _named_nodes(facts.graph)
    pools, tables = _from_context(context, names), _table_from_context(context, names)
    sources = ["the context"] if pools or tables else []
    if not pools and (pools := _pools_of_attention(attention, facts)):
        sources.append("the attention op")
    if not tables and (tables := _tables_of_attention(attention, facts)):
        sources.append("the attention op")
    if not pools and (pools := _pools_by_name(names)):
        sources.append("names")
    if not tables and (tables := frozenset(n for n, node in names.items() if _is_table_name(n, node))):
        sources.append("names")
    source = " and ".join(dict.fromkeys(sources)) or "nothing"
    return Anchors(pools, tables, names, _attention_by_pool(attention, facts), source)


def _named_nodes(graph: Graph) -> dict[str, Node]:
    names: dict[str, Node] = {}
    for node in graph.nodes:
        if node.op in ("placeholder", "get_attr"):
            names.setdefault(anchor_name(node), node)
    return names


def _attention_by_pool(attention: tuple[Call, ...], facts: GraphFacts) -> dict[str, tuple[Call, ...]]:
    readers: dict[str, tuple[Call, ...]] = {}
    for call in attention:
        for name in _operand_names(call, ("K_cache", "V_cache"), facts):
            readers[name] = (*readers.get(name, ()), call)
    return readers


def _operand_names(call: Call, operands: tuple[str, ...], facts: GraphFacts) -> tuple[str, ...]:
    origins = (operand_origin(call.bound.get(operand), facts) for operand in operands)
    return tuple(dict.fromkeys(anchor_name(origin) for origin in origins if origin is not None))


def anchor_name(node: Node) -> str:
    """The name that `node` refers to: the parameter of a get_attr, the input of a placeholder."""
    return str(node.target)


def operand_origin(value: object, facts: GraphFacts) -> Node | None:
    """The input or parameter that an operand comes from, through detach, alias, casts and views, or None."""
    node = value
    while isinstance(node, Node) and node.op not in ("placeholder", "get_attr"):
        call = facts.call(node)
        node = call.bound.get("self") if call is not None and call.base_name in _SAME_TENSOR else None
    return node if isinstance(node, Node) else None


_SAME_TENSOR = frozenset(
    "detach alias to _to_copy contiguous clone view reshape _unsafe_view squeeze unsqueeze flatten unflatten "
    "lift_fresh lift_fresh_copy".split()
)


def _attention_calls(facts: GraphFacts) -> Iterator[Call]:
    for node in facts.nodes:
        call = facts.call(node)
        if call is not None and call.base_name == ATTENTION_BLOCK_TKG:
            yield call


def _from_context(context: TkgContext | None, names: Mapping[str, Node]) -> dict[str, Pool]:
    wanted = context.pools if context is not None else ()
    _require(wanted, names, "pool")
    return {name: Pool(name, index // 2, "KV"[index % 2]) for index, name in enumerate(wanted)}


def _table_from_context(context: TkgContext | None, names: Mapping[str, Node]) -> frozenset[str]:
    wanted = (context.block_table,) if context is not None and context.block_table is not None else ()
    _require(wanted, names, "block table")
    return frozenset(wanted)


def _require(wanted: tuple[str, ...], names: Mapping[str, Node], what: str) -> None:
    if missing := [name for name in wanted if name not in names]:
        raise DeadkvError(
            f"the context names the {what} {missing[0]!r}, but the graph has no input or parameter of that name"
        )


def _pools_of_attention(attention: tuple[Call, ...], facts: GraphFacts) -> dict[str, Pool]:
    pools: dict[str, Pool] = {}
    for layer, call in enumerate(attention):
        for role, operand in (("K", "K_cache"), ("V", "V_cache")):
            origin = operand_origin(call.bound.get(operand), facts)
            if origin is not None:
                name = anchor_name(origin)
                pools.setdefault(name, Pool(name, _layer_by_name(name, layer), role))
    return pools


def _layer_by_name(name: str, otherwise: int) -> int:
    found = POOL_NAME.search(name)
    return int(found.group(1)) // 2 if found else otherwise


def _tables_of_attention(attention: tuple[Call, ...], facts: GraphFacts) -> frozenset[str]:
    return frozenset(name for call in attention for name in _operand_names(call, ("active_blocks_table",), facts))


def _pools_by_name(names: Mapping[str, Node]) -> dict[str, Pool]:
    indexed = ((name, POOL_NAME.search(name)) for name in names)
    return {name: Pool(name, int(m.group(1)) // 2, "KV"[int(m.group(1)) % 2]) for name, m in indexed if m}


def _is_table_name(name: str, node: Node) -> bool:
    return node.op == "placeholder" and TABLE_NAME.search(name) is not None
