"""The submodels a decoder is traced as: each variant is a row of feature flags."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from passes.errors import DeadkvError


@dataclass(frozen=True)
class Variant:
    """Feature flags of one traced submodel; the defaults are token generation as NxDI traces it.

    phase: "tkg" generates one token a sequence, "cte" encodes a prompt.
    prefix: the block table is `[batch, blocks]` and names cached context; otherwise it is rank 1, "empty".
    block_tkg: attention is the op that reads pool and block table itself.
    source_edit: the model's source skips `get_cache` where block TKG runs (NxDI pull request 155).
    kernel_updates_cache: the attention op writes the new tokens into the pools, and no scatter follows.

    Raises DeadkvError for flags that contradict each other.
    """

    phase: Literal["tkg", "cte"] = "tkg"
    prefix: bool = True
    block_tkg: bool = True
    source_edit: bool = False
    kernel_updates_cache: bool = False

    def __post_init__(self) -> None:
        for flag, needed in _NEEDS:
            if getattr(self, flag) and not getattr(self, needed):
                raise DeadkvError(f"model variant: {flag} needs {needed}")

    @property
    def token_generation(self) -> bool:
        return self.phase == "tkg"

    @property
    def materializes_prefix(self) -> bool:
        """Whether the model calls `get_cache` before its layers."""
        return self.prefix and not (self.block_tkg and self.source_edit)

    @property
    def table_padding(self) -> int:
        """What unused block-table entries hold: in NxDI -1 for the block-TKG kernel, 0 otherwise."""
        return -1 if self.block_tkg else 0


_NEEDS = (
    ("source_edit", "block_tkg"),
    ("kernel_updates_cache", "block_tkg"),
    ("block_tkg", "token_generation"),
    ("token_generation", "prefix"),
)

VARIANTS: Mapping[str, Variant] = MappingProxyType(
    {
        "base": Variant(),
        "hand-edited": Variant(source_edit=True),
        "cache-update": Variant(kernel_updates_cache=True),
        "no-block-tkg": Variant(block_tkg=False),
        "cte-prefix": Variant(phase="cte", block_tkg=False),
        "cte": Variant(phase="cte", block_tkg=False, prefix=False),
    }
)


def resolve_variant(variant: str | Variant) -> Variant:
    """The flags of a variant's name, or the flags themselves. Raises DeadkvError for an unknown name."""
    if isinstance(variant, Variant):
        return variant
    if variant not in VARIANTS:
        raise DeadkvError(f"unknown model variant {variant!r}: choose one of {', '.join(VARIANTS)}")
    return VARIANTS[variant]
