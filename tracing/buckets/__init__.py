"""Many buckets in one command: worker processes, one folder a bucket, one report, equal artefacts stored once."""

from tracing.buckets.compile import BucketsResult, compile_buckets
from tracing.buckets.decoders import DecoderBuckets
from tracing.buckets.job import BucketModel, Outcome

__all__ = ["BucketModel", "BucketsResult", "DecoderBuckets", "Outcome", "compile_buckets"]
