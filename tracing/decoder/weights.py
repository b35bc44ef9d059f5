"""Weights of a decoder: from a Hugging Face state dict, from a folder of safetensors, or random."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from passes.errors import DeadkvError
from tracing.decoder.attention import Attention
from tracing.decoder.config import DecoderConfig
from tracing.decoder.layer import DecoderLayer
from tracing.decoder.model import Decoder

Shape = tuple[int, ...]


@dataclass(frozen=True)
class _Target:
    """A parameter and the Hugging Face tensors it is made of: stacked along dimension 0, then transposed."""

    parameter: Tensor
    parts: Mapping[str, Shape]
    transposed: bool = False


def load_hf_state_dict(decoder: Decoder, state_dict: Mapping[str, Tensor]) -> None:
    """Copy the weights of a transformers LlamaForCausalLM or Qwen3ForCausalLM into the decoder, cast to its dtype.

    Raises DeadkvError, before anything is written, for a tensor that is missing, unexpected or misshapen.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    load_tensors(decoder, shapes, state_dict.__getitem__)


def load_tensors(decoder: Decoder, shapes: Mapping[str, Shape], fetch: Callable[[str], Tensor]) -> None:
    """As `load_hf_state_dict`, from a source that knows all shapes and fetches one tensor at a time."""
    decoder.check_storage()
    targets = list(_targets(decoder))
    _check_names_and_shapes(targets, shapes, decoder.config)
    _check_tie(decoder.config, shapes, fetch)
    for target in _shown(targets, "Loading weights"):
        _fill(target, fetch)


def _fill(target: _Target, fetch: Callable[[str], Tensor]) -> None:
    rows = target.parameter.t() if target.transposed else target.parameter
    heights = [shape[0] for shape in target.parts.values()]
    for part, name in zip(torch.split(rows, heights), target.parts, strict=True):
        part.copy_(fetch(name))


def random_weights(decoder: Decoder, seed: int) -> None:
    """Fill every weight from one seed: norms around 1, the rest with variance 1 / hidden_size. Pools stay.

    Raises DeadkvError for a decoder on meta.
    """
    decoder.check_storage()
    generator = torch.Generator().manual_seed(seed)
    scale = decoder.config.hidden_size**-0.5
    targets = [target for part in decoder.decoders() for target in _targets(part)]
    for target in _shown(targets, "Randomizing weights"):
        noise = torch.randn(target.parameter.shape, generator=generator) * scale
        target.parameter.copy_(noise + 1 if target.parameter.ndim == 1 else noise)


def _shown(targets: list[_Target], what: str) -> Iterable[_Target]:
    """The targets, with a progress bar on a terminal."""
    console = Console(stderr=True)
    return track(targets, what, console=console, transient=True, disable=not console.is_terminal)


def _targets(decoder: Decoder) -> Iterator[_Target]:
    config = decoder.config
    vocabulary = (config.vocab_size, config.hidden_size)
    yield _Target(decoder.embed_tokens.weight, {_EMBEDDING: vocabulary})
    for index, layer in enumerate(decoder.layers):
        assert isinstance(layer, DecoderLayer)
        yield from _layer_targets(layer, f"model.layers.{index}", config)
    yield _Target(decoder.norm.weight, {"model.norm.weight": (config.hidden_size,)})
    if decoder.lm_head is not None:
        yield _Target(decoder.lm_head.weight, {_HEAD: vocabulary})


_EMBEDDING = "model.embed_tokens.weight"
_HEAD = "lm_head.weight"


def _layer_targets(layer: DecoderLayer, prefix: str, config: DecoderConfig) -> Iterator[_Target]:
    hidden, wide = config.hidden_size, config.intermediate_size
    yield _Target(layer.input_layernorm.weight, {f"{prefix}.input_layernorm.weight": (hidden,)})
    yield from _attention_targets(layer.self_attn, f"{prefix}.self_attn", config)
    yield _Target(layer.post_attention_layernorm.weight, {f"{prefix}.post_attention_layernorm.weight": (hidden,)})
    yield _Target(layer.mlp.gate_proj.weight, {f"{prefix}.mlp.gate_proj.weight": (wide, hidden)})
    yield _Target(layer.mlp.up_proj.weight, {f"{prefix}.mlp.up_proj.weight": (wide, hidden)})
    yield _Target(layer.mlp.down_proj.weight, {f"{prefix}.mlp.down_proj.weight": (hidden, wide)})


def _attention_targets(attention: Attention, prefix: str, config: DecoderConfig) -> Iterator[_Target]:
    q_width, kv_width = config.q_heads * config.head_dim, config.kv_heads * config.head_dim
    widths = {"q_proj": q_width, "k_proj": kv_width, "v_proj": kv_width}
    qkv = {f"{prefix}.{name}.weight": (width, config.hidden_size) for name, width in widths.items()}
    yield _Target(attention.W_qkv, qkv, transposed=True)
    yield _Target(attention.W_out, {f"{prefix}.o_proj.weight": (config.hidden_size, q_width)}, transposed=True)
    for name, norm in (("q_norm", attention.q_norm), ("k_norm", attention.k_norm)):
        if norm is not None:
            yield _Target(norm.weight, {f"{prefix}.{name}.weight": (config.head_dim,)})


def _check_names_and_shapes(targets: list[_Target], shapes: Mapping[str, Shape], config: DecoderConfig) -> None:
    expected = {name: shape for target in targets for name, shape in target.parts.items()}
    for name, shape in expected.items():
        if name not in shapes:
            raise DeadkvError(f"weights: tensor {name} of shape {list(shape)} is missing")
        if shapes[name] != shape:
            raise DeadkvError(f"weights: tensor {name} has shape {list(shapes[name])}, the decoder needs {list(shape)}")
    if config.tied_embeddings:
        expected[_HEAD] = expected[_EMBEDDING]
    for name, shape in shapes.items():
        if name not in expected:
            raise DeadkvError(
                f"weights: tensor {name} of shape {list(shape)} has no place in a decoder of "
                f"{config.layers} layers {'with' if config.qk_norm else 'without'} QK norm"
            )


def _check_tie(config: DecoderConfig, shapes: Mapping[str, Shape], fetch: Callable[[str], Tensor]) -> None:
    if not config.tied_embeddings or _HEAD not in shapes:
        return
    if not torch.equal(fetch(_HEAD), fetch(_EMBEDDING)):
        raise DeadkvError(
            f"weights: {_HEAD} {list(shapes[_HEAD])} differs from {_EMBEDDING} {list(shapes[_EMBEDDING])}, "
            "but this decoder ties them"
        )
