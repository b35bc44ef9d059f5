"""What workers import sooner or later. The server that they are forked off imports it once, for all of them."""

from contextlib import suppress

import torch._dynamo

import tracing.buckets.worker

with suppress(Exception):  # without JAX, or with one that cannot be imported, a bucket that needs it says so
    import tracing.backends.hlo.artefacts

__all__ = ["torch", "tracing"]
