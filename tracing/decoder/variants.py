"""The submodels a decoder is traced as: each variant is a row of feature flags."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from passes.errors import DeadkvError

MAX_ACTIVE_TOKENS = 8
"""Most active tokens that the block-TKG kernel takes (nki-library, attention_block_tkg.py)."""


@dataclass(frozen=True)
class Variant:
    """Feature flags of one traced submodel; the defaults are token generation as NxDI traces it.

    phase: "tkg" generates one token a sequence, "cte" encodes a prompt.
    prefix: the block table is `[batch, blocks]` and names cached context; otherwise it is rank 1, "empty".
    block_tkg: attention is the op that reads pool and block table itself.
    source_edit: the model's source skips `get_cache` where block TKG runs (NxDI pull request 155).
    kernel_updates_cache: the attention op writes the new tokens into the pools, and no scatter follows.
    seq_ids_mask: rows whose sequence id is negative are not written; the mask asks the prefix for its length.
    opaque_past: the attention op is handed the materialized prefix besides pools and block table.
    active_tokens: tokens that a sequence generates in one step; more than one under speculation.
    layout: how a pool is laid out, see `kv_layouts`; "flat" is one contiguous row for each sequence.
    quantized_cache: the pools hold float8, and a scale for each pool.
    sliding_window: tokens that a windowed layer sees, its own included; None for no such layer.
    full_attention_every: every n-th layer sees the whole prefix in spite of a window; None for no such layer.
    structure: how the layers stand in the graph: one after another ("inline"), between boundary markers ("marked"),
    as calls of one shared graph ("regional"), or as the body of a scan over stacked weights and pools ("scan").
    tensor_parallel: ranks that the decoder is split over; the submodel is one of them.
    fused_draft: a draft decoder in the same graph proposes the active tokens but the first.

    Raises DeadkvError for flags that contradict each other.
    """

    phase: Literal["tkg", "cte"] = "tkg"
    prefix: bool = True
    block_tkg: bool = True
    source_edit: bool = False
    kernel_updates_cache: bool = False
    seq_ids_mask: bool = False
    opaque_past: bool = False
    active_tokens: int = 1
    layout: Literal["block", "tiled", "chunked", "flat"] = "block"
    quantized_cache: bool = False
    sliding_window: int | None = None
    full_attention_every: int | None = None
    structure: Literal["inline", "marked", "regional", "scan"] = "inline"
    tensor_parallel: int = 1
    fused_draft: bool = False

    def __post_init__(self) -> None:
        for flag, needed in _NEEDS:
            if getattr(self, flag) and not any(getattr(self, name) for name in needed):
                raise DeadkvError(f"model variant: {flag} needs {' or '.join(needed)}")
        for flag, excluded in _EXCLUDES:
            if getattr(self, flag) and getattr(self, excluded):
                raise DeadkvError(f"model variant: {flag} excludes {excluded}")
        if not 1 <= self.active_tokens <= MAX_ACTIVE_TOKENS:
            raise DeadkvError(f"model variant: active_tokens is 1 to {MAX_ACTIVE_TOKENS}, not {self.active_tokens}")
        if self.tensor_parallel < 1:
            raise DeadkvError(f"model variant: tensor_parallel must be at least 1, not {self.tensor_parallel}")
        for count in ("sliding_window", "full_attention_every"):
            if getattr(self, count) is not None and getattr(self, count) < 1:
                raise DeadkvError(f"model variant: {count} must be at least 1, not {getattr(self, count)}")

    @property
    def token_generation(self) -> bool:
        return self.phase == "tkg"

    @property
    def speculation(self) -> bool:
        return self.active_tokens > 1

    @property
    def given_tokens(self) -> int:
        """Tokens of a sequence that a token-generation step is given."""
        return 1 if self.fused_draft else self.active_tokens

    @property
    def reads_cache(self) -> bool:
        """Whether the new tokens attend to cached ones."""
        return self.token_generation or self.prefix

    @property
    def flat_layout(self) -> bool:
        return self.layout == "flat"

    @property
    def block_layout(self) -> bool:
        """Whether a pool is `[blocks, block_size, kv_heads, head_dim]`, as the block-TKG kernel reads it."""
        return self.layout == "block"

    @property
    def marked(self) -> bool:
        return self.structure == "marked"

    @property
    def regional(self) -> bool:
        return self.structure == "regional"

    @property
    def scan(self) -> bool:
        return self.structure == "scan"

    @property
    def materializes_prefix(self) -> bool:
        """Whether the model calls `get_cache` before its layers, for some of them at least."""
        return self.materializes(layer=0)

    def materializes(self, layer: int) -> bool:
        """Whether the model gathers the prefix of a layer."""
        return self.prefix and not (self.source_edit and not self.windowed(layer))

    def windowed(self, layer: int) -> bool:
        """Whether a layer sees no more than the window: all do but every `full_attention_every`-th."""
        if self.sliding_window is None:
            return False
        return self.full_attention_every is None or (layer + 1) % self.full_attention_every != 0

    @property
    def table_padding(self) -> int:
        """What unused block-table entries hold: in NxDI -1 for the block-TKG kernel, 0 otherwise."""
        return -1 if self.block_tkg else 0


_NEEDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("source_edit", ("block_tkg",)),
    ("source_edit", ("prefix",)),
    ("kernel_updates_cache", ("block_tkg",)),
    ("kernel_updates_cache", ("block_layout",)),
    ("seq_ids_mask", ("kernel_updates_cache",)),
    ("opaque_past", ("block_tkg",)),
    ("opaque_past", ("prefix",)),
    ("block_tkg", ("token_generation",)),
    ("block_tkg", ("block_layout", "flat_layout")),
    ("speculation", ("token_generation",)),
    ("token_generation", ("prefix", "flat_layout")),
    ("quantized_cache", ("block_layout",)),
    ("full_attention_every", ("sliding_window",)),
    ("scan", ("block_layout",)),
    ("fused_draft", ("speculation",)),
    ("fused_draft", ("kernel_updates_cache",)),
)
_EXCLUDES = (
    ("flat_layout", "prefix"),
    ("marked", "flat_layout"),
    ("marked", "quantized_cache"),
    ("fused_draft", "seq_ids_mask"),
    # The layers of a region or a scan are one graph, which may not write its operands.
    ("regional", "full_attention_every"),
    ("regional", "kernel_updates_cache"),
    ("scan", "full_attention_every"),
    ("scan", "kernel_updates_cache"),
    ("scan", "quantized_cache"),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "base": Variant(),
        "hand-edited": Variant(source_edit=True),
        "cache-update": Variant(kernel_updates_cache=True),
        "no-block-tkg": Variant(block_tkg=False),
        "cte-prefix": Variant(phase="cte", block_tkg=False),
        "cte": Variant(phase="cte", block_tkg=False, prefix=False),
        "seq-id-mask": Variant(kernel_updates_cache=True, seq_ids_mask=True),
        "speculation": Variant(active_tokens=4),
        "tiled": Variant(block_tkg=False, layout="tiled"),
        "fp8": Variant(quantized_cache=True),
        "sliding-window": Variant(sliding_window=128, full_attention_every=2),
        "chunked-prefill": Variant(phase="cte", block_tkg=False, layout="chunked"),
        "flat-cache": Variant(prefix=False, layout="flat"),
        "opaque-past": Variant(opaque_past=True),
        "boundary-markers": Variant(structure="marked"),
        "regional": Variant(structure="regional"),
        "scan": Variant(structure="scan"),
        "fused-draft-target": Variant(kernel_updates_cache=True, active_tokens=4, fused_draft=True),
        "tensor-parallel": Variant(tensor_parallel=2),
    }
)


def resolve_variant(variant: str | Variant) -> Variant:
    """The flags of a variant's name, or the flags themselves. Raises DeadkvError for an unknown name."""
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise DeadkvError(f"unknown model variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]
