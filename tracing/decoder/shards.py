"""A rank's part of a decoder's weights and caches."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from passes.errors import DeadkvError
from tracing.decoder.config import DecoderConfig
from tracing.decoder.model import Decoder


@dataclass(frozen=True)
class _Shard:
    """One rank's share of a whole decoder of `config`."""

    config: DecoderConfig
    rank: int
    ranks: int

    @property
    def q_heads(self) -> list[int]:
        count = self.config.q_heads // self.ranks
        return list(range(self.rank * count, (self.rank + 1) * count))

    @property
    def kv_heads(self) -> list[int]:
        first = self.rank * self.config.kv_heads // self.ranks
        return list(range(first, first + max(1, self.config.kv_heads // self.ranks)))

    def qkv_columns(self, weight: Tensor) -> Tensor:
        q, kv = self.config.q_heads, self.config.kv_heads
        heads = self.q_heads + [q + head for head in self.kv_heads] + [q + kv + head for head in self.kv_heads]
        return weight.reshape(-1, q + 2 * kv, self.config.head_dim)[:, heads].flatten(1)

    def out_rows(self, weight: Tensor) -> Tensor:
        return weight.reshape(self.config.q_heads, self.config.head_dim, -1)[self.q_heads].flatten(0, 1)

    def rows(self, weight: Tensor) -> Tensor:
        return weight.chunk(self.ranks, 0)[self.rank]

    def columns(self, weight: Tensor) -> Tensor:
        return weight.chunk(self.ranks, 1)[self.rank]

    def pool_heads(self, pool: Tensor) -> Tensor:
        return pool[..., self.kv_heads, :]


# By what the parameter's name holds; a parameter of any other name is whole on every rank.
_PARTS: tuple[tuple[str, Callable[[_Shard, Tensor], Tensor]], ...] = (
    ("self_attn.W_qkv", _Shard.qkv_columns),
    ("self_attn.W_out", _Shard.out_rows),
    ("mlp.gate_proj", _Shard.rows),
    ("mlp.up_proj", _Shard.rows),
    ("mlp.down_proj", _Shard.columns),
    ("past_key_values", _Shard.pool_heads),
)


def load_shard(decoder: Decoder, whole: Decoder, rank: int) -> None:
    """Copy what rank `rank` holds of `whole`, weights and caches, into `decoder`, one rank of the same decoder.

    Raises DeadkvError for a rank that there is not, or a decoder on meta.
    """
    ranks = decoder.variant.tensor_parallel
    if not 0 <= rank < ranks:
        raise DeadkvError(f"rank {rank} of {ranks}: give 0 to {ranks - 1}")
    decoder.check_storage()
    whole.check_storage()
    shard = _Shard(whole.config, rank, ranks)
    for name, parameter in decoder.named_parameters():
        part = next((part for key, part in _PARTS if key in name), lambda _, tensor: tensor)
        parameter.copy_(part(shard, whole.get_parameter(name)))
