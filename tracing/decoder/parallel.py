"""Tensor parallelism (Shoeybi et al., arXiv:1909.08053): each rank has some of the heads and of the feed-forward.

The attention output and the feed-forward output of a rank are partial sums. They are summed over the ranks by an
all-reduce of torch's functional collectives, which is a node of the captured graph; the norms, the embedding and the
head are whole on every rank. All ranks have the same graph.
"""

import dataclasses
from collections.abc import Callable

from torch import Tensor
from torch.distributed import _functional_collectives as functional_collectives

from passes.errors import DeadkvError
from tracing.decoder.config import DecoderConfig
from tracing.decoder.variants import Variant

GROUP = "tp"
"""Name of the process group that does the reduction when a rank runs. Tracing on fake tensors needs no group."""

Reduce = Callable[[Tensor], Tensor]
"""Makes a rank's partial sum whole."""


def reduction(variant: Variant) -> Reduce:
    """How a layer of the variant makes its partial sums whole."""
    return _all_reduce if variant.tensor_parallel > 1 else _alone


def _all_reduce(partial: Tensor) -> Tensor:
    summed: Tensor = functional_collectives.all_reduce(partial, "sum", group=GROUP)  # type: ignore[arg-type]  # a name
    return summed


def _alone(partial: Tensor) -> Tensor:
    return partial


def rank_config(config: DecoderConfig, ranks: int) -> DecoderConfig:
    """What each of `ranks` ranks holds of a decoder. KV heads that do not suffice are held by several ranks each.

    Raises DeadkvError where heads or feed-forward cannot be split evenly.
    """
    for name, size in (("q_heads", config.q_heads), ("intermediate_size", config.intermediate_size)):
        if size % ranks:
            raise DeadkvError(f"tensor parallelism: {name} {size} cannot be split over {ranks} ranks")
    if config.kv_heads % ranks and ranks % config.kv_heads:
        raise DeadkvError(f"tensor parallelism: kv_heads {config.kv_heads} and {ranks} ranks do not divide each other")
    return dataclasses.replace(
        config,
        q_heads=config.q_heads // ranks,
        kv_heads=max(1, config.kv_heads // ranks),
        intermediate_size=config.intermediate_size // ranks,
    )
