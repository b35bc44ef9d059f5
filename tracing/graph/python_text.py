"""A GraphModule as the text of a Python module that can be imported, built and called."""

from __future__ import annotations

import importlib
import re
import types
from collections.abc import Iterator, Mapping
from operator import attrgetter
from textwrap import indent
from typing import Any

from torch import Tensor
from torch.fx import GraphModule

_HEAD = '''"""{title}

Importing it runs nothing of the graph. `Graph()` has its parameters on the meta device, `Graph("cpu")` uninitialized
ones that `load_state_dict` fills.
"""

import torch
from math import inf, nan
{imports}
NoneType = type(None)


def _attach(root, name, value):
    *path, leaf = name.split(".")
    for part in path:
        if not hasattr(root, part):
            root.add_module(part, torch.nn.Module())
        root = getattr(root, part)
    setattr(root, leaf, value)


'''
_CLASS = """class {name}(torch.nn.Module):
    def __init__(self, device="meta"):
        super().__init__()
{attributes}
{forward}


"""
_GIVEN = ("torch", "inf", "nan", "NoneType")


def python_text(gm: GraphModule, title: str) -> str:
    """The module: a class `Graph`, and one before it for each nested graph. Types are annotations of each value.

    Functions that cannot be imported by name are None in it, so that calling them fails and importing does not.
    """
    names: dict[str, Any] = {}
    classes = "".join(_classes(gm, "Graph", names))
    imports = "".join(_import(name, names[name]) for name in sorted(names) if name not in _GIVEN)
    return (_HEAD.format(title=title, imports=imports) + classes).rstrip() + "\n"


def _classes(gm: GraphModule, name: str, names: dict[str, Any]) -> Iterator[str]:
    """The class of `gm`, after those of the graphs nested in it. `names` gathers what their code names."""
    nested: dict[str, str] = {}
    for path, found in _attributes(gm).items():
        if isinstance(found, GraphModule):
            nested[path] = re.sub(r"\W", "_", f"{name}_{path}", flags=re.ASCII)
            yield from _classes(found, nested[path], names)
    code = gm.graph.python_code("self", verbose=True)
    names.update(code.globals)
    attributes = "".join(_attribute(path, found, nested) for path, found in _attributes(gm).items())
    forward = indent(code.src.strip() + "\n", "    ", lambda line: bool(line.strip()))
    yield _CLASS.format(name=name, attributes=attributes, forward=forward.rstrip())


def _attributes(gm: GraphModule) -> dict[str, Any]:
    """What the graph's nodes read or call of the module, by path, in graph order."""
    paths = dict.fromkeys(str(n.target) for n in gm.graph.nodes if n.op in ("get_attr", "call_module"))
    return {path: attrgetter(path)(gm) for path in paths}


def _attribute(path: str, found: Any, nested: Mapping[str, str]) -> str:
    if path in nested:
        value = f"{nested[path]}(device)"
    elif isinstance(found, Tensor):
        empty = f"torch.empty({tuple(found.shape)}, dtype={found.dtype}, device=device)"
        value = f"torch.nn.Parameter({empty}, requires_grad=False)"
    else:
        return f"        # {path}: a {type(found).__qualname__}, which this text does not hold\n"
    return f"        _attach(self, {path!r}, {value})\n"


def _import(name: str, found: Any) -> str:
    if isinstance(found, types.ModuleType):
        return f"import {found.__name__} as {name}\n"
    module, qualified = getattr(found, "__module__", None), getattr(found, "__qualname__", "")
    if module is None or not qualified.isidentifier() or not _is_there(module, qualified):
        return f"{name} = None  # {type(found).__qualname__} {qualified!r} of {module}: not importable\n"
    return f"from {module} import {qualified} as {name}\n"


def _is_there(module: str, name: str) -> bool:
    return module != "__main__" and hasattr(importlib.import_module(module), name)
