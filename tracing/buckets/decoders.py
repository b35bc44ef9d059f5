"""The reference decoder for each bucket."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracing.buckets.job import BucketModel
from tracing.decoder import Decoder, build_decoder, load_safetensors_folder, random_weights
from tracing.execution import require_memory, require_whole


@dataclass(frozen=True)
class DecoderBuckets:
    """Builds a preset's decoder for a bucket: on meta, or with values if there are `weights` or a `seed` for them.

    Raises DeadkvError, when called, for what `build_decoder` refuses and for weights that do not fit.
    """

    model: str
    variant: str = "base"
    layers: int | None = None
    batch: int = 1
    weights: Path | None = None
    seed: int | None = None

    def decoder(self, bucket: int) -> Decoder:
        """The decoder of `bucket` tokens."""
        on_meta = self._build(bucket, "meta")
        if self.weights is None and self.seed is None:
            return on_meta
        require_whole(on_meta)
        require_memory(on_meta)
        decoder = self._build(bucket, "cpu")
        if self.weights is not None:
            load_safetensors_folder(decoder, self.weights)
        else:
            random_weights(decoder, self.seed or 0)
        return decoder

    def check(self, buckets: Sequence[int]) -> None:
        """Refuses, before any work is done, what could be built for none or only for some of `buckets`."""
        for bucket in buckets:
            self._build(bucket, "meta")

    def __call__(self, bucket: int) -> BucketModel:
        """The same with what `compile_tkg` takes beside it."""
        decoder = self.decoder(bucket)
        return BucketModel(decoder, decoder.example_inputs(), decoder.aliases())

    def _build(self, bucket: int, device: str) -> Decoder:
        return build_decoder(
            self.model, self.variant, layers=self.layers, batch=self.batch, bucket=bucket, device=device
        )
