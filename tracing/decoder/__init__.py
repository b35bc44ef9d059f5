"""The reference decoder: a Llama/Qwen3-style model over a paged KV cache, in the variants that get traced."""

from tracing.decoder import contract as _contract  # noqa: F401  (registers the op's read-set contract)
from tracing.decoder.attention_op import operands_read, operands_written
from tracing.decoder.attention_reference import (
    attention_block_tkg_cache_update_reference,
    attention_block_tkg_reference,
)
from tracing.decoder.build import build_decoder
from tracing.decoder.checkpoint import load_safetensors_folder
from tracing.decoder.config import PRESETS, DecoderConfig, RopeScaling
from tracing.decoder.inputs import random_caches, random_inputs
from tracing.decoder.model import Decoder
from tracing.decoder.variants import VARIANTS, Variant
from tracing.decoder.weights import load_hf_state_dict, random_weights

__all__ = [
    "PRESETS",
    "VARIANTS",
    "Decoder",
    "DecoderConfig",
    "RopeScaling",
    "Variant",
    "attention_block_tkg_cache_update_reference",
    "attention_block_tkg_reference",
    "build_decoder",
    "load_hf_state_dict",
    "load_safetensors_folder",
    "operands_read",
    "operands_written",
    "random_caches",
    "random_inputs",
    "random_weights",
]
