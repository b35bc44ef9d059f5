"""Rotary position embedding: the frequencies of a config, and the cosines and sines of a step."""

import math

import torch
from torch import Tensor, nn

from tracing.decoder.config import DecoderConfig, RopeScaling


def rotary_frequencies(config: DecoderConfig) -> Tensor:
    """Radians a position for each pair of head elements, `[head_dim / 2]` float32 (arXiv:2104.09864)."""
    exponent = torch.arange(0, config.head_dim, 2, dtype=torch.float32, device="cpu") / config.head_dim
    frequencies = 1.0 / config.rope_theta**exponent
    return frequencies if config.rope_scaling is None else _stretched(frequencies, config.rope_scaling)


def _stretched(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    turns = scaling.original_max_positions * frequencies / (2 * math.pi)
    kept = (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor)
    kept = kept.clamp(0.0, 1.0)
    return frequencies * (kept + (1.0 - kept) / scaling.factor)


class RotaryEmbedding(nn.Module):
    """Holds the frequencies as a buffer, since a tracer must not bake them into the graph as a constant."""

    inv_freq: Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("inv_freq", torch.empty(config.head_dim // 2), persistent=False)

    def reset_buffers(self) -> None:
        self.inv_freq.copy_(rotary_frequencies(self.config))

    def forward(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of `position_ids [B, S]`, each `[B, S, head_dim / 2]` float32."""
        angles = position_ids.to(torch.float32).unsqueeze(-1) * self.inv_freq
        return angles.cos(), angles.sin()
