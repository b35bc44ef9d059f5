"""Runs a decoder in torch and its graphs on XLA:CPU, before and after pruning, and compares what comes out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from passes import DeadkvError
from passes.shrink import Inputs, match_inputs
from tracing.decoder import Decoder, random_caches, random_inputs
from tracing.equality import same

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}
"""Largest difference from torch relative to the largest magnitude, by the decoder's dtype."""

CACHE_TOLERANCES = {torch.float8_e4m3fn: 2.0**-3}
"""The same for new cache tokens of a dtype narrower than the decoder's: one step of its last mantissa bit."""

_COPIES = 4
"""Copies of the weights and pools that are held at once: torch's, NumPy's, XLA's, and the caches' results."""


@dataclass(frozen=True)
class RunCheck:
    """Differences between torch eager and XLA:CPU.

    Attributes:
        logits: largest relative difference of the logits or tokens, before and after pruning alike.
        new_tokens: the same for the cache slots that this step wrote.
        untouched: every cache slot that torch left alone is bit-equal on XLA.
        pruned_equal: XLA computes the same bits from the pruned graph as from the unpruned one.
        tolerance: what `logits` may be at most.
        cache_tolerance: what `new_tokens` may be at most.
    """

    logits: float
    new_tokens: float
    untouched: bool
    pruned_equal: bool
    tolerance: float
    cache_tolerance: float

    @property
    def passed(self) -> bool:
        """Whether everything is as it must be."""
        is_close = self.logits <= self.tolerance and self.new_tokens <= self.cache_tolerance
        return self.untouched and self.pruned_equal and is_close

    @property
    def line(self) -> str:
        """One line for a person."""
        return (
            f"run: {'equal' if self.passed else 'DIFFERENT'} · XLA:CPU against torch eager: logits {self.logits:.1e} "
            f"(at most {self.tolerance:.0e}), new cache tokens {self.new_tokens:.1e} "
            f"(at most {self.cache_tolerance:.0e}), other cache slots "
            f"{'bit-equal' if self.untouched else 'DIFFERENT'} · pruned against unpruned on XLA:CPU: "
            f"{'bit-equal' if self.pruned_equal else 'DIFFERENT'}"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"passed": self.passed, **asdict(self)}


def check_run(decoder: Decoder, before: GraphModule, after: GraphModule, *, target: str, seed: int) -> RunCheck:
    """One step on random inputs and caches, in torch eager and on XLA:CPU before and after.

    The block table is filled with valid blocks: with the -1 padding of production, torch cannot run the unpruned graph.
    """
    from tracing.backends.hlo.execute import execute

    random_caches(decoder, seed)
    inputs = random_inputs(decoder, seed, padded=False)
    pools = list(decoder.aliases())
    old_caches = [pool.detach().clone() for pool in pools]
    left = match_inputs(Inputs.of(before.graph).names, after).select(inputs)
    runs = (before, inputs), (after, left)
    xla = [list(execute(graph, given, target=target).outputs) for graph, given in runs]
    with torch.no_grad():
        eager = [output.detach().clone() for output in decoder(*inputs)]
        for pool, cache in zip(pools, old_caches, strict=True):
            pool.copy_(cache)
    equal = all(same(one, other) for one, other in zip(*xla, strict=True))
    return _compare(eager, xla[1], old_caches, equal, TOLERANCES[decoder.config.dtype])


def _compare(
    eager: Sequence[Tensor], found: Sequence[Tensor], old: Sequence[Tensor], equal: bool, tolerance: float
) -> RunCheck:
    results = len(eager) - len(old)  # the outputs before the pools: logits, or tokens
    caches = list(zip(eager[results:], found[results:], old, strict=True))
    written = [_written_slots(cache, before) for cache, _, before in caches]
    return RunCheck(
        logits=max(_difference(e, f) for e, f in zip(eager[:results], found[:results], strict=True)),
        new_tokens=max(_difference(_at(w, c), _at(w, f)) for (c, f, _), w in zip(caches, written, strict=True)),
        untouched=all(same(_at(~w, c), _at(~w, f)) for (c, f, _), w in zip(caches, written, strict=True)),
        pruned_equal=equal,
        tolerance=tolerance,
        cache_tolerance=max(tolerance, CACHE_TOLERANCES.get(old[0].dtype, 0.0)),
    )


def _written_slots(cache: Tensor, before: Tensor) -> Tensor:
    """Which slots [..., blocks, block_size] a step wrote: those in which any element of the token changed."""
    return (cache != before).flatten(-2).any(-1)


def _at(slots: Tensor, cache: Tensor) -> Tensor:
    """The cache at some slots; taken as bytes, since torch takes no float8 by a mask."""
    return cache.contiguous().view(torch.uint8)[slots].view(cache.dtype)


def _difference(expected: Tensor, found: Tensor) -> float:
    if expected.numel() == 0:
        return 0.0
    one, other = expected.double(), found.double()
    scale = max(float(one.abs().max()), 1.0)
    return float((one - other).abs().max()) / scale


def require_whole(decoder: Decoder) -> None:
    """Refuses one rank of several, which computes nothing by itself."""
    if decoder.variant.tensor_parallel > 1:
        raise DeadkvError("one rank of a tensor-parallel decoder does not run alone: leave out --run and --weights")


def require_memory(decoder: Decoder) -> None:
    """Refuses a decoder whose weights and pools do not fit into this machine's memory several times over."""
    needed = _COPIES * sum(p.numel() * p.element_size() for p in decoder.parameters())
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > present:
        raise DeadkvError(
            f"real weights of this model need about {needed / 1e9:.0f} GB of memory, this machine has "
            f"{present / 1e9:.0f}: choose a smaller model, fewer layers or a smaller batch"
        )
