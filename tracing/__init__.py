"""Capture a model, run the passes on its graph, and hand the result to a compiler."""

from tracing.backend_wrapper import with_passes
from tracing.capture import capture
from tracing.pipeline import CompileResult, compile_tkg

__all__ = ["CompileResult", "capture", "compile_tkg", "with_passes"]
