"""Build a decoder from a preset and a variant."""

import dataclasses

import torch

from passes.errors import DeadkvError
from tracing.decoder.config import DecoderConfig, resolve_preset
from tracing.decoder.fused import FusedDecoder
from tracing.decoder.model import Decoder
from tracing.decoder.parallel import rank_config
from tracing.decoder.seq_ids import SeqIdsDecoder
from tracing.decoder.variants import Variant, resolve_variant


def build_decoder(
    preset: str | DecoderConfig,
    variant: str | Variant = "base",
    *,
    layers: int | None = None,
    batch: int = 1,
    bucket: int = 1024,
    dtype: torch.dtype | None = None,
    device: str = "meta",
) -> Decoder:
    """A decoder in eval mode whose parameters need no gradient.

    preset: a name in PRESETS or a config; `layers` and `dtype` override it.
    variant: a name in VARIANTS or flags.
    batch: sequences a step. bucket: tokens a sequence may have, a multiple of the block size; the pools hold
    `batch * bucket` tokens.
    device: on "meta" nothing is allocated; elsewhere every weight and pool is zero until loaded or randomized.
    Raises DeadkvError for a value that cannot be used.
    """
    published = resolve_preset(preset)
    config = dataclasses.replace(
        published,
        layers=published.layers if layers is None else layers,
        dtype=published.dtype if dtype is None else dtype,
    )
    flags = resolve_variant(variant)
    config = rank_config(config, flags.tensor_parallel)
    _check_sizes(config, batch, bucket)
    with torch.device("meta"):
        decoder = _decoder_type(flags)(config, flags, batch, bucket).eval().requires_grad_(False)
    return _allocated(decoder, device)


def _decoder_type(variant: Variant) -> type[Decoder]:
    if variant.fused_draft:
        return FusedDecoder
    return SeqIdsDecoder if variant.seq_ids_mask else Decoder


def _check_sizes(config: DecoderConfig, batch: int, bucket: int) -> None:
    if batch < 1:
        raise DeadkvError(f"batch must be at least 1, not {batch}")
    if bucket < 1 or bucket % config.block_size:
        raise DeadkvError(f"bucket {bucket} is not a positive multiple of the block size {config.block_size} tokens")


def _allocated(decoder: Decoder, device: str) -> Decoder:
    if device == "meta":
        return decoder
    try:
        decoder.to_empty(device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise DeadkvError(f"the decoder cannot be allocated on device {device!r}: {reason}") from error
    for parameter in decoder.parameters():
        parameter.zero_()
    for part in decoder.decoders():
        part.rotary_emb.reset_buffers()
        part.kv_mgr.reset_constants()
    return decoder
