"""What NxD Inference's configuration says about the gates, and the combinations of flags that it refuses.

The constraints are those of neuronx-distributed-inference, `models/config.py`. Nothing is held against a flag that the
configuration does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from passes.errors import DeadkvError
from passes.neuron_flags import Answer, NeuronFlags, all_of, any_of, negated, read_flags

_BLOCK_TKG, _UPDATE = "attn_block_tkg_nki_kernel_enabled", "attn_block_tkg_nki_kernel_cache_update"
_CASCADED = "attn_block_tkg_nki_kernel_cascaded_attention"


def _has_alias(flags: NeuronFlags) -> bool:
    """A deprecated flag that turns block-TKG attention on."""
    names = ("attn_tkg_nki_kernel_enabled", "attn_tkg_builtin_kernel_enabled")
    return any(flags.is_on(name) is True for name in names)


def _has_block_tkg(flags: NeuronFlags) -> Answer:
    return True if _has_alias(flags) else flags.is_on(_BLOCK_TKG)


def _is_chunked_prefill(flags: NeuronFlags) -> Answer:
    """Either flag decides, for one is derived from the other."""
    found = [flags.is_on(name) for name in ("is_chunked_prefill", "chunked_prefill_config")]
    known = [answer for answer in found if answer is not None]
    return any(known) if known else None


def _is_data_parallel(flags: NeuronFlags) -> Answer:
    degree = flags.number("attention_dp_degree")
    return None if degree is None else degree > 1


GATE_FACTS: Mapping[str, Callable[[NeuronFlags], Answer]] = {
    "prefix_caching": lambda f: f.is_on("is_prefix_caching"),
    "block_kv_layout": lambda f: f.is_on("is_block_kv_layout"),
    "block_tkg_attention": _has_block_tkg,
    "kv_cache_quantization": lambda f: any_of(f.is_on("kv_cache_quant"), f.is_on("kv_quant_config")),
    "chunked_or_windowed_attention": lambda f: any_of(
        _is_chunked_prefill(f), f.is_on("sliding_window"), f.is_on("attention_chunk_size"),
        f.is_on("windowed_context_encoding_size"),
    ),
    "seq_ids_mask_cache_update": lambda f: all_of(f.is_on("apply_seq_ids_mask"), f.is_on(_UPDATE)),
    "block_cache_manager": lambda f: all_of(f.is_on("is_block_kv_layout"), negated(_is_data_parallel(f))),
}  # fmt: skip
"""Each field of TkgContext that the flags decide. NxDI picks the data-parallel cache manager before the block one."""


Rule = Callable[[NeuronFlags], Answer]


def _excludes(one: Rule | str, other: Rule | str) -> Rule:
    return lambda flags: all_of(_ask(one, flags), _ask(other, flags))


def _needs(one: Rule | str, *others: Rule | str) -> Rule:
    """Violated if `one` is on and all of `others` are off."""
    return lambda flags: all_of(_ask(one, flags), negated(any_of(*(_ask(other, flags) for other in others))))


def _ask(rule: Rule | str, flags: NeuronFlags) -> Answer:
    return flags.is_on(rule) if isinstance(rule, str) else rule(flags)


def _only_one_size(flags: NeuronFlags) -> Answer:
    sizes = ("pa_num_blocks", "pa_block_size")
    return any(flags.has_none(name) for name in sizes) and any(flags.number(name) is not None for name in sizes)


def _fused_speculation_with_window(flags: NeuronFlags) -> Answer:
    return all_of(flags.is_on("enable_fused_speculation"), flags.is_on("sliding_window"))


def _without_alias(flags: NeuronFlags) -> Answer:
    return False if _has_alias(flags) else flags.is_on(_BLOCK_TKG)


CONSTRAINTS: tuple[tuple[str, Rule], ...] = (
    ("is_prefix_caching needs is_block_kv_layout", _needs("is_prefix_caching", "is_block_kv_layout")),
    ("chunked prefill needs is_block_kv_layout", _needs(_is_chunked_prefill, "is_block_kv_layout")),
    ("is_chunked_prefill needs chunked_prefill_config", _needs("is_chunked_prefill", "chunked_prefill_config")),
    ("chunked_prefill_config turns is_chunked_prefill on", _needs("chunked_prefill_config", "is_chunked_prefill")),
    ("pa_num_blocks and pa_block_size must both be set", _only_one_size),
    ("is_block_kv_layout excludes k_cache_transposed", _excludes("is_block_kv_layout", "k_cache_transposed")),
    ("is_block_kv_layout excludes token_generation_batches",
     _excludes("is_block_kv_layout", "token_generation_batches")),
    ("is_prefix_caching excludes token_generation_batches", _excludes("is_prefix_caching", "token_generation_batches")),
    (f"{_BLOCK_TKG} needs qkv_kernel_enabled or qkv_nki_kernel_enabled",
     _needs(_without_alias, "qkv_kernel_enabled", "qkv_nki_kernel_enabled")),
    (f"{_BLOCK_TKG} excludes flash_decoding_enabled", _excludes(_has_block_tkg, "flash_decoding_enabled")),
    (f"{_BLOCK_TKG} excludes chunked prefill", _excludes(_has_block_tkg, _is_chunked_prefill)),
    (f"{_UPDATE} needs {_BLOCK_TKG}", _needs(_UPDATE, _has_block_tkg)),
    (f"{_UPDATE} turns kv_cache_tiling off", _excludes(_UPDATE, "kv_cache_tiling")),
    (f"{_UPDATE} with attention_dp_degree above 1 needs kv_cache_update_with_kernel",
     _needs(_excludes(_UPDATE, _is_data_parallel), "kv_cache_update_with_kernel")),
    (f"{_CASCADED} needs {_BLOCK_TKG}", _needs(_CASCADED, _has_block_tkg)),
    ("fused speculation with a sliding window needs block-TKG attention",
     _needs(_fused_speculation_with_window, _has_block_tkg)),
    (f"fused speculation with a sliding window needs {_CASCADED}", _needs(_fused_speculation_with_window, _CASCADED)),
    ("attention_dp_degree must divide tp_degree", lambda f: negated(f.divides("attention_dp_degree", "tp_degree"))),
    ("attention_dp_degree must divide tkg_batch_size",
     lambda f: all_of(_is_data_parallel(f), negated(f.divides("attention_dp_degree", "tkg_batch_size")))),
    ("attention_dp_degree above 1 needs is_continuous_batching", _needs(_is_data_parallel, "is_continuous_batching")),
)  # fmt: skip
"""What NxDI refuses or cannot run, with the rule that is True where it is violated."""


def gate_facts(config: object) -> dict[str, Answer]:
    """What a configuration says about each gate, by field of TkgContext.

    Raises:
        DeadkvError: it has none of the flags, a flag of the wrong type, or flags that exclude each other.
    """
    flags = read_flags(config)
    for constraint, is_violated in CONSTRAINTS:
        if is_violated(flags) is True:
            raise DeadkvError(f"neuron config: {constraint} (NxD Inference, models/config.py); change one of them")
    return {name: fact(flags) for name, fact in GATE_FACTS.items()}
