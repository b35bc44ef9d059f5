"""One decoder layer: attention and feed-forward, each after a norm and added to the residual."""

from torch import Tensor, nn

from tracing.decoder.attention import attention_type
from tracing.decoder.config import DecoderConfig
from tracing.decoder.kv_cache import KeyValue, LayerCache
from tracing.decoder.norm import RMSNorm
from tracing.decoder.parallel import reduction
from tracing.decoder.step import Step
from tracing.decoder.variants import Variant


class MLP(nn.Module):
    """SwiGLU feed-forward (Shazeer, arXiv:2002.05202)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.gate_proj = linear(config.hidden_size, config.intermediate_size, config)
        self.up_proj = linear(config.hidden_size, config.intermediate_size, config)
        self.down_proj = linear(config.intermediate_size, config.hidden_size, config)

    def forward(self, x: Tensor) -> Tensor:
        gated: Tensor = self.down_proj(nn.functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return gated


class DecoderLayer(nn.Module):
    """Attention and MLP, each after a norm, reduced over the ranks and added to the residual."""

    def __init__(self, config: DecoderConfig, variant: Variant, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config)
        self.self_attn = attention_type(variant)(config, variant, layer)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config)
        self.mlp = MLP(config)
        self.reduce = reduction(variant)

    def forward(self, hidden: Tensor, step: Step, cache: LayerCache) -> tuple[Tensor, KeyValue | None]:
        attended, new_key_value = self.self_attn(hidden, self.input_layernorm, step, cache)
        hidden = hidden + self.reduce(attended)
        return hidden + self.reduce(self.mlp(self.post_attention_layernorm(hidden))), new_key_value


def linear(inputs: int, outputs: int, config: DecoderConfig) -> nn.Linear:
    """A projection without bias, in the decoder's dtype."""
    return nn.Linear(inputs, outputs, bias=False, dtype=config.dtype)
