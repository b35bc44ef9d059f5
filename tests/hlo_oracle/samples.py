"""Calls of the lowered overloads, as torch's OpInfo samples make them, recorded where they reach the dispatcher."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tests.support.lowering import Case
from tracing.backends.hlo.ops import LOWERINGS

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.int32, torch.int64, torch.bool)
_SAMPLES = 40
"""Most samples of one operator and dtype that are run: they repeat themselves."""
_ELEMENTS = 4096
"""Largest call that is compared: a lowering does not depend on sizes."""


def recorded_calls(dtype: torch.dtype, most: int) -> list[Case]:
    """Up to `most` different calls of each lowered overload, made by the samples of `dtype`."""
    recorder = _Recorder(most)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for run in _runs(dtype):
            _try(recorder, run)
    return list(recorder.calls.values())


def _runs(dtype: torch.dtype) -> Iterator[Any]:
    """The samples of each operator, as calls without arguments. Some generators refuse a dtype that they list."""
    for op in op_db:
        if dtype not in op.supported_dtypes("cpu"):
            continue
        try:
            for _, sample in zip(range(_SAMPLES), op.sample_inputs("cpu", dtype), strict=False):
                yield lambda op=op, sample=sample: op(sample.input, *sample.args, **sample.kwargs)
        except (RuntimeError, AssertionError, ValueError, TypeError):
            continue


def _try(recorder: _Recorder, run: Any) -> None:
    try:
        with torch.no_grad(), recorder:
            run()
    except Exception:
        return  # what torch refuses is no sample of what it computes


class _Recorder(TorchDispatchMode):
    def __init__(self, most: int) -> None:
        super().__init__()
        self.calls: dict[tuple[Any, str], Case] = {}
        self._most = most
        self._count: Counter[Any] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in LOWERINGS and self._count[func] < self._most and _can_be_lowered(args, kwargs):
            key = func, repr(pytree.tree_map(_described, (args, kwargs)))
            if key not in self.calls:
                self._count[func] += 1
                self.calls[key] = Case(func, *pytree.tree_map_only(Tensor, _copied, (args, kwargs or {})))
        return func(*args, **(kwargs or {}))


def _can_be_lowered(args: Any, kwargs: Any) -> bool:
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    return sum(tensor.numel() for tensor in tensors) <= _ELEMENTS and all(map(_is_plain, tensors))


def _is_plain(tensor: Tensor) -> bool:
    is_dense = tensor.layout is torch.strided and not tensor.is_quantized and not tensor.is_complex()
    return is_dense and type(tensor) in (Tensor, torch.nn.Parameter) and tensor.device.type == "cpu"


def _described(leaf: Any) -> Any:
    return (tuple(leaf.shape), leaf.dtype, leaf.stride()) if isinstance(leaf, Tensor) else (type(leaf), repr(leaf))


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()
