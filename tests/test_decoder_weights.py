"""Weights from state dicts and checkpoint folders land where they belong, and what does not fit is named."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from passes.errors import DeadkvError
from tracing.decoder import (
    PRESETS,
    Decoder,
    DecoderConfig,
    build_decoder,
    load_hf_state_dict,
    load_safetensors_folder,
    random_caches,
    random_inputs,
    random_weights,
)

CONFIG = dataclasses.replace(PRESETS["tiny"], layers=1, qk_norm=True)
TIED = dataclasses.replace(CONFIG, tied_embeddings=True)
Q_PROJ = "model.layers.0.self_attn.q_proj.weight"
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def make(config: DecoderConfig = CONFIG) -> Decoder:
    return build_decoder(config, bucket=32, device="cpu")


def checkpoint(config: DecoderConfig = CONFIG) -> dict[str, Tensor]:
    """A random state dict under Hugging Face names."""
    hidden, wide, d = config.hidden_size, config.intermediate_size, config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (config.vocab_size, hidden),
        "model.norm.weight": (hidden,),
    }
    if not config.tied_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}"
        shapes |= {
            f"{prefix}.input_layernorm.weight": (hidden,),
            f"{prefix}.self_attn.q_proj.weight": (config.q_heads * d, hidden),
            f"{prefix}.self_attn.k_proj.weight": (config.kv_heads * d, hidden),
            f"{prefix}.self_attn.v_proj.weight": (config.kv_heads * d, hidden),
            f"{prefix}.self_attn.o_proj.weight": (hidden, config.q_heads * d),
            f"{prefix}.self_attn.q_norm.weight": (d,),
            f"{prefix}.self_attn.k_norm.weight": (d,),
            f"{prefix}.post_attention_layernorm.weight": (hidden,),
            f"{prefix}.mlp.gate_proj.weight": (wide, hidden),
            f"{prefix}.mlp.up_proj.weight": (wide, hidden),
            f"{prefix}.mlp.down_proj.weight": (hidden, wide),
        }
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def save_single(folder: Path, tensors: dict[str, Tensor]) -> None:
    save_file(tensors, folder / SINGLE)


def save_sharded(folder: Path, tensors: dict[str, Tensor]) -> None:
    shard_of = {name: f"model-{index % 3:05d}-of-00003.safetensors" for index, name in enumerate(tensors)}
    for shard in set(shard_of.values()):
        save_file({name: tensors[name] for name in tensors if shard_of[name] == shard}, folder / shard)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))


def snapshot(decoder: Decoder) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in decoder.state_dict().items()}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def refusal(act: Callable[[], None], decoder: Decoder) -> str:
    """The message of the DeadkvError that `act` raises, which must be one line and leave the decoder as it was."""
    before = snapshot(decoder)
    with pytest.raises(DeadkvError) as error:
        act()
    assert same(before, snapshot(decoder))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_projections_are_fused_in_the_layout_of_the_op() -> None:
    decoder, tensors = make(), checkpoint()
    load_hf_state_dict(decoder, tensors)
    attention = decoder.layers[0].self_attn
    q, k, v = attention.W_qkv.split([64, 32, 32], dim=1)
    for ours, name in ((q, "q_proj"), (k, "k_proj"), (v, "v_proj"), (attention.W_out, "o_proj")):
        assert torch.equal(ours, tensors[f"model.layers.0.self_attn.{name}.weight"].t())


@pytest.mark.parametrize("config", [CONFIG, TIED], ids=["untied", "tied"])
@pytest.mark.parametrize("save", [save_single, save_sharded])
def test_folder_equals_state_dict(
    tmp_path: Path, config: DecoderConfig, save: Callable[[Path, dict[str, Tensor]], None]
) -> None:
    tensors = checkpoint(config)
    save(tmp_path, tensors)
    from_folder, from_dict = make(config), make(config)
    load_safetensors_folder(from_folder, tmp_path)
    load_hf_state_dict(from_dict, tensors)
    assert same(snapshot(from_folder), snapshot(from_dict))
    written = {name: t for name, t in snapshot(from_folder).items() if not name.startswith("kv_mgr.")}
    assert all(tensor.all() for tensor in written.values())


def test_tensors_are_cast_to_the_decoder() -> None:
    decoder = build_decoder(CONFIG, bucket=32, dtype=torch.bfloat16, device="cpu")
    tensors = checkpoint()
    load_hf_state_dict(decoder, tensors)
    assert torch.equal(decoder.norm.weight, tensors["model.norm.weight"].to(torch.bfloat16))


def test_tied_head_may_be_repeated_but_not_differ() -> None:
    tensors = checkpoint(TIED)
    head = tensors["model.embed_tokens.weight"]
    load_hf_state_dict(make(TIED), tensors | {"lm_head.weight": head.clone()})
    decoder = make(TIED)
    message = refusal(lambda: load_hf_state_dict(decoder, tensors | {"lm_head.weight": head + 1}), decoder)
    assert message.startswith("weights: lm_head.weight [256, 64] differs from model.embed_tokens.weight [256, 64]")


def test_missing_tensor_is_named() -> None:
    decoder, tensors = make(), checkpoint()
    del tensors[Q_PROJ]
    message = refusal(lambda: load_hf_state_dict(decoder, tensors), decoder)
    assert message == f"weights: tensor {Q_PROJ} of shape [64, 64] is missing"


def test_misshapen_tensor_is_named_with_both_shapes() -> None:
    decoder, tensors = make(), checkpoint()
    tensors[Q_PROJ] = torch.zeros(64, 63)
    message = refusal(lambda: load_hf_state_dict(decoder, tensors), decoder)
    assert message == f"weights: tensor {Q_PROJ} has shape [64, 63], the decoder needs [64, 64]"


@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias"])
def test_unexpected_tensor_is_named(name: str) -> None:
    decoder, tensors = make(), checkpoint()
    tensors[name] = torch.zeros(64)
    message = refusal(lambda: load_hf_state_dict(decoder, tensors), decoder)
    assert message.startswith(f"weights: tensor {name} of shape [64] has no place in a decoder of 1 layers")


def test_misshapen_tensor_in_a_folder_is_named(tmp_path: Path) -> None:
    decoder, tensors = make(), checkpoint()
    save_single(tmp_path, tensors | {Q_PROJ: torch.zeros(64, 63)})
    message = refusal(lambda: load_safetensors_folder(decoder, tmp_path), decoder)
    assert message == f"weights: tensor {Q_PROJ} has shape [64, 63], the decoder needs [64, 64]"


def drop_folder(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def drop_files(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def drop_shard(folder: Path) -> None:
    (folder / "model-00001-of-00003.safetensors").unlink()


def truncate_shard(folder: Path) -> None:
    shard = folder / "model-00001-of-00003.safetensors"
    shard.write_bytes(shard.read_bytes()[:-8])


def scribble_shard(folder: Path) -> None:
    (folder / "model-00001-of-00003.safetensors").write_bytes(b"not safetensors at all")


def scribble_index(folder: Path) -> None:
    (folder / INDEX).write_text("{")


def empty_index(folder: Path) -> None:
    (folder / INDEX).write_text("{}")


def number_in_index(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {Q_PROJ: 3}}))


def leave_folder_in_index(folder: Path) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": {Q_PROJ: "../elsewhere.safetensors"}}))


def wrong_shard_in_index(folder: Path) -> None:
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"]["model.extra.weight"] = "model-00001-of-00003.safetensors"
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "damage, words",
    [
        (drop_folder, f"has neither {SINGLE} nor {INDEX}"),
        (drop_files, f"has neither {SINGLE} nor {INDEX}"),
        (drop_shard, "model-00001-of-00003.safetensors: not a readable safetensors file"),
        (truncate_shard, "model-00001-of-00003.safetensors: not a readable safetensors file"),
        (scribble_shard, "model-00001-of-00003.safetensors: not a readable safetensors file"),
        (scribble_index, f"{INDEX}: not a safetensors index with a weight_map"),
        (empty_index, f"{INDEX}: not a safetensors index with a weight_map"),
        (number_in_index, f"{INDEX}: weight_map must map tensor names to names of files in the same folder"),
        (
            leave_folder_in_index,
            f"{INDEX}: weight_map must map tensor names to names of files in the same folder",
        ),
        (wrong_shard_in_index, "model-00001-of-00003.safetensors: tensor model.extra.weight is missing"),
    ],
)
def test_damaged_folder_is_refused(tmp_path: Path, damage: Callable[[Path], None], words: str) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_sharded(folder, checkpoint())
    damage(folder)
    decoder = make()
    message = refusal(lambda: load_safetensors_folder(decoder, folder), decoder)
    assert words in message
    assert str(folder) in message


@pytest.mark.parametrize("act", [random_weights, random_caches])
def test_decoder_without_storage_is_refused(act: Callable[[Decoder, int], None]) -> None:
    with pytest.raises(DeadkvError, match="device meta"):
        act(build_decoder(CONFIG), 0)
    with pytest.raises(DeadkvError, match="device meta"):
        load_hf_state_dict(build_decoder(CONFIG), checkpoint())


def test_random_weights_follow_their_seed_and_leave_the_pools() -> None:
    first, again, other = make(), make(), make()
    for decoder, seed in ((first, 0), (again, 0), (other, 1)):
        random_weights(decoder, seed)
    assert same(snapshot(first), snapshot(again))
    assert not same(snapshot(first), snapshot(other))
    assert not any(pool.any() for pool in first.aliases())
    assert all(p.any() for name, p in first.named_parameters() if not name.startswith("kv_mgr."))


def test_random_decoder_is_not_degenerate() -> None:
    decoder = make()
    random_weights(decoder, 0)
    random_caches(decoder, 1)
    logits, *_ = decoder(*random_inputs(decoder, 2, padded=False))
    assert logits.std() > 0.1
