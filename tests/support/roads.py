"""Models for the tests of the integrations: the reference decoder, and one that is not ours."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, StaticCache

from tracing.decoder import Decoder, build_decoder, random_caches, random_inputs, random_weights


def decoder_step(variant: str, batch: int = 2) -> tuple[Decoder, tuple[Tensor, ...]]:
    """A one-layer decoder with random weights and caches, and inputs for one step of it."""
    decoder = build_decoder("tiny", variant, layers=1, batch=batch, bucket=64, dtype=torch.float32, device="cpu")
    random_weights(decoder, seed=0)
    random_caches(decoder, seed=0)
    return decoder, random_inputs(decoder, 0, padded=False)


class StaticCacheStep(nn.Module):
    """One decoding step of a transformers Llama over a static cache: no block table, so nothing to prune."""

    def __init__(self) -> None:
        super().__init__()
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_attention_heads": 2, "vocab_size": 32}
        torch.default_generator.manual_seed(0)
        self.model = LlamaForCausalLM(LlamaConfig(num_hidden_layers=1, **sizes)).eval()  # type: ignore[arg-type]
        cache = StaticCache(self.model.config, max_cache_len=8)
        cache.early_initialization(2, 2, 8, torch.float32, torch.device("cpu"))
        self.cache = cache
        self.requires_grad_(False)

    def forward(self, tokens: Tensor, position: Tensor) -> Tensor:
        """Logits, [batch, 1, vocabulary], of the next token."""
        result = self.model(tokens, past_key_values=self.cache, cache_position=position, position_ids=position[None])
        logits: Tensor = result.logits
        return logits


def static_cache_step() -> tuple[StaticCacheStep, tuple[Tensor, ...]]:
    """The model and inputs for its first step."""
    return StaticCacheStep(), (torch.tensor([[1], [2]]), torch.tensor([0]))


def caches(decoder: Decoder) -> list[Tensor]:
    """The pools as they are now."""
    return [parameter.detach().clone() for parameter in decoder.aliases()]


def same(found: Sequence[Tensor], expected: Sequence[Tensor]) -> bool:
    """Whether all tensors are bit-equal."""
    return len(found) == len(expected) and all(map(torch.equal, found, expected))
