"""Inputs of a decoder: their names and shapes, and realistic random ones that run on the CPU."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tracing.decoder.variants import Variant

if TYPE_CHECKING:
    from tracing.decoder.model import Decoder


def input_shapes(variant: Variant, batch: int, bucket: int, block_size: int) -> dict[str, tuple[int, ...]]:
    """Shape of each input of a variant, in the order of `Decoder.forward`'s arguments."""
    tokens = (batch, variant.given_tokens if variant.token_generation else bucket)
    shapes: dict[str, tuple[int, ...]] = {
        "input_ids": tokens,
        "attention_mask": (batch, bucket),
        "position_ids": tokens,
        "slot_mapping": (batch, variant.active_tokens if variant.token_generation else bucket),
        "active_block_table": (batch, bucket // block_size) if variant.prefix else (1,),
    }
    if variant.seq_ids_mask:
        shapes["seq_ids"] = (batch,)
    if not variant.token_generation:
        shapes["num_queries"] = (batch, 1)
        if variant.prefix:
            shapes["computed_context_lens"] = (batch, 1)
    return shapes


def random_inputs(decoder: "Decoder", seed: int, *, padded: bool) -> tuple[Tensor, ...]:
    """Random int32 inputs on the CPU: ragged lengths, blocks in random order, slots and masks that agree.

    padded=True pads each row of the block table as in production (`Variant.table_padding`), and leaves every
    row at least one unused entry where the bucket has more than one block. padded=False fills every row with
    valid blocks, so that a gather of the whole table is in range too.
    """
    variant, batch, bucket = decoder.variant, decoder.batch, decoder.bucket
    block_size = decoder.config.block_size
    generator = torch.Generator().manual_seed(seed)
    blocks = _blocks(variant, batch * bucket // block_size, generator).reshape(batch, -1)
    limit = bucket - block_size if padded and bucket - block_size >= variant.active_tokens else bucket
    context, queries = _lengths(variant, batch, limit, block_size, generator)
    tokens = torch.arange(variant.active_tokens if variant.token_generation else bucket)
    positions = context + tokens
    used = (context + queries + block_size - 1) // block_size
    table = blocks.where(torch.arange(blocks.shape[1]) < used, variant.table_padding) if padded else blocks
    given = positions[:, : variant.given_tokens] if variant.token_generation else positions
    values = {
        "input_ids": torch.randint(decoder.config.vocab_size, given.shape, generator=generator),
        "attention_mask": torch.arange(bucket) < (context if variant.reads_cache else queries),
        "position_ids": given,
        "slot_mapping": _slots(blocks, positions, block_size).where(tokens < queries, -1),
        "active_block_table": table if variant.prefix else torch.zeros(1),
        "num_queries": queries,
        "computed_context_lens": context,
        "seq_ids": torch.arange(batch),
    }
    return tuple(values[name].to(torch.int32) for name in decoder.input_names)


def random_caches(decoder: "Decoder", seed: int) -> None:
    """Fill the decoder's pools with normal noise, as if other sequences had used every block."""
    decoder.check_storage()
    generator = torch.Generator().manual_seed(seed)
    for pool in decoder.aliases():
        pool.copy_(torch.randn(pool.shape, generator=generator))


def _blocks(variant: Variant, count: int, generator: torch.Generator) -> Tensor:
    """All blocks in the order in which sequences own them: any order, except in a contiguous cache."""
    return torch.arange(count) if variant.flat_layout else torch.randperm(count, generator=generator)


def _lengths(
    variant: Variant, batch: int, limit: int, block_size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cached and new tokens of each sequence, `[B, 1]` each, at most `limit` together."""
    if variant.token_generation:
        longest = limit - variant.active_tokens
        context = torch.randint(min(1, longest), longest + 1, (batch, 1), generator=generator)
        return context, torch.full_like(context, variant.active_tokens)
    blocks = torch.randint(limit // block_size, (batch, 1), generator=generator)
    context = blocks * block_size if variant.prefix else torch.zeros_like(blocks)
    fraction = torch.rand(batch, 1, generator=generator)
    return context, 1 + (fraction * (limit - context)).to(torch.int64)


def _slots(blocks: Tensor, positions: Tensor, block_size: int) -> Tensor:
    inside = positions.clamp(max=blocks.shape[1] * block_size - 1)
    return blocks.gather(1, inside // block_size) * block_size + inside % block_size
