"""Which values are pools and which is the block table: by the context, by the attention op's operands, by name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch.fx import GraphModule, Node

from passes.block_tkg import ATTENTION_BLOCK_TKG
from passes.context import TkgContext
from passes.frames import Frame, walk
from passes.ops.schema import Call, base_name
from passes.sites.contradictions import Claims, check_claims
from passes.sites.source import Source, anchor_name, trace_back

POOL_NAME = re.compile(r"past_key_values(?:_parameters)?[._](\d+)_?$")
TABLE_NAME = re.compile(r"block_table_?(_\d+)?$")


@dataclass(frozen=True)
class Pool:
    """A layer's K or V block cache, however many nodes read it.

    Attributes:
        name: fully qualified name of the parameter, or name of the input.
        layer: layer number, from 0.
        role: "K" or "V".
        stacked: number of dimensions before the block dimension: 1 if it holds all layers and is scanned over.
    """

    name: str
    layer: int
    role: str
    stacked: int = 0


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

    @cached_property
    def table_nodes(self) -> tuple[Node, ...]:
        """The inputs that hold a block table, in graph order."""
        return tuple(node for name, node in self.nodes.items() if name in self.tables)

    @cached_property
    def has_call_without_table(self) -> bool:
        """Whether some block-TKG attention call is given no block table, and so reads no block cache."""
        calls = (call for readers in self.attention.values() for call in readers)
        return any(call.bound.get("active_blocks_table") is None for call in calls)


def find_anchors(root: Frame, context: TkgContext | None) -> Anchors:
    """The pools and tables of a graph. Raises DeadkvError if the context says what the graph refutes."""
    attention = tuple(_attention_calls(root))
    names = _named_nodes(root)
    if context is not None:
        given = sorted(_tables_of_attention(attention))
        check_claims(Claims(context, names, frozenset(_tensors(root.facts.module)), given))
    pools, tables = _from_context(context), _table_from_context(context)
    sources = ["the context"] if pools or tables else []
    if not pools and (pools := _pools_of_attention(attention)):
        sources.append("the attention op")
    if not tables and (tables := _tables_of_attention(attention)):
        sources.append("the attention op")
    if not pools and (pools := _pools_by_name(names)):
        sources.append("names")
    if not tables and (tables := frozenset(n for n, node in names.items() if _is_table_name(n, node))):
        sources.append("names")
    source = " and ".join(dict.fromkeys(sources)) or "nothing"
    return Anchors(pools, tables, names, _attention_by_pool(attention), source)


def _tensors(module: GraphModule) -> Iterator[str]:
    """Names of all parameters and buffers, read or not."""
    for found in (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False)):
        yield from (name for name, _ in found)


@dataclass(frozen=True)
class _Attention:
    """A block-TKG attention call, its caches by role and its block table, as far as they can be traced back."""

    call: Call
    caches: Mapping[str, Source]
    table: Source | None


def _named_nodes(root: Frame) -> dict[str, Node]:
    """Inputs of the graph, and parameters that it or a nested graph reads."""
    names: dict[str, Node] = {}
    for node in root.facts.graph.find_nodes(op="placeholder"):
        names.setdefault(anchor_name(root, node), node)
    for frame in walk(root):
        for node in frame.facts.graph.find_nodes(op="get_attr"):
            names.setdefault(anchor_name(frame, node), node)
    return names


def _attention_by_pool(attention: tuple[_Attention, ...]) -> dict[str, tuple[Call, ...]]:
    readers: dict[str, list[Call]] = {}
    for found in attention:
        for source in found.caches.values():
            readers.setdefault(source.name, []).append(found.call)
    return {name: tuple(calls) for name, calls in readers.items()}


def _attention_calls(root: Frame) -> Iterator[_Attention]:
    for frame in walk(root):
        for node in frame.facts.calls.named(_is_attention):
            call = frame.facts.call(node)
            if call is not None and _is_attention(call.op):
                caches = {role: trace_back(frame, call.bound.get(f"{role}_cache")) for role in "KV"}
                known = {role: source for role, source in caches.items() if source is not None}
                yield _Attention(call, known, trace_back(frame, call.bound.get("active_blocks_table")))


def _is_attention(op: str) -> bool:
    return base_name(op) == ATTENTION_BLOCK_TKG


def _from_context(context: TkgContext | None) -> dict[str, Pool]:
    wanted = context.pools if context is not None else ()
    return {name: Pool(name, index // 2, "KV"[index % 2]) for index, name in enumerate(wanted)}


def _table_from_context(context: TkgContext | None) -> frozenset[str]:
    return frozenset((context.block_table,) if context is not None and context.block_table is not None else ())


def _pools_of_attention(attention: tuple[_Attention, ...]) -> dict[str, Pool]:
    pools: dict[str, Pool] = {}
    for layer, found in enumerate(attention):
        for role, source in found.caches.items():
            layer_of = _layer_by_name(source.name, layer)
            pools.setdefault(source.name, Pool(source.name, layer_of, role, source.slices))
    return pools


def _layer_by_name(name: str, otherwise: int) -> int:
    found = POOL_NAME.search(name)
    return int(found.group(1)) // 2 if found else otherwise


def _tables_of_attention(attention: tuple[_Attention, ...]) -> frozenset[str]:
    return frozenset(found.table.name for found in attention if found.table is not None)


def _pools_by_name(names: Mapping[str, Node]) -> dict[str, Pool]:
    indexed = ((name, POOL_NAME.search(name)) for name in names)
    return {name: Pool(name, int(m.group(1)) // 2, "KV"[int(m.group(1)) % 2]) for name, m in indexed if m}


def _is_table_name(name: str, node: Node) -> bool:
    return node.op == "placeholder" and TABLE_NAME.search(name) is not None
