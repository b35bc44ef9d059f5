"""What a decoder is made of, and the published dimensions of the models that are traced most."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch

from passes.errors import DeadkvError


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3 frequency scaling: long wavelengths are stretched by `factor`, short ones kept, others blended.

    The bounds are counted in turns that a frequency makes over `original_max_positions` tokens.
    """

    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192

    def __post_init__(self) -> None:
        if self.low_freq_factor >= self.high_freq_factor:
            raise DeadkvError(
                f"rope scaling: low_freq_factor {self.low_freq_factor} must be below "
                f"high_freq_factor {self.high_freq_factor}"
            )


@dataclass(frozen=True)
class DecoderConfig:
    """Dimensions of a Llama-style decoder. Sizes count elements, `block_size` counts tokens.

    Raises DeadkvError for sizes that no such decoder can have.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    q_heads: int
    kv_heads: int
    head_dim: int
    rope_theta: float
    rope_scaling: RopeScaling | None = None
    rms_norm_eps: float = 1e-5
    tied_embeddings: bool = False
    qk_norm: bool = False
    dtype: torch.dtype = torch.bfloat16
    block_size: int = 32

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise DeadkvError(f"decoder config: {name} must be at least 1, not {getattr(self, name)}")
        if self.q_heads % self.kv_heads:
            raise DeadkvError(f"decoder config: q_heads {self.q_heads} is not a multiple of kv_heads {self.kv_heads}")
        if self.head_dim % 2:
            raise DeadkvError(f"decoder config: head_dim {self.head_dim} must be even for rotary embedding")
        if not self.dtype.is_floating_point:
            raise DeadkvError(f"decoder config: dtype {self.dtype} is not a floating-point type")


_SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "layers",
    "q_heads",
    "kv_heads",
    "head_dim",
    "block_size",
)

# From each model's config.json on the Hugging Face hub (meta-llama/*, Qwen/Qwen3-8B).
PRESETS: Mapping[str, DecoderConfig] = MappingProxyType(
    {
        "tiny": DecoderConfig(
            vocab_size=256,
            hidden_size=64,
            intermediate_size=128,
            layers=2,
            q_heads=4,
            kv_heads=2,
            head_dim=16,
            rope_theta=10_000.0,
            dtype=torch.float32,
            block_size=8,
        ),
        "llama-3.2-1b": DecoderConfig(
            vocab_size=128_256,
            hidden_size=2048,
            intermediate_size=8192,
            layers=16,
            q_heads=32,
            kv_heads=8,
            head_dim=64,
            rope_theta=500_000.0,
            rope_scaling=RopeScaling(factor=32.0),
            tied_embeddings=True,
        ),
        "llama-3.1-8b": DecoderConfig(
            vocab_size=128_256,
            hidden_size=4096,
            intermediate_size=14_336,
            layers=32,
            q_heads=32,
            kv_heads=8,
            head_dim=128,
            rope_theta=500_000.0,
            rope_scaling=RopeScaling(factor=8.0),
        ),
        "llama-3.1-70b": DecoderConfig(
            vocab_size=128_256,
            hidden_size=8192,
            intermediate_size=28_672,
            layers=80,
            q_heads=64,
            kv_heads=8,
            head_dim=128,
            rope_theta=500_000.0,
            rope_scaling=RopeScaling(factor=8.0),
        ),
        "llama-3.1-405b": DecoderConfig(
            vocab_size=128_256,
            hidden_size=16_384,
            intermediate_size=53_248,
            layers=126,
            q_heads=128,
            kv_heads=8,
            head_dim=128,
            rope_theta=500_000.0,
            rope_scaling=RopeScaling(factor=8.0),
        ),
        "qwen3-8b": DecoderConfig(
            vocab_size=151_936,
            hidden_size=4096,
            intermediate_size=12_288,
            layers=36,
            q_heads=32,
            kv_heads=8,
            head_dim=128,
            rope_theta=1_000_000.0,
            rms_norm_eps=1e-6,
            qk_norm=True,
        ),
    }
)


def resolve_preset(preset: str | DecoderConfig) -> DecoderConfig:
    """The config of a preset name, or the config itself. Raises DeadkvError for a name that is no preset."""
    if isinstance(preset, DecoderConfig):
        return preset
    if preset not in PRESETS:
        raise DeadkvError(f"unknown model preset {preset!r}: choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]
