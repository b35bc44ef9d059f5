"""The root-mean-square norm as a module."""

import torch
from torch import Tensor, nn

from tracing.decoder.config import DecoderConfig
from tracing.decoder.functional import rms_norm


class RMSNorm(nn.Module):
    """RMS norm over the last dimension with a learned weight."""

    def __init__(self, size: int, config: DecoderConfig) -> None:
        super().__init__()
        self.eps = config.rms_norm_eps
        self.weight = nn.Parameter(torch.empty(size, dtype=config.dtype))

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.weight, self.eps)
