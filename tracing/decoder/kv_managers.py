"""Which cache manager a variant needs."""

from collections.abc import Mapping
from types import MappingProxyType

from tracing.decoder.config import DecoderConfig
from tracing.decoder.kv_cache import BlockKVCacheManager, KVCacheManager
from tracing.decoder.kv_layouts import ChunkedPrefillKVCacheManager, FlatKVCacheManager, TiledKVCacheManager
from tracing.decoder.kv_quantized import QuantizedKVCacheManager
from tracing.decoder.scan import StackedKVCacheManager
from tracing.decoder.variants import Variant

_BLOCK_MANAGERS: Mapping[str, type[BlockKVCacheManager]] = MappingProxyType(
    {"block": BlockKVCacheManager, "tiled": TiledKVCacheManager, "chunked": ChunkedPrefillKVCacheManager}
)


def cache_manager(config: DecoderConfig, variant: Variant, batch: int, bucket: int) -> KVCacheManager:
    """The manager of caches for `batch` sequences of up to `bucket` tokens, a multiple of the block size."""
    if variant.flat_layout:
        return FlatKVCacheManager(config, batch, bucket)
    blocks = bucket // config.block_size
    if variant.scan:
        return StackedKVCacheManager(config, num_blocks=batch * blocks)
    manager = QuantizedKVCacheManager if variant.quantized_cache else _BLOCK_MANAGERS[variant.layout]
    return manager(config, num_blocks=batch * blocks, blocks_per_sequence=blocks)
