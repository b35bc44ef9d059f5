"""Builds the C++ attention kernel and binds it: as an XLA FFI target and as a torch operator of the same schema."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.bench.benchmark import Skipped
from tracing.decoder.attention_reference import AttentionOperands

SOURCE = Path(__file__).with_name("attention_kernel.cc")
FFI_TARGET = "deadkv_bench_attention_block_tkg"
FLAGS = (
    "-std=c++17 -O3 -march=native -fno-math-errno -fno-trapping-math -fno-signed-zeros -fassociative-math "
    "-fPIC -shared -w"
).split()
READ = ("X", "rmsnorm_X_gamma", "W_qkv", "cos", "sin", "active_blocks_table", "K_cache", "V_cache", "attention_mask",
        "W_out")  # fmt: skip
"""The operands that the kernel reads, in the order in which it takes them; every other one is handed over unread."""

_SIZES = ("batch tokens hidden q_heads kv_heads head_dim block_tokens table_columns context_tokens").split()
_POINTERS = ("x gamma w_qkv cos sin table k_cache v_cache mask w_out x_out k_tkg v_tkg").split()


class _Call(ctypes.Structure):
    """`AttentionCall` of the C++ source."""

    _fields_ = (
        *((name, ctypes.c_int64) for name in _SIZES),
        ("epsilon", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in _POINTERS),
    )


def check_constants(constants: Mapping[str, Any]) -> None:
    """Refuses a call that asks for more than the kernel does: it has the norm of X, and no bias, QK norm or update."""
    unset = "bias_qkv rmsnorm_QK_pre_rope_W_Q bias_out softmax_scale k_scale v_scale".split()
    switches = {"rmsnorm_X_enabled": True, "rmsnorm_QK_pre_rope_enabled": False, "update_cache": False}
    for name, value in {**switches, **dict.fromkeys(unset)}.items():
        if constants.get(name) != value:
            raise NotImplementedError(f"the benchmark's kernel has no {name}={constants.get(name)!r}")


@cache
def library() -> ctypes.CDLL:
    """The kernel, compiled if the cache has none of this source, compiler, JAX and machine.

    Raises Skipped if there is no C++ compiler or no JAX, whose headers the kernel needs.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise Skipped("no C++ compiler (g++, or the one that CXX names) for the opaque attention kernel")
    try:
        import jax
    except ImportError:
        raise Skipped("jax is not installed: pip install 'deadkv[bench]'") from None
    built = _cache_folder() / f"attention_kernel-{_fingerprint(compiler)}.so"
    if not built.exists():
        _build([compiler, *FLAGS, f"-I{jax.ffi.include_dir()}", str(SOURCE)], built)
    return ctypes.CDLL(str(built))


def _cache_folder() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "deadkv" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _fingerprint(compiler: str) -> str:
    parts = [SOURCE.read_text(), compiler, *FLAGS, version("jaxlib"), platform.node(), platform.processor()]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _build(command: list[str], built: Path) -> None:
    """Compiles to a temporary file beside it and renames it, since several processes may do so at once."""
    with tempfile.TemporaryDirectory(dir=built.parent) as folder:
        made = Path(folder) / built.name
        done = subprocess.run([*command, "-o", str(made)], capture_output=True, text=True)
        if done.returncode:
            reason = next(iter(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
            raise Skipped(f"the opaque attention kernel does not compile: {reason}")
        made.replace(built)


@cache
def ffi_target() -> str:
    """Registers the kernel with XLA:CPU; returns the name that a custom call states."""
    import jax

    jax.ffi.register_ffi_target(FFI_TARGET, jax.ffi.pycapsule(library().attention_block_tkg_ffi), platform="cpu")
    return FFI_TARGET


def attend(**operands: Any) -> tuple[Tensor, Tensor, Tensor]:
    """X_out, K_tkg and V_tkg by the kernel, for float32 CPU tensors; operands as the operator's."""
    op = AttentionOperands(**operands)
    check_constants(vars(op))
    read = [vars(op)[name].contiguous() for name in READ]
    x, table, pool, mask = read[0], read[5], read[6], read[8]
    if {tensor.dtype for at, tensor in enumerate(read) if at not in (5, 8)} != {torch.float32}:
        raise NotImplementedError("the benchmark's kernel computes in float32 only")
    batch, tokens, hidden = x.shape
    results = (
        x.new_empty(batch * tokens, hidden),
        x.new_empty(op.head_dim, batch, op.kv_heads, tokens),
        x.new_empty(batch, op.kv_heads, tokens, op.head_dim),
    )
    sizes = (batch, tokens, hidden, op.q_heads, op.kv_heads, op.head_dim, pool.shape[1], table.shape[1], mask.shape[0])
    pointers = (tensor.data_ptr() for tensor in (*read, *results))
    library().attention_block_tkg(ctypes.byref(_Call(*sizes, op.rmsnorm_X_eps, *pointers)))
    return results
