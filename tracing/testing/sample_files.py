"""Samples from a file: JSON, which is only read, or a Python function of a file that the user names, which is run."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from passes.errors import DeadkvError
from tracing.testing.samples import Sample


def load_module(name: str) -> ModuleType:
    """Imports a module by its dotted name, from the current folder too, or by the path of a `.py` file.

    Raises DeadkvError if it cannot be found or raises.
    """
    try:
        if not name.endswith(".py"):
            return _import(name)
        path = Path(name)
        if not path.is_file():
            raise DeadkvError(f"cannot load {name}: there is no such file")
        return _run_file(path)
    except DeadkvError:
        raise
    except Exception as error:
        raise DeadkvError(f"cannot load {name}: {type(error).__name__}: {error}") from error


def _import(name: str) -> ModuleType:
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def _run_file(path: Path) -> ModuleType:
    known = sys.modules.get(path.stem)
    if known is not None and getattr(known, "__file__", None) == str(path.resolve()):
        return known
    spec = importlib.util.spec_from_file_location(path.stem, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module


def load_samples(spec: str) -> Sequence[Any]:
    """Samples of `FILE.json`, or those that `FILE.py:function` returns when it is called without arguments.

    The JSON is a list of calls. Each maps argument names to constants or to `{"shape": [2, 3], "dtype": "float32"}`,
    where "dtype" may be left out; floats are normal, and integers are uniform from "low" (0) up to, not including,
    "high" (2). The key "overload" names one of the operator's overloads.

    Raises DeadkvError, with the place, for a file that cannot be used.
    """
    path, separator, function = spec.rpartition(":")
    if separator and path.endswith(".py"):
        return _returned(load_module(path), path, function)
    if not spec.endswith(".json"):
        raise DeadkvError(f"samples {spec!r}: give FILE.json or FILE.py:function")
    try:
        calls = json.loads(Path(spec).read_text(encoding="utf-8"))
    except OSError as error:
        raise DeadkvError(f"cannot read {spec}: {error.strerror}") from error
    except ValueError as error:
        raise DeadkvError(f"{spec} is no JSON: {error}") from error
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise DeadkvError(f"{spec}: it must be a list of calls, each an object from argument name to value")
    generator = torch.Generator().manual_seed(0)
    return [_sample(call, f"{spec}: call {index}", generator) for index, call in enumerate(calls)]


def _returned(module: ModuleType, path: str, function: str) -> Sequence[Any]:
    found: Callable[[], Any] | None = getattr(module, function, None)
    if not callable(found):
        raise DeadkvError(f"{path} has no function {function!r}")
    try:
        samples = list(found())
    except Exception as error:
        raise DeadkvError(f"{path}:{function} raised {type(error).__name__}: {error}") from error
    if wrong := [sample for sample in samples if not isinstance(sample, (Sample, Mapping, tuple, list))]:
        raise DeadkvError(f"{path}:{function} must return a list of argument lists or dictionaries, not {wrong[0]!r}")
    return samples


def _sample(call: Mapping[str, Any], where: str, generator: torch.Generator) -> Sample:
    arguments = {
        name: _value(value, f"{where}, {name}", generator) for name, value in call.items() if name != "overload"
    }
    return Sample(arguments, call.get("overload"))


def _value(value: Any, where: str, generator: torch.Generator) -> Any:
    if isinstance(value, list):
        return [_value(item, where, generator) for item in value]
    return _tensor(value, where, generator) if isinstance(value, dict) else value


def _tensor(value: Mapping[str, Any], where: str, generator: torch.Generator) -> Tensor:
    shape, dtype = value.get("shape"), getattr(torch, str(value.get("dtype", "float32")), None)
    if unknown := [key for key in value if key not in ("shape", "dtype", "low", "high")]:
        raise DeadkvError(f"{where}: unknown key {unknown[0]!r}; a tensor has shape, dtype, low and high")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise DeadkvError(f"{where}: the shape must be a list of sizes, not {shape!r}")
    if not isinstance(dtype, torch.dtype):
        raise DeadkvError(f"{where}: {value['dtype']!r} is no torch dtype")
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(shape, generator=generator).to(dtype)
    low, high = value.get("low", 0), value.get("high", 2)
    if type(low) is not int or type(high) is not int or low >= high:
        raise DeadkvError(f"{where}: low and high must be integers, low below high, not {low!r} and {high!r}")
    return torch.randint(low, high, shape, generator=generator).to(dtype)
