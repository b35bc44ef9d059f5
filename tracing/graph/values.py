"""Constants of a document and the Python objects that they stand for."""

from __future__ import annotations

import cmath
from collections.abc import Callable, Mapping
from typing import Any

import torch

from passes.errors import DeadkvError
from tracing.graph.document import Const
from tracing.graph.escape import quoted, shortened


def _torch_constant(kind: type) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        found = vars(torch).get(text)
        if not isinstance(found, kind):
            raise ValueError(text)
        return found

    return read


def _none(text: str) -> None:
    if text != "None":
        raise ValueError(text)


def _bool(text: str) -> bool:
    return {"True": True, "False": False}[text]


def _ellipsis(text: str) -> Any:
    return {"...": ...}[text]


# kind -> (the class it stands for, its canonical text, the way back)
CONSTANTS: Mapping[str, tuple[type, Callable[[Any], str], Callable[[str], Any]]] = {
    "none": (type(None), str, _none),
    "bool": (bool, str, _bool),
    "int": (int, str, int),
    "float": (float, repr, float),
    "complex": (complex, str, complex),
    "str": (str, str, str),
    "ellipsis": (type(...), lambda _: "...", _ellipsis),
    "dtype": (torch.dtype, lambda v: str(v).removeprefix("torch."), _torch_constant(torch.dtype)),
    "layout": (torch.layout, lambda v: str(v).removeprefix("torch."), _torch_constant(torch.layout)),
    "memory_format": (
        torch.memory_format,
        lambda v: str(v).removeprefix("torch."),
        _torch_constant(torch.memory_format),
    ),
    "device": (torch.device, str, torch.device),
}


def constant(const: Const) -> Any:
    """The Python object of a constant of a kind in `CONSTANTS`; raises DeadkvError if the text is not one's text."""
    _, write, read = CONSTANTS[const.kind]
    try:
        value = read(const.text)
        canonical = write(value) == const.text
    except (ValueError, KeyError, RuntimeError, TypeError) as error:
        raise DeadkvError(f"{quoted(const.text)} is not a {const.kind} of torch {torch.__version__}") from error
    if not canonical:
        raise DeadkvError(f"{quoted(const.text)} is not how the {const.kind} {shortened(write(value))} is written")
    return value


def is_finite(const: Const) -> bool:
    """Whether a float or complex constant is neither infinite nor NaN."""
    return cmath.isfinite(complex(const.text))


def contiguous_stride(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """The stride of a dense row-major tensor, in elements; a dimension of size 0 counts as 1."""
    strides: list[Any] = []
    step: Any = 1
    for size in reversed(shape):
        strides.append(step)
        step = step * (1 if isinstance(size, int) and size == 0 else size)
    return tuple(reversed(strides))
