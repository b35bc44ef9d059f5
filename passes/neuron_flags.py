"""Reads NxD Inference's flags off whatever holds them: a configuration object, one around it, or a mapping.

Names and meanings are those of neuronx-distributed-inference, `models/config.py`. An object that leaves a flag out says
nothing about it: NxDI sets every flag that its release knows, so a missing one is unknown, not at its default.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from passes.errors import DeadkvError

Answer = bool | None
"""True, False, or None for unknown."""

_ABSENT = object()


def _is_bool(value: object) -> bool:
    return isinstance(value, bool) or value is None


def _is_count(value: object) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)


def _is_list(value: object) -> bool:
    return value is None or (isinstance(value, (list, tuple)) and all(_is_count(item) for item in value))


def _is_config(value: object) -> bool:
    return value is None or isinstance(value, Mapping) or hasattr(value, "__dict__")


Check = Callable[[object], bool]
_FLAG, _COUNT, _LIST, _CONFIG = (
    ("True or False", _is_bool),
    ("a number, 0 or more, or None", _is_count),
    ("a list of numbers or None", _is_list),
    ("a configuration or None", _is_config),
)

FLAGS: Mapping[str, tuple[str, Check]] = {
    **dict.fromkeys(
        ("is_prefix_caching", "is_block_kv_layout", "is_chunked_prefill", "attn_block_tkg_nki_kernel_enabled",
         "attn_tkg_nki_kernel_enabled", "attn_tkg_builtin_kernel_enabled", "attn_block_tkg_nki_kernel_cache_update",
         "attn_block_tkg_nki_kernel_cascaded_attention", "qkv_kernel_enabled", "qkv_nki_kernel_enabled",
         "apply_seq_ids_mask", "kv_cache_quant", "flash_decoding_enabled", "k_cache_transposed", "kv_cache_tiling",
         "kv_cache_update_with_kernel", "is_continuous_batching", "enable_fused_speculation"),
        _FLAG,
    ),
    **dict.fromkeys(
        ("pa_num_blocks", "pa_block_size", "attention_dp_degree", "tp_degree", "tkg_batch_size", "sliding_window",
         "attention_chunk_size", "windowed_context_encoding_size"),
        _COUNT,
    ),
    "token_generation_batches": _LIST,
    "chunked_prefill_config": _CONFIG,
    "kv_quant_config": _CONFIG,
}  # fmt: skip
"""Every flag that is read: what its value must be, in words and as a check."""

_MODEL = ("sliding_window", "attention_chunk_size")
"""Flags of the model, which may stand in the model's own configuration."""


@dataclass(frozen=True)
class NeuronFlags:
    """The flags that an object has."""

    given: Mapping[str, Any]

    def is_on(self, name: str) -> Answer:
        """Whether a flag is True, a number above 0, a list with items or a configuration; None if it is unknown."""
        value = self.given.get(name, _ABSENT)
        if value is _ABSENT or (value is None and FLAGS[name] is _FLAG):
            return None
        return value is not None if FLAGS[name] is _CONFIG else bool(value)

    def number(self, name: str) -> int | None:
        """A number, or None if it is unknown or None."""
        found: int | None = self.given.get(name)
        return found

    def has_none(self, name: str) -> bool:
        """Whether the object has the flag, and it is None."""
        return self.given.get(name, _ABSENT) is None

    def divides(self, divisor: str, number: str) -> Answer:
        """Whether one number divides another; None if either is unknown."""
        by, of = self.number(divisor), self.number(number)
        return None if not by or of is None else of % by == 0


def any_of(*answers: Answer) -> Answer:
    """Three-valued or."""
    return True if True in answers else None if None in answers else False


def all_of(*answers: Answer) -> Answer:
    """Three-valued and."""
    return False if False in answers else None if None in answers else True


def negated(answer: Answer) -> Answer:
    """Three-valued not."""
    return None if answer is None else not answer


def read_flags(config: object) -> NeuronFlags:
    """The flags of a NeuronConfig, of an InferenceConfig around one, or of a mapping of the same form.

    Raises DeadkvError for a configuration with none of the flags, a value of the wrong type, or one flag at two places
    with two values.
    """
    given: dict[str, Any] = {}
    for place, holder, names in _holders(config):
        for name in names:
            _take(given, name, _look_up(holder, name), place)
    if not given:
        raise DeadkvError(
            f"expected a NeuronConfig or a mapping with its flags, got {type(config).__name__} without any of them "
            "(such as is_prefix_caching)"
        )
    return NeuronFlags(given)


def _take(given: dict[str, Any], name: str, value: Any, place: str) -> None:
    kind, is_valid = FLAGS[name]
    if value is _ABSENT:
        return
    if not is_valid(value):
        raise DeadkvError(f"neuron config: {place}{name} is {value!r}, which is not {kind}")
    known = given.get(name)
    if known is not None and value is not None and known != value:
        raise DeadkvError(f"neuron config: {name} is {known!r}, but {place}{name} is {value!r}: give one")
    given[name] = value if known is None else known


def _holders(config: object) -> Iterator[tuple[str, object, Collection[str]]]:
    """The objects that may hold flags, with their path, and the flags that each may hold."""
    for path, names in ((), FLAGS), (("neuron_config",), FLAGS), (("config",), _MODEL), (_NESTED, _MODEL):
        holder: object = config
        for name in path:
            holder = _look_up(holder, name)
        if holder is not _ABSENT and holder is not None:
            yield "".join(f"{name}." for name in path), holder, names


_NESTED = ("neuron_config", "config")


def _look_up(holder: object, name: str) -> Any:
    return holder.get(name, _ABSENT) if isinstance(holder, Mapping) else getattr(holder, name, _ABSENT)
