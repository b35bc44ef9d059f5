"""The gates of NxDI pull request 155: when its source edit may skip the materialization.

https://github.com/aws-neuron/neuronx-distributed-inference/pull/155 ("Skip prefix block TKG BHSD materialization")
Each gate is asked of the graph and, where a context is given, of the context. A gate holds a site back if either
says no, or if the two disagree; it passes if one says yes, or if neither knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product

from passes.context import TkgContext
from passes.policy import evidence
from passes.policy.evidence import Check, Evidence


@dataclass(frozen=True)
class GateCheck:
    """What a gate found for one site. `graph` and `context` say whether the condition holds; None is unknown."""

    gate: str
    passed: bool
    graph: bool | None
    context: bool | None
    detail: str


@dataclass(frozen=True)
class Gate:
    """One condition of the conservative policy.

    Attributes:
        name: its name in reports.
        condition: what must hold, or must not.
        graph: asks the graph for the condition.
        context: asks the context for it.
        wanted: the answer that lets a site pass.
    """

    name: str
    condition: str
    graph: Check
    context: Callable[[TkgContext], bool | None]
    wanted: bool = True

    def check(self, found: Evidence, context: TkgContext | None) -> GateCheck:
        """Asks the graph and the context about one site."""
        return self._checks[self.graph(found), None if context is None else self.context(context)]

    @cached_property
    def _checks(self) -> Mapping[tuple[bool | None, bool | None], GateCheck]:
        """The finding for each pair of answers: sites are many, answers few."""
        answers: tuple[bool | None, ...] = (True, False, None)
        return {(graph, context): self._finding(graph, context) for graph, context in product(answers, answers)}

    def _finding(self, by_graph: bool | None, by_context: bool | None) -> GateCheck:
        passed = all(answer in (None, self.wanted) for answer in (by_graph, by_context))
        return GateCheck(self.name, passed, by_graph, by_context, self._detail(by_graph, by_context))

    def _detail(self, graph: bool | None, context: bool | None) -> str:
        if graph is not None and context is not None and graph != context:
            return f"graph and context disagree: {self.condition}: graph says {_word(graph)}, context {_word(context)}"
        return f"{self.condition}: {_word(graph if graph is not None else context)}"


def _word(answer: bool | None) -> str:
    return {True: "yes", False: "no", None: "unknown"}[answer]


GATES: tuple[Gate, ...] = (
    Gate("token_generation", "token generation, not context encoding",
         evidence.is_token_generation, lambda c: c.token_generation),
    Gate("prefix_caching", "prefix caching",
         evidence.has_prefix_caching, lambda c: c.prefix_caching),
    Gate("block_kv_layout", "block KV layout",
         evidence.has_block_layout, lambda c: c.block_kv_layout),
    Gate("block_tkg_attention", "block-TKG attention reads the same pool",
         evidence.has_block_tkg_attention, lambda c: c.block_tkg_attention),
    Gate("block_table", "the block table is not empty (rank 2)",
         evidence.has_block_table, lambda c: c.prefix_in_table),
    Gate("kv_cache_quantization", "the KV cache is quantized",
         evidence.has_quantized_cache, lambda c: c.kv_cache_quantization, wanted=False),
    Gate("chunked_or_windowed_attention", "chunked or sliding-window attention",
         evidence.is_chunked_or_windowed, lambda c: c.chunked_or_windowed_attention, wanted=False),
    Gate("seq_ids_mask_cache_update", "seq-id mask with in-kernel cache update",
         evidence.is_seq_ids_mask_update, lambda c: c.seq_ids_mask_cache_update, wanted=False),
    Gate("block_cache_manager", "a block cache manager",
         evidence.unknown, lambda c: c.block_cache_manager),
)  # fmt: skip
