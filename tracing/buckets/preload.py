"""What workers import sooner or later. The server that they are forked off imports it once, for all of them."""

import gc
from contextlib import suppress

import torch._dynamo

import tracing.buckets.worker

with suppress(Exception):  # without JAX, or with one that cannot be imported, a bucket that needs it says so
    import tracing.backends.hlo.artefacts

gc.freeze()  # what is imported stays: no collection, in a worker or at the end, is to go through it

__all__ = ["torch", "tracing"]
