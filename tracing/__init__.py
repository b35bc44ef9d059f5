"""Capture a model, run the passes on its graph, and hand the result to a compiler."""

from tracing.collection import collection_paused

with collection_paused():  # what is imported stays, torch with it
    from tracing.buckets import BucketModel, BucketsResult, compile_buckets
    from tracing.capture import capture
    from tracing.integrations.dynamo import with_passes
    from tracing.pipeline import CompileResult, compile_tkg

__all__ = [
    "BucketModel",
    "BucketsResult",
    "CompileResult",
    "capture",
    "compile_buckets",
    "compile_tkg",
    "with_passes",
]
